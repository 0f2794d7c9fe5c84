"""Lines of styled spans: what the text formats have in common, before a terminal is known.

A span never holds a control character, whatever it was made of: this is the last place that
every text passes on its way to a person.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from permdoctor.kernel.text import clean


class Style(StrEnum):
    """What a span is, not how it looks; ``terminal.py`` knows the colours."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    COMMAND = "command"


class Span(Struct, frozen=True):
    """Text of one style, on one line."""

    text: str
    style: Style = Style.PLAIN

    @property
    def width(self) -> int:
        """Terminal cells."""
        return cells(self.text)


class Line(Struct, frozen=True, kw_only=True):
    """``indent`` cells before it, ``hang`` more before its continuations.

    ``verbatim`` lines (commands, to be copied) are never broken.
    """

    spans: tuple[Span, ...] = ()
    indent: int = 0
    hang: int = 2
    verbatim: bool = False

    @property
    def width(self) -> int:
        return self.indent + sum(s.width for s in self.spans)

    @property
    def text(self) -> str:
        return " " * self.indent + "".join(s.text for s in self.spans).rstrip()


BLANK = Line()


def span(text: str, style: Style = Style.PLAIN) -> Span:
    """A span of text that may hold anything; a line break becomes visible too."""
    return Span(one_line(text), style)


def one_line(text: str) -> str:
    """Text without control characters, line breaks among them."""
    return clean(text).replace("\n", "\\x0a")


def line(
    *parts: str | Span, indent: int = 0, hang: int = 2, verbatim: bool = False, gap: str = ""
) -> Line:
    """A line of parts; plain strings become plain spans, empty parts vanish."""
    spans: list[Span] = []
    for part in parts:
        made = part if isinstance(part, Span) else span(part)
        if not made.text:
            continue
        if spans and gap:
            spans.append(Span(gap))
        spans.append(made)
    return Line(spans=tuple(spans), indent=indent, hang=hang, verbatim=verbatim)


def columns(rows: Sequence[Sequence[Span]], indent: int = 0, gap: int = 2) -> tuple[Line, ...]:
    """Rows as lines with aligned columns.  The last column is not padded."""
    widths: list[int] = []
    for row in rows:
        widths += [0] * (len(row) - len(widths))
        for i, cell in enumerate(row[:-1]):
            widths[i] = max(widths[i], cell.width)
    lines = []
    for row in rows:
        spans: list[Span] = []
        for i, cell in enumerate(row[:-1]):
            spans += [cell, Span(" " * (widths[i] - cell.width + gap))]
        hang = sum(s.width for s in spans)
        lines.append(Line(spans=(*spans, *row[-1:]), indent=indent, hang=hang))
    return tuple(lines)


def plain(lines: Iterable[Line]) -> str:
    """Text for a pipe or a file: no colours, nothing wrapped."""
    return "".join(f"{each.text}\n" for each in lines)


def cells(text: str) -> int:
    """How many cells a terminal gives the text (combining marks 0, wide characters 2)."""
    if text.isascii():
        return len(text)
    return sum(_cell(c) for c in text)


def _cell(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
