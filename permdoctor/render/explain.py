"""The long text: every finding with its facts, the kernel's steps, and every remedy.

For ``check --format explain`` and ``demo``.  ``walk.py`` explains one path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from permdoctor.container.subject import Subject
from permdoctor.diagnosis.codes import CODES
from permdoctor.diagnosis.report import CheckResult, Coverage, Finding, Impact, Remedy, Report
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Outcome, Verdict
from permdoctor.render.layout import BLANK, Line, Span, Style, line, span
from permdoctor.render.names import names_of, who
from permdoctor.render.steps import sentence
from permdoctor.render.table import (
    called,
    commands,
    entries,
    finding_headline,
    headline,
    mounts,
    plural,
    probes,
    skipped,
    subjects,
    twins_in,
)

MARKS: Final = {Outcome.GRANTS: "+", Outcome.REFUSES: "x", Outcome.PASSES: "."}
"""Before a step: it granted, it refused, it did not decide."""


def explain(result: CheckResult, *, width: int | None = None) -> list[Line]:
    """All of every report.  ``width`` as in ``table.table``."""
    lines: list[Line] = []
    twins = twins_in(result)
    for report in result.reports:
        if lines:
            lines.append(BLANK)
        lines += _report(report, called(report, twins), width)
    return lines


def _report(report: Report, name: str, width: int | None) -> Iterator[Line]:
    yield headline(report, name)
    yield from subjects(report)
    yield from mounts(report, width)
    yield from _coverage(report)
    for finding in report.findings:
        yield BLANK
        yield from _finding(finding, report)
    if report.probes or report.skipped:
        yield BLANK
    yield from probes(report.probes, report.subjects, verbose=True)
    yield from skipped(report.skipped)


def _coverage(report: Report) -> Iterator[Line]:
    for mount in report.mounts:
        if mount.coverage is not None:
            shown = f"{printable(mount.target)}: {coverage(mount.coverage)}"
            yield line(span(shown, Style.DIM), indent=2)


def coverage(of: Coverage) -> str:
    """``48,210 of at least 48,210 entries, complete`` (a tree may grow while it is read), or how
    far it came: ``200,000 entries, stopped at 200,000 entries``.
    """
    if of.stopped:
        parts = [entries(of.entries), of.stopped]
    else:
        parts = [f"{of.entries:,} of at least {entries(of.entries)}", "complete"]
    if of.unreadable:
        parts.append(f"{of.unreadable:,} not readable")
    if of.vanished:
        parts.append(f"{of.vanished:,} vanished meanwhile")
    if of.foreign_mounts:
        parts.append(f"{plural(of.foreign_mounts, 'other mount')} left out")
    return ", ".join(parts)


def _finding(finding: Finding, report: Report) -> Iterator[Line]:
    yield finding_headline(finding)
    if finding.ignored:
        yield _fact("ignored", finding.ignored)
    yield from _facts(finding, report)
    if finding.verdict is not None and finding.subject is not None:
        yield from steps(finding.verdict, report.subjects[finding.subject], report.subjects)
    for text in finding.detail:
        yield line(text, indent=4, hang=0)
    for number, each in enumerate(finding.remedies, 1):
        yield from _remedy(number, each)
    if finding.code in CODES:
        yield line(span(f"more: permdoctor codes {finding.code}", Style.DIM), indent=4)


def _facts(finding: Finding, report: Report) -> Iterator[Line]:
    if finding.subject is not None:
        yield _fact("who", who(report.subjects[finding.subject]))
    yield _fact("path", printable(finding.path))
    if finding.host_path is not None:
        yield _fact("on the host", printable(finding.host_path))
    if finding.count > 1:
        yield _fact("entries", f"{finding.count:,}")
    for sample in finding.samples:
        yield _fact("such as", printable(sample))


def _fact(label: str, text: str) -> Line:
    return line(span(f"{label:<12}", Style.DIM), text, indent=4, hang=12)


def steps(verdict: Verdict, subject: Subject, everybody: tuple[Subject, ...]) -> Iterator[Line]:
    """Each rule that was asked, in the kernel's order, and the errno at the end."""
    names = names_of(subject, everybody)
    for step in verdict.steps:
        place = f"{step.about}: " if step.about.startswith("/") else ""
        yield line(_mark(step.outcome), place, sentence(step, subject, names), indent=4)
    if verdict.errno is not None:
        yield line(span(f"= {verdict.errno.name}", Style.ERROR), indent=4)
    else:
        yield line(span("= allowed", Style.GOOD), indent=4)


def _mark(outcome: Outcome) -> Span:
    styles = {Outcome.GRANTS: Style.GOOD, Outcome.REFUSES: Style.ERROR, Outcome.PASSES: Style.DIM}
    return span(f"{MARKS[outcome]} ", styles[outcome])


def _remedy(number: int, remedy: Remedy) -> Iterator[Line]:
    proven = " [proven: with it the rules allow it]" if remedy.proven else ""
    yield line(f"{number}. {remedy.title}", span(proven, Style.DIM), indent=4, hang=3)
    yield from commands(remedy, indent=7)
    if remedy.why:
        yield line(remedy.why, indent=7, hang=0)
    if remedy.why_not:
        yield line(span("but: ", Style.WARNING), remedy.why_not, indent=7, hang=5)
    for impact in remedy.impacts:
        yield _impact(impact)


def _impact(impact: Impact) -> Line:
    label = span("breaks ", Style.ERROR) if impact.breaks else span("touches ", Style.DIM)
    return line(label, f"{impact.who}: {impact.before} -> {impact.after}", indent=7, hang=7)
