"""What was repaired and undone, as a list and one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from permdoctor.diagnosis.facts import HostUsers
from permdoctor.diagnosis.proposal import ChangedEntry, Past
from permdoctor.kernel.text import printable
from permdoctor.render.difference import difference
from permdoctor.render.layout import Line, Span, Style, columns, line, span
from permdoctor.render.plan import left, tree
from permdoctor.render.table import entries as number_of

STYLES: Final = {
    "done": Style.GOOD,
    "interrupted": Style.ERROR,
    "stopped": Style.WARNING,
    "applying": Style.INFO,
}

CHUNK: Final = 512


def table(past: Iterable[Past], *, width: int | None = None) -> list[Line]:
    """One line each, the newest last; stacked where the terminal is too narrow for columns."""
    rows = [_row(p) for p in past]
    if not rows:
        return [line("nothing was repaired here")]
    lines = columns(rows)
    if width is None or all(each.width <= width for each in lines):
        return list(lines)
    stacked = []
    for id_, time, status, what, count in rows:
        stacked += [
            line(id_, "  ", status, "  ", time),
            line(what, count, indent=2, gap="  "),
        ]
    return stacked


def one(of: Past) -> list[Line]:
    """Everything that its journal says, but for the entries."""
    return list(_one(of))


def entries(of: Iterable[ChangedEntry]) -> Iterator[list[Line]]:
    """A line for each entry, in chunks: there may be a million."""
    chunk: list[Line] = []
    for each in of:
        what = difference(each.before, each.after, HostUsers())
        mark = f"{each.mark or 'not known'}: "
        chunk.append(line(mark, printable(each.path), span(f"  {what}", Style.DIM), indent=2))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _row(of: Past) -> tuple[Span, ...]:
    return (
        span(printable(of.id), Style.STRONG),
        span(of.started),
        span(*_status(of)),
        span(_what(of)),
        span(_count(of)),
    )


def _status(of: Past) -> tuple[str, Style]:
    if of.damaged:
        return "damaged", Style.ERROR
    if of.undone_by:
        return f"{of.status}, undone", Style.DIM
    return of.status, STYLES.get(of.status, Style.PLAIN)


def _what(of: Past) -> str:
    if of.damaged:
        return of.damaged
    roots = ", ".join(printable(r) for r in of.roots)
    if of.act == "undo":
        return f"undo of {printable(of.of)}, {roots}"
    remedies = f" by {', '.join(map(printable, of.remedies))}" if of.remedies else ""
    whom = f" for {printable(of.container)}" if of.container else ""
    return f"{roots}{whom}{remedies}"


def _count(of: Past) -> str:
    if of.outcome is not None:
        return f"{of.outcome.applied:,} of {number_of(of.outcome.planned)}"
    return f"? of {number_of(of.summary.count)}" if of.summary is not None else ""


def _one(of: Past) -> Iterator[Line]:
    status, style = _status(of)
    name = span(f"{of.act} {printable(of.id)}: ", Style.STRONG)
    yield line(name, span(status, style))
    if of.damaged:
        yield line(span(of.damaged, Style.ERROR), indent=2)
        return
    facts = (
        ("started", f"{of.started} on {printable(of.host)}"),
        ("for", printable(of.container)),
        ("by", ", ".join(map(printable, of.remedies))),
        ("of", printable(of.of)),
        ("asked as", of.command),
        ("paused", ", ".join(map(printable, of.paused))),
        ("undone by", printable(of.undone_by)),
    )
    yield from columns([(span(k, Style.DIM), span(v)) for k, v in facts if v], indent=2)
    for each in of.summary.trees if of.summary is not None else ():
        yield from tree(each, HostUsers())
    if of.outcome is None:
        return
    yield line(f"changed: {of.outcome.applied:,} of {number_of(of.outcome.planned)}", indent=2)
    yield from left(of.outcome.left, "left alone,", 2)
    if of.outcome.stopped:
        yield line(span(f"stopped: {of.outcome.stopped}", Style.ERROR), indent=2)
