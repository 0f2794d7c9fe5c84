"""Names for the shell's completion.  Quick, and silent whatever goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

TIMEOUT_SECONDS = 1.0


def container_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The running containers whose names begin so, from the engines that ``--host`` names."""
    from click.shell_completion import CompletionItem

    names = _names(tuple(ctx.params.get("hosts") or ()))
    taken = ctx.params.get(param.name or "") or ()
    return [CompletionItem(n) for n in names if n.startswith(incomplete) and n not in taken]


def _names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return ()
