"""A repair for people: what would be changed, who gains and loses by it, and what came of it.

The plan is what is asked about, so nothing of it is left out: every kind of change, everything that
is skipped, and everybody who is stopped meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, assert_never

from msgspec.structs import replace

from permdoctor.diagnosis.choice import Choice, Chosen
from permdoctor.diagnosis.effects import Effect
from permdoctor.diagnosis.facts import HostUsers
from permdoctor.diagnosis.plan import Change, Left, Outcome, Reason, TreePlan
from permdoctor.diagnosis.proposal import Act, Checked, Proposal, Result
from permdoctor.diagnosis.report import Finding
from permdoctor.kernel.inode import FileType
from permdoctor.kernel.text import printable
from permdoctor.render.difference import difference
from permdoctor.render.layout import Line, Span, Style, columns, line, span
from permdoctor.render.table import entries, finding_headline, plural, skipped

REASONS: Final = {
    Reason.HARD_LINKS: "more than one link, and another may lie outside the tree",
    Reason.SET_ID: "set-id files; --set-id changes them, and they lose the bits",
    Reason.FILE_CAPS: "files with capabilities; --set-id changes them, and they lose these",
    Reason.SPECIAL: "FIFOs, sockets or devices",
    Reason.SYMLINK: "symlinks; --symlinks changes their owner",
    Reason.FLAGS: "immutable or append-only; chattr -i -a ends that",
    Reason.OTHER_MOUNT: "on another mount",
    Reason.LOST_FOUND: "lost+found is for fsck alone",
    Reason.FRESH: "being written just now; repair them when nobody writes",
    Reason.UNREADABLE: "cannot be read",
    Reason.TOO_LARGE: "their ACLs are too large",
    Reason.CHANGED: "changed since",
    Reason.GONE: "not there any more",
    Reason.RACED: "changed while they were repaired",
    Reason.FAILED: "the change failed",
    Reason.NOT_REACHED: "not reached",
    Reason.UNKNOWN: "nobody knows: whoever was at them does not answer",
}

NOUNS: Final = {
    FileType.DIRECTORY: ("directory", "directories"),
    FileType.REGULAR: ("file", "files"),
    FileType.SYMLINK: ("symlink", "symlinks"),
}


def proposal(of: Proposal, *, applies: bool = False) -> list[Line]:
    """One line where there is nothing to do, else the whole plan; and the line that applies it,
    unless it is to be applied now (``applies``).
    """
    if not of.has_work:
        return [_nothing(of)]
    lines = list(_plan(of))
    if of.is_empty or of.summary.stopped or applies:
        return lines
    lines.append(line("-> ", _to_apply(of.act), indent=2, hang=3))
    lines.append(line(span(of.command, Style.COMMAND), indent=5, verbatim=True))
    return lines


def result(of: Result, act: Act, *, unrepaired: int = 0) -> list[Line]:
    """What came of it, whether the problem is gone, and the way back.  ``unrepaired`` entries were
    skipped by the plan.
    """
    return list(_result(of, act, unrepaired))


def left(of: Iterable[Left], word: str, indent: int) -> Iterator[Line]:
    """What is left alone, and why: one line for each reason."""
    for each in of:
        detail = f" ({printable(each.detail)})" if each.detail else ""
        yield line(
            span(f"{word} {REASONS[each.reason]}{detail}", Style.WARNING),
            f": {some(each.count, each.samples)}",
            indent=indent,
        )


def some(count: int, samples: tuple[bytes, ...], nouns: tuple[str, str] | None = None) -> str:
    """``1 directory: .``, ``1,204 files, such as a, b, c``."""
    shown = ", ".join(printable(s) for s in samples)
    number = entries(count) if nouns is None else f"{count:,} {nouns[count != 1]}"
    if not shown:
        return number
    return f"{number}, such as {shown}" if count > len(samples) else f"{number}: {shown}"


def _nothing(of: Proposal) -> Line:
    match of.act:
        case Act.REPAIR:
            said = "nothing to repair"
            more = _names(of.choice.optional) if of.choice is not None else ""
            hint = f" (--remedy {more} would be possible)" if more else ""
        case Act.UNDO:
            said, hint = "everything is as it was before", ""
        case _:
            assert_never(of.act)
    return line(
        span(f"{printable(of.what)}: ", Style.STRONG),
        span(said, Style.GOOD),
        span(hint, Style.DIM),
    )


def _plan(of: Proposal) -> Iterator[Line]:
    yield _headline(of)
    if of.choice is not None:
        yield from _chosen(of.choice)
    for each in of.summary.trees:
        yield from tree(each, of.names)
    if of.summary.stopped:
        yield line(span(f"not complete: {of.summary.stopped}", Style.ERROR), indent=2)
    if of.already:
        yield line(f"{entries(of.already)} as before already", indent=2)
    yield from left(of.changed, "left alone,", 2)
    yield from _effects(of.effects)
    if of.choice is not None:
        yield from _not_repaired(of.choice)
    yield from _meanwhile(of)
    yield from skipped(of.skipped)


def _to_apply(act: Act) -> str:
    return "Apply it; it can be undone" if act is Act.REPAIR else "Do it; it can be undone itself"


def _headline(of: Proposal) -> Line:
    verb = "repair" if of.act is Act.REPAIR else "restore"
    count = of.summary.count
    said = f"{entries(count)} to {verb}" if count else f"nothing to {verb}"
    style = Style.WARNING if count else Style.PLAIN
    return line(span(f"{printable(of.what)}: ", Style.STRONG), span(said, style))


def _chosen(of: Choice) -> Iterator[Line]:
    for each in of.chosen:
        yield finding_headline(each.finding)
        yield line("-> ", each.remedy.title, f" ({each.remedy.name})", indent=4, hang=3)
        for by_hand in each.remedy.by_hand:
            yield line(span("and then, by hand:", Style.WARNING), indent=7)
            yield line(span(by_hand, Style.COMMAND), indent=7, verbatim=True)


def tree(of: TreePlan, names: HostUsers) -> Iterator[Line]:
    """What is done in one tree, and what is skipped there."""
    looked = entries(of.entries)
    if not of.changes:
        yield line(span(printable(of.path), Style.STRONG), f": none of {looked}", indent=2)
    else:
        changed = f": {of.count:,} of {looked}"
        yield line(span(printable(of.path), Style.STRONG), changed, indent=2)
    yield from columns([_change(c, names) for c in of.changes], indent=4)
    yield from left(of.left, "skipped,", 4)


def _change(of: Change, names: HostUsers) -> tuple[Span, ...]:
    drops = f", loses {' and '.join(of.drops)}" if of.drops else ""
    return (
        span(difference(of.before, of.after, names) + drops),
        span(some(of.count, of.samples, NOUNS.get(of.before.type)), Style.DIM),
    )


def _effects(of: Iterable[Effect]) -> Iterator[Line]:
    for each in of:
        parts: list[str | Span] = []
        if each.loses:
            parts.append(span(f"loses {_rights(each.loses)}", Style.ERROR))
        if each.gains:
            gains = span(f"gains {_rights(each.gains)}", Style.GOOD)
            parts += [", ", gains] if parts else [gains]
        place = each.path if each.samples == (b".",) else b""
        where = printable(place) if place else some(each.count, each.samples)
        yield line(f"{printable(each.who)} ", *parts, f" on {where}", indent=2)


def _rights(of: Iterable[str]) -> str:
    return ", ".join(str(r) for r in of)


def _not_repaired(of: Choice) -> Iterator[Line]:
    for each in of.left:
        yield finding_headline(each.finding)
        hint = f" ({each.hint})" if each.hint else ""
        yield line(span(f"not repaired: {each.reason}{hint}", Style.WARNING), indent=4)
    if of.optional:
        said = f"also possible: --remedy {_names(of.optional)}"
        yield line(span(said, Style.DIM), indent=2)


def _names(of: Iterable[Chosen]) -> str:
    return ", ".join(dict.fromkeys(c.remedy.name for c in of))


def _meanwhile(of: Proposal) -> Iterator[Line]:
    if of.is_empty:
        return
    if of.live:
        yield line(span(f"nobody is paused: {of.live}", Style.WARNING), indent=2)
    elif of.pauses:
        names = ", ".join(printable(p) for p in of.pauses)
        yield line(f"paused meanwhile: {names}", indent=2)


def _result(of: Result, act: Act, unrepaired: int) -> Iterator[Line]:
    yield _done(of.outcome, act)
    if unrepaired:
        said = f"skipped, as the plan says: {entries(unrepaired)}"
        yield line(span(said, Style.WARNING), indent=2)
    yield from left(of.outcome.left, "left alone,", 2)
    if of.resumed:
        names = ", ".join(printable(p) for p in of.resumed)
        yield line(f"resumed: {names}", indent=2)
    for each in of.stuck:
        said = f"STILL PAUSED: {each.what}: {each.reason} ({each.hint})"
        yield line(span(said, Style.ERROR), indent=2)
    match act:
        case Act.REPAIR:
            yield from _judged_again(of)
        case Act.UNDO:
            for other in of.others:
                yield from _back_again(other)
        case _:
            assert_never(act)
    if of.outcome.applied:
        yield line("-> ", "Take it back", indent=2, hang=3)
        yield line(span(f"permdoctor undo {of.id}", Style.COMMAND), indent=5, verbatim=True)


def _done(of: Outcome, act: Act) -> Line:
    verb = "repaired" if act is Act.REPAIR else "restored"
    style = Style.GOOD if of.complete else Style.WARNING
    parts: list[str | Span] = [
        span(f"{verb}: ", Style.STRONG),
        span(f"{of.applied:,} of {entries(of.planned)}", style),
    ]
    if of.already:
        parts.append(f", {of.already:,} were so already")
    if of.stopped:
        parts.append(span(f"; stopped: {of.stopped}", Style.ERROR))
    return line(*parts)


def _judged_again(of: Result) -> Iterator[Line]:
    """Whether the problem is gone, and nobody has a new one."""
    if of.target is not None:
        yield from _target(of.target)
    for other in of.others:
        if other.failed:
            yield _not_checked(other)
        elif other.new:
            yield _about(other, span(plural(len(other.new), "new problem"), Style.ERROR))
            yield from _listed(other.new)
        else:
            better = f", {plural(len(other.solved), 'problem')} less" if other.solved else ""
            yield _about(other, f"checked again: as before{better}")


def _target(of: Checked) -> Iterator[Line]:
    if of.failed:
        yield _not_checked(of)
        return
    if of.remaining:
        yield _about(of, span("checked again: the problem is not gone", Style.ERROR))
        yield from _listed(of.remaining)
    elif of.solved:
        yield _about(of, span("checked again: the problem is gone", Style.GOOD))
    else:
        yield _about(of, "checked again: as before")
    if of.new:
        yield _about(of, span("found now; repair it again:", Style.WARNING))
        yield from _listed(of.new)


def _back_again(of: Checked) -> Iterator[Line]:
    """After an undo: what the repair had solved is refused again, and is meant to be."""
    if of.failed:
        yield _not_checked(of)
    elif of.new:
        yield _about(of, f"{plural(len(of.new), 'problem')} as before the repair:")
        yield from _listed(of.new)
    else:
        yield _about(of, "checked again: as it was with the repair")


def _listed(of: Iterable[Finding]) -> Iterator[Line]:
    return (replace(finding_headline(f), indent=4) for f in of)


def _about(of: Checked, said: str | Span) -> Line:
    return line(span(f"{printable(of.who)}: ", Style.STRONG), said, indent=2)


def _not_checked(of: Checked) -> Line:
    return _about(of, span(f"could not be checked again: {of.failed}", Style.WARNING))
