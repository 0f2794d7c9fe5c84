"""One compact block for each container; one line for a healthy one.

A block says who, which mounts, what is wrong with the reason and the best remedy.  Informations
and what is ignored are counted, and shown when asked for.  What could not be read is never left
out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.report import (
    CheckResult,
    Finding,
    MountReport,
    ProbeResult,
    Remedy,
    Report,
    Severity,
    Skipped,
)
from permdoctor.kernel.text import printable
from permdoctor.render.layout import BLANK, Line, Span, Style, columns, line, span
from permdoctor.render.names import names_of, who, who_in_full
from permdoctor.render.steps import reason

STYLES: Final = {
    Severity.ERROR: Style.ERROR,
    Severity.WARNING: Style.WARNING,
    Severity.INFO: Style.INFO,
}

PLACES: Final = {
    "container": "where the container is made:",
    "run": "as options of docker run:",
    "compose": "in the Compose file:",
    "dockerfile": "in the Dockerfile:",
}
"""What is said before commands that are not for the host's shell."""

SHOWN_PROCESSES: Final = 3


def table(result: CheckResult, *, verbose: bool = False, width: int | None = None) -> list[Line]:
    """``width`` is the terminal's, ``None`` for a pipe (nothing is stacked or wrapped then)."""
    lines: list[Line] = []
    twins = twins_in(result)
    for report in result.reports:
        block = list(_block(report, called(report, twins), verbose, width))
        if lines and (len(block) > 1 or (lines[-1] is not BLANK and lines[-1].indent)):
            lines.append(BLANK)
        lines += block
    return lines


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number:,} entries"


def twins_in(result: CheckResult) -> frozenset[str]:
    """Names that containers of several engines have."""
    places = {(r.container.name, r.container.engine.endpoint) for r in result.reports}
    names = [name for name, _ in places]
    return frozenset(name for name in names if names.count(name) > 1)


def called(report: Report, twins: frozenset[str]) -> str:
    """Its name, and its engine where that is not enough."""
    container = report.container
    on = f" on {printable(container.engine.endpoint)}" if container.name in twins else ""
    return f"{printable(container.name)}{on}"


def headline(report: Report, name: str) -> Line:
    """``NAME: 1 error, 2 warnings``, or what else is to be said of it in one line."""
    state = _state(report)
    counts = [
        span(plural(number, severity.name.lower()), STYLES[severity])
        for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO)
        if (number := sum(f.severity is severity for f in report.counted))
    ]
    parts: list[Span] = []
    for count in counts:
        parts += [span(", "), count] if parts else [count]
    if not report.judged:
        parts = [span("not judged", Style.WARNING), *([span("; ")] if parts else []), *parts]
    elif not parts:
        parts = [span("ok", Style.GOOD)]
    return line(span(f"{name}: ", Style.STRONG), *parts, state)


def is_healthy(report: Report, verbose: bool) -> bool:
    """Whether one line says everything."""
    return (
        report.judged
        and not report.skipped
        and all(p.agrees for p in report.probes)
        and not any(f.severity > Severity.INFO for f in report.counted)
        and not (verbose and report.findings)
    )


def _block(report: Report, name: str, verbose: bool, width: int | None) -> Iterator[Line]:
    hidden = "" if verbose else _hidden(report)
    if is_healthy(report, verbose):
        yield _healthy(report, name, hidden)
        return
    yield headline(report, name)
    yield from subjects(report)
    yield from mounts(report, width)
    for finding in report.findings if verbose else report.counted:
        if verbose or finding.severity > Severity.INFO:
            yield from _finding(finding, report, verbose)
    if hidden:
        yield line(span(f"{hidden} not shown (-v)", Style.DIM), indent=2)
    yield from probes(report.probes, report.subjects, verbose)
    yield from skipped(report.skipped)


