"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import os
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


def config_option(command: F) -> F:
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        help="Configuration to read instead of $PERMDOCTOR_CONFIG or /etc/permdoctor/config.toml.",
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
    from permdoctor.config import load

    return load(file, os.environ)


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


def absolute_path(value: str) -> bytes:
    """A path of the container as bytes."""
    if not value.startswith("/"):
        raise click.UsageError(f"{value!r} is not an absolute path")
    return os.fsencode(value)
