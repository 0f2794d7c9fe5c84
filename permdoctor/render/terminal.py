"""Lines for a terminal: wrapped to its width, in its colours.  The only importer of rich here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from permdoctor.render.layout import Line, Style

COLORS: Final = {
    Style.PLAIN: "",
    Style.STRONG: "bold",
    Style.DIM: "dim",
    Style.GOOD: "green",
    Style.ERROR: "bold red",
    Style.WARNING: "yellow",
    Style.INFO: "cyan",
    Style.COMMAND: "bold",
}

LEAST_TEXT: Final = 12
"""Where the indent leaves fewer cells than this, it gives way."""

HANG: Final = 2
"""Of a line whose last column would get less than half of the width."""


def styled(lines: Iterable[Line], *, width: int, color: bool) -> str:
    """The text, with SGR sequences if ``color``; no other control character but line feeds."""
    console = Console(
        width=width,
        force_terminal=True,
        color_system="standard" if color else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as capture:
        for line in lines:
            _print(console, line, width)
    return capture.get()


def _print(console: Console, line: Line, width: int) -> None:
    text = Text()
    for span in line.spans:
        text.append(span.text, style=COLORS[span.style])
    if line.verbatim or line.width <= width:
        text.rstrip()
        console.print(Text(" " * line.indent) + text, soft_wrap=True)
        return
    indent = min(line.indent, max(0, width - LEAST_TEXT))
    hang = line.hang if width - indent - line.hang >= width // 2 else HANG
    hang = min(hang, max(0, width - LEAST_TEXT - indent))
    wrapped = text.wrap(console, width - indent - hang, overflow="fold")
    for i, each in enumerate(wrapped):
        each.rstrip()
        console.print(Text(" " * (indent + (hang if i else 0))) + each, soft_wrap=True)
