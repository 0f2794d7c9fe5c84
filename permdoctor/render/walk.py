"""``permdoctor explain``: one path, in the manner of ``namei -l``, with each decision beside it.

One line a component: type and mode, owner, group, where it is, and what search on it came to for
the subject.  Then what the subject may do to the object, each with the rule that decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.explanation import ExplainedOperation, Explanation
from permdoctor.kernel.inode import S_ISGID, S_ISUID, S_ISVTX, FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Step, Verdict
from permdoctor.kernel.walk import Hop
from permdoctor.render.layout import BLANK, Line, Span, Style, columns, line, span
from permdoctor.render.names import Names, names_of, who_in_full
from permdoctor.render.steps import reason
from permdoctor.render.table import probes, skipped

_TYPES: Final = {
    FileType.FIFO: "p",
    FileType.CHARDEV: "c",
    FileType.DIRECTORY: "d",
    FileType.BLOCKDEV: "b",
    FileType.REGULAR: "-",
    FileType.SYMLINK: "l",
    FileType.SOCKET: "s",
}


def explanation(of: Explanation, *, width: int | None = None) -> list[Line]:
    """The whole text.  ``width`` is the terminal's, ``None`` for a pipe."""
    where = f"{printable(of.path)} in {printable(of.container.name)}"
    lines = [line(span(where, Style.STRONG))]
    if of.host_path is not None:
        lines.append(line(f"on the host: {printable(of.host_path)}", indent=2))
    if of.basis is Basis.PREDICTED:
        lines.append(line("nothing runs: predicted from configuration", indent=2))
    for index, subject in enumerate(of.subjects):
        lines.append(BLANK)
        lines += _subject(of, index, subject, width)
    if of.probes or of.skipped:
        lines.append(BLANK)
    lines += probes(of.probes, of.subjects, verbose=True)
    lines += skipped(of.skipped)
    return lines


def mode_string(inode: Inode) -> str:
    """As ``ls -l`` writes it, with ``+`` for an ACL that says more than the mode."""
    text = list(_TYPES[inode.type])
    special = ((S_ISUID, 6, "s"), (S_ISGID, 3, "s"), (S_ISVTX, 0, "t"))
    for bit, shift, letter in special:
        bits = inode.mode >> shift
        last = "x" if bits & 1 else "-"
        if inode.mode & bit:
            last = letter if bits & 1 else letter.upper()
        text += ["r" if bits & 4 else "-", "w" if bits & 2 else "-", last]
    if inode.acl is not None and inode.acl.is_extended:
        text.append("+")
    return "".join(text)


def _subject(of: Explanation, index: int, subject: Subject, width: int | None) -> Iterator[Line]:
    names = names_of(subject, of.subjects)
    yield line("as ", who_in_full(subject), hang=3)
    verdict = of.walks[index] if index < len(of.walks) else None
    rows = _rows(of, subject, names, verdict)
    lines = columns(rows, indent=2)
    if width is None or all(each.width <= width for each in lines):
        yield from lines
    else:
        for mode, owner, group, where, decision in rows:
            yield line(mode, owner, group, indent=2, gap=" ")
            yield line(where, indent=4)
            yield line(decision, indent=6, hang=0)
    mine = [o for o in of.operations if o.subject == index]
    if mine:
        yield from columns([_operation(o, of, subject, names) for o in mine], indent=2)


def _rows(
    of: Explanation, subject: Subject, names: Names, verdict: Verdict | None
) -> list[tuple[Span, ...]]:
    """One row for each component up to the one that refused."""
    rows: list[tuple[Span, ...]] = []
    before: Mount | None = None
    for i, hop in enumerate(of.hops):
        inode = hop.inode
        steps = _steps(verdict, str(i))
        last = hop is of.hops[-1] and of.missing is None and hop.link is None
        decision, style = _decision(hop, steps, verdict, subject, names, last)
        where = printable(hop.path) + (f" -> {printable(hop.link)}" if hop.link else "")
        mount = "" if hop.mount == before else f"  [{_mount(hop.mount)}]"
        before = hop.mount
        rows.append(
            (
                span(mode_string(inode)),
                span(names.user_column(inode.uid)),
                span(names.group_column(inode.gid)),
                span(where + mount, Style.STRONG),
                span(decision, style),
            )
        )
        if style is Style.ERROR:
            return rows
    if of.missing is not None:
        missing = printable(of.missing)
        empty = span("-")
        rows.append((span("?"), empty, empty, span(missing), span("does not exist", Style.ERROR)))
    return rows


def _steps(verdict: Verdict | None, about: str) -> tuple[Step, ...]:
    return () if verdict is None else tuple(s for s in verdict.steps if s.about == about)


def _decision(
    hop: Hop,
    steps: tuple[Step, ...],
    verdict: Verdict | None,
    subject: Subject,
    names: Names,
    last: bool,
) -> tuple[str, Style]:
    """What was decided at one component.  The last step of a refused walk is the refusal."""
    if not steps:
        return ("followed" if hop.link is not None else "the object" if last else ""), Style.DIM
    refused = (
        verdict is not None and not verdict.allowed and verdict.steps[-1].about == steps[-1].about
    )
    errno = verdict.errno if verdict is not None and refused else None
    text = reason(Verdict(errno=errno, steps=steps), subject, names, hop.inode)
    if errno is None:
        return text, Style.DIM
    return f"{errno.name}: {text}", Style.ERROR


def _never_reached(
    operation: ExplainedOperation, walked: Verdict, hops: tuple[Hop, ...]
) -> tuple[Span, ...]:
    """What the process gets is then the walk's errno, whatever the object would allow."""
    assert walked.errno is not None
    hop = _about(walked.deciding, hops)
    where = f" at {printable(hop.path)}" if hop is not None else ""
    errno = span(walked.errno.name, Style.ERROR)
    return span(operation.want), errno, span(f"the walk ends{where}", Style.DIM)


def _about(step: Step | None, hops: tuple[Hop, ...]) -> Hop | None:
    """The hop that a step of an operation was about."""
    if step is None or not step.about.isdigit() or int(step.about) >= len(hops):
        return None
    return hops[int(step.about)]


def _mount(mount: Mount) -> str:
    words = [printable(mount.sb.fstype)]
    flags = (
        ("ro", mount.read_only),
        ("ro filesystem", mount.sb.read_only),
        ("noexec", mount.noexec),
        ("idmapped", mount.idmap is not None or mount.idmap_unknown),
    )
    return ", ".join(words + [word for word, holds in flags if holds])


def _operation(
    operation: ExplainedOperation, of: Explanation, subject: Subject, names: Names
) -> tuple[Span, ...]:
    walked = of.walks[operation.subject]
    if not walked.allowed:
        return _never_reached(operation, walked, of.hops)
    verdict = operation.verdict
    hop = _about(verdict.deciding, of.hops)
    text = reason(verdict, subject, names, hop.inode if hop is not None else None)
    if hop is not None and (hop is not of.hops[-1] or of.missing is not None):
        text = f"{printable(hop.path)}: {text}"
    if verdict.errno is None:
        return span(operation.want), span("allowed", Style.GOOD), span(text)
    return span(operation.want), span(verdict.errno.name, Style.ERROR), span(text)
