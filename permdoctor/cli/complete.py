"""Names for the shell's completion.  Quick, and silent whatever goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
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
    names = _names(tuple(ctx.params.get("hosts") or ()))
    return [CompletionItem(n) for n in names if n.startswith(incomplete) and n not in taken]


def container_then_path(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """As :func:`container_names`, for the first word only: paths of a container are not read."""
    if ctx.params.get(param.name or "") or ctx.params.get("pid"):
        return []
    return container_names(ctx, param, incomplete)


def _names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    from permdoctor.app.engines import connected
    from permdoctor.config import load
    from permdoctor.kernel.text import printable

    try:
        with _patience(), connected(hosts, load(None, os.environ).engines.hosts) as engines:
            names = tuple(s.name for engine in engines for s in engine.list())
    except (PermdoctorError, _TooLateError, OSError):
        return ()
    return tuple(n for n in names if n == printable(n) and " " not in n)


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
