"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from permdoctor.config import Config
    from permdoctor.container.needs import Need
    from permdoctor.diagnosis.report import Severity

F = TypeVar("F", bound=Callable[..., Any])

SEVERITIES = ("error", "warning", "info")
NEEDS = ("none", "read", "write", "own")
FORMATS = ("table", "json", "explain")

NOTHING_FOUND = 0
FINDINGS = 1
COULD_NOT = 3


def config_option(command: F) -> F:
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        help="Configuration: a file or directory; else $PERMDOCTOR_CONFIG or /etc/permdoctor.",
    )(command)


def host_option(command: F) -> F:
    return click.option(
        "--host",
        "-H",
        "hosts",
        multiple=True,
        metavar="ENDPOINT",
        help="Engine to ask, as docker --host takes it; may be repeated.  "
        "Default: the one that the docker CLI would find.",
    )(command)


def probe_option(command: F) -> F:
    return click.option(
        "--probe",
        is_flag=True,
        help="Prove the verdict: a child with the process's credentials asks the kernel, "
        "without side effects.  Needs root.",
    )(command)


def yes_option(command: F) -> F:
    return click.option("--yes", "-y", is_flag=True, help="Do not ask; for scripts.")(command)


def live_option(command: F) -> F:
    return click.option(
        "--live",
        is_flag=True,
        help="Do not pause the containers that can write there.  Only where repair.live says so.",
    )(command)


def format_option(*formats: str) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        return click.option(
            "--format",
            "form",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="json has a versioned schema; the others are for people.",
        )(command)

    return decorate


def load_config(file: str | None) -> Config:
    """The configuration; with it, what an interrupted repair left behind is taken care of."""
    from permdoctor.cli.leftover import tell_interrupted
    from permdoctor.config import load

    config = load(file, os.environ)
    tell_interrupted(config)
    return config


def severity(name: str) -> Severity:
    from permdoctor.diagnosis.report import Severity

    return Severity[name.upper()]


def parse_needs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[bytes, Need], ...]:
    """A callback for ``PATH=NEED``: absolute paths of the container, and what is needed there."""
    from permdoctor.container.needs import Need

    needs = []
    for value in values:
        path, equals, need = value.rpartition("=")
        if not equals or not path.startswith("/"):
            raise click.BadParameter(f"{value!r} is not /PATH=NEED", ctx, param)
        if need not in NEEDS:
            raise click.BadParameter(f"{need!r} is none of {', '.join(NEEDS)}", ctx, param)
        needs.append((os.fsencode(path), Need(need)))
    return tuple(needs)


def parse_owner(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int | None, int | None] | None:
    """A callback for ``UID:GID`` of the host: ``1001``, ``1001:1001``, ``:1001``."""
    if value is None:
        return None
    words = value.split(":")
    if len(words) > 2 or not any(words) or not all(_is_id(w) for w in words if w):
        raise click.BadParameter(
            f"{value!r} is none of UID, UID:GID and :GID, in numbers of the host", ctx, param
        )
    uid, gid = (*(int(w) if w else None for w in words), None)[:2]
    return uid, gid


def _is_id(text: str) -> bool:
    """chown(2): -1 is none."""
    return text.isascii() and text.isdigit() and int(text) < 2**32 - 1


def need_an_answer(*, apply: bool, yes: bool, form: str) -> None:
    """Who changes something is asked, and must be there to answer."""
    if not apply or yes:
        return
    if form == "json":
        raise click.UsageError("--format json asks nobody: add --yes")
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: add --yes")


def host_path(value: str) -> bytes:
    """A path of the host as bytes, from the working directory on; symlinks are not looked at."""
    if not value:
        raise click.UsageError("an empty path names nothing")
    return os.path.abspath(os.fsencode(value))


def absolute_path(value: str) -> bytes:
    """A path of the container as bytes."""
    if not value.startswith("/"):
        raise click.UsageError(f"{value!r} is not an absolute path")
    return os.fsencode(value)