def _hidden(report: Report) -> str:
    """How many there are of what is only shown when it is asked for."""
    infos = sum(f.severity is Severity.INFO for f in report.counted)
    ignored = len(report.findings) - len(report.counted)
    parts = (plural(infos, "info") if infos else "", f"{ignored:,} ignored" if ignored else "")
    return ", ".join(p for p in parts if p)


def _healthy(report: Report, name: str, hidden: str) -> Line:
    as_whom = ", ".join(_unique(who(s) for s in report.subjects)) or "nobody"
    proven = f", {plural(len(report.probes), 'probe')} agree" if report.probes else ""
    more = f" ({hidden}, -v shows)" if hidden else ""
    parts = [f", {printable(m.target)} {s}" for m in report.mounts if (s := _stopped(m))]
    return line(
        span(f"{name}: ", Style.STRONG),
        span("ok", Style.GOOD),
        f", {plural(len(report.mounts), 'mount')}, as {as_whom}{proven}{_state(report)}",
        "".join(parts),
        span(more, Style.DIM),
    )


def _unique(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _state(report: Report) -> str:
    container = report.container
    if container.running:
        return ""
    code = "" if container.exit_code is None else f" {container.exit_code}"
    predicted = ", predicted from configuration" if report.basis is Basis.PREDICTED else ""
    return f" ({container.state.value}{code}{predicted})"


def subjects(report: Report) -> Iterator[Line]:
    """Who: one line for each credential set, inside and host numbers, and its processes."""
    for subject in report.subjects:
        processes = [
            f"{printable(p.comm)}[{p.pid}]{' (exec)' if p.via_exec else ''}"
            for p in subject.processes[:SHOWN_PROCESSES]
        ]
        if more := len(subject.processes) - SHOWN_PROCESSES:
            processes += [f"{more} more"] if more > 0 else []
        yield line(
            "as ",
            who_in_full(subject),
            span(f"  {', '.join(processes)}", Style.DIM) if processes else "",
            indent=2,
            hang=3,
        )


def mounts(report: Report, width: int | None) -> Iterator[Line]:
    """The mounts as columns, or stacked where the terminal is too narrow for them."""
    rows = [_row(m, report.subjects) for m in report.mounts]
    lines = columns(rows, indent=2)
    if width is None or all(each.width <= width for each in lines):
        yield from lines
        return
    for target, kind, source, owner, verdict in rows:
        yield line(target, "  ", verdict, indent=2)
        yield line(kind, source, owner, indent=4, gap=" ")


def _row(mount: MountReport, subjects: tuple[Subject, ...]) -> tuple[Span, ...]:
    mode = "" if mount.mode is None else f" {mount.mode:04o}"
    kind = f"{'ro' if mount.read_only else 'rw'} {mount.kind.value}"
    source = "-" if mount.host_path is None else printable(mount.host_path)
    if mount.volume:
        source = f"{printable(mount.volume)} ({source})"
    notes = [printable(mount.fstype)] if mount.fstype else []
    notes += ["idmapped"] if mount.idmapped else []
    notes += ["deleted"] if mount.deleted else []
    notes += [f"({s})"] if (s := _stopped(mount)) else []
    owner = f"{mount.owner}{mode} {' '.join(notes)}".strip()
    return (
        span(printable(mount.target), Style.STRONG),
        span(kind),
        span(source),
        span(owner),
        _access(mount, subjects),
    )


def _stopped(mount: MountReport) -> str:
    """Why not all of the tree was read; empty where it was."""
    return mount.coverage.stopped if mount.coverage is not None else ""


def _access(mount: MountReport, subjects: tuple[Subject, ...]) -> Span:
    """``ok``, or what is refused: ``write: EACCES``; to whom, where they differ."""
    if not mount.access:
        return span("-", Style.DIM)
    several = len({a.subject for a in mount.access}) > 1
    refused = []
    for access in mount.access:
        if access.verdict.errno is None:
            continue
        whom = f" ({subjects[access.subject].uid})" if several else ""
        refused.append(f"{access.need.need.value}: {access.verdict.errno.name}{whom}")
    if not refused:
        return span("ok", Style.GOOD)
    return span(", ".join(_unique(iter(refused))), Style.ERROR)


def _finding(finding: Finding, report: Report, verbose: bool) -> Iterator[Line]:
    yield finding_headline(finding)
    if finding.ignored:
        yield line(span(f"ignored: {finding.ignored}", Style.DIM), indent=4)
        return
    why = why_refused(finding, report)
    for text in (why, *finding.detail) if verbose or not why else (why,):
        if text:
            yield line(text, indent=4, hang=0)
    if finding.samples:
        yield line(samples(finding), indent=4, hang=0)
    if finding.remedies:
        yield from remedy(finding.remedies[0], more=len(finding.remedies) - 1)


def finding_headline(finding: Finding) -> Line:
    severity = finding.severity
    style = Style.DIM if finding.ignored else STYLES[severity]
    label = span(f"{severity.name.lower()} {finding.code}", style)
    return line(label, " ", span(finding.title, Style.STRONG), indent=2, hang=2)


def why_refused(finding: Finding, report: Report) -> str:
    """The verdict's reason, for the subject that it is about, and the place if it is another."""
    if finding.verdict is None or finding.subject is None:
        return ""
    subject = report.subjects[finding.subject]
    why = reason(finding.verdict, subject, names_of(subject, report.subjects))
    deciding = finding.verdict.deciding
    about = deciding.about if deciding is not None else ""
    if not about.startswith("/") or about == printable(finding.path):
        return why
    return f"{about}: {why}"


def samples(finding: Finding) -> str:
    """``1,204 entries, such as a/b, c, d``, or ``2 entries: a, b``."""
    shown = ", ".join(printable(s) for s in finding.samples)
    such = ", such as" if finding.count > len(finding.samples) else ":"
    return f"{entries(finding.count)}{such} {shown}"


def remedy(best: Remedy, more: int) -> Iterator[Line]:
    """The remedy's title and its commands, each on a line of its own to be copied."""
    others = f" (and {plural(more, 'other')}: --format explain)" if more else ""
    yield line("-> ", best.title, span(others, Style.DIM), indent=4, hang=3)
    yield from commands(best, indent=7)


def commands(of: Remedy, indent: int) -> Iterator[Line]:
    if of.commands and of.where in PLACES:
        yield line(span(PLACES[of.where], Style.DIM), indent=indent)
    for command in of.commands:
        yield line(span(command, Style.COMMAND), indent=indent, verbatim=True)


def probes(
    results: tuple[ProbeResult, ...], subjects: tuple[Subject, ...], verbose: bool
) -> Iterator[Line]:
    """What the kernel itself said: the agreements counted, everything else in full."""
    agreed = sum(p.agrees is True for p in results)
    if agreed:
        shown = f"probe: the kernel agrees with {plural(agreed, 'verdict')}"
        yield line(span(shown, Style.GOOD), indent=2)
    for p in results:
        if p.agrees is True and not verbose:
            continue
        about = f"{p.want} {printable(p.target)} as {who(subjects[p.subject])}"
        if p.agrees is None:
            yield line(span(f"probe: not asked: {about}: {p.note}", Style.WARNING), indent=2)
            continue
        style = Style.GOOD if p.agrees else Style.ERROR
        said = f"predicted {p.predicted}, the kernel says {p.observed}"
        disagrees = "" if p.agrees else "DISAGREES: "
        note = f" ({p.note})" if p.note else ""
        yield line(span(f"probe: {disagrees}{about}: {said}{note}", style), indent=2)


def skipped(facts: tuple[Skipped, ...]) -> Iterator[Line]:
    """What could not be read, why, and what would help."""
    for each in facts:
        hint = f" ({each.hint})" if each.hint else ""
        shown = f"not read: {each.what}: {each.reason}{hint}"
        yield line(span(shown, Style.WARNING), indent=2)
