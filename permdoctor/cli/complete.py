"""Names for the shell's completion.  Quick, and silent whatever goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from permdoctor.errors import PermdoctorError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PATIENCE_SECONDS = 1.0
"""Who presses TAB does not wait longer."""


class _TooLateError(Exception):
    """The engine has not answered in time."""


def container_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The running containers whose names begin so; each is offered once."""
    from click.shell_completion import CompletionItem

    taken = ctx.params.get(param.name or "") or ()
    names = _names(_hosts(ctx))
    return [CompletionItem(n) for n in names if n.startswith(incomplete) and n not in taken]


def container_then_path(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """As :func:`container_names`, for the first word only: paths of a container are not read."""
    if ctx.params.get(param.name or "") or ctx.params.get("pid"):
        return []
    return container_names(ctx, param, incomplete)


def mount_targets(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Where the container that was named has its mounts."""
    return _items(_targets(_named(ctx), _hosts(ctx)), incomplete)


def remedy_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The remedies for the container that was named, of those that ``fix`` can carry out."""
    return _items(_remedies(_named(ctx), _hosts(ctx)), incomplete)


def codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Findings, with what they are about."""
    from click.shell_completion import CompletionItem

    from permdoctor.diagnosis.codes import CODES

    wanted = incomplete.upper()
    return [CompletionItem(c.code, help=c.title) for c in CODES.values() if wanted in c.code]


def sinks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of the configuration."""
    from permdoctor.config import load

    try:
        config = load(ctx.params.get("config_file"), os.environ)
    except PermdoctorError:
        return []
    return _items([s.name for s in config.alerts.sinks], incomplete)


def repair_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Repairs of the history, the newest first.  Only root has any."""
    from permdoctor.config import load
    from permdoctor.repair.store import Store

    try:
        with _patience():
            records = Store(load(None, os.environ).repair.state).records()
    except (PermdoctorError, _TooLateError, OSError):
        return []
    return _items([r.id for r in reversed(records)], incomplete)


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(w) for w in words if w.startswith(incomplete)]


def _hosts(ctx: click.Context) -> tuple[str, ...]:
    return tuple(ctx.params.get("hosts") or ())


def _named(ctx: click.Context) -> str | None:
    """The container on the line.  While the value of an option is completed, click has not come to
    the arguments yet.
    """
    name = ctx.params.get("name") or next(iter(ctx.args), None)
    return name if isinstance(name, str) else None


def _targets(name: str | None, hosts: tuple[str, ...]) -> tuple[str, ...]:
    from permdoctor.app.engines import connected, find
    from permdoctor.config import load

    if name is None:
        return ()
    try:
        with _patience(), connected(hosts, load(None, os.environ).engines.hosts) as engines:
            _, container = find(engines, name)
    except (PermdoctorError, _TooLateError, OSError):
        return ()
    return _typeable(os.fsdecode(m.target) for m in container.mounts)


def _remedies(name: str | None, hosts: tuple[str, ...]) -> tuple[str, ...]:
    from msgspec.structs import replace

    from permdoctor.app.check import CheckRequest, check
    from permdoctor.config import Check, load

    if name is None:
        return ()
    hurry = Check(budget_seconds=PATIENCE_SECONDS / 4, deadline_seconds=PATIENCE_SECONDS / 2)
    try:
        with _patience():
            config = replace(load(None, os.environ), check=hurry)
            reports = check(CheckRequest(names=(name,), hosts=hosts, config=config)).reports
    except (PermdoctorError, _TooLateError, OSError):
        return ()
    remedies = (m for r in reports for f in r.findings for m in f.remedies if m.recipes)
    return tuple(dict.fromkeys(m.name for m in remedies))


def _typeable(names: Iterable[str]) -> tuple[str, ...]:
    """Names that a shell takes as they are shown."""
    from permdoctor.kernel.text import printable

    return tuple(n for n in names if n == printable(n) and " " not in n)


def _names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    from permdoctor.app.engines import connected
    from permdoctor.config import load

    try:
        with _patience(), connected(hosts, load(None, os.environ).engines.hosts) as engines:
            names = tuple(s.name for engine in engines for s in engine.list())
    except (PermdoctorError, _TooLateError, OSError):
        return ()
    return _typeable(names)


@contextmanager
def _patience() -> Iterator[None]:
    """Raise ``_TooLateError`` in the body when the time is up."""

    def late(_number: int, _frame: object) -> None:
        raise _TooLateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
