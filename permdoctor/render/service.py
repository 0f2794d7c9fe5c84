"""What the service knows, for a person: its status in a screen, its findings as a table.

From the documents that it answers with; every text in them passes ``layout.span`` here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from permdoctor.diagnosis.report import Severity
from permdoctor.render.document import CheckDoc, SeverityName
from permdoctor.render.layout import BLANK, Line, Span, Style, columns, line, span
from permdoctor.render.service_document import (
    EngineDoc,
    FindingsDoc,
    KnownFindingDoc,
    SinkDoc,
    StatusDoc,
    ViewDoc,
)
from permdoctor.render.service_json import NAMES
from permdoctor.render.table import plural

STYLES: Final = {"error": Style.ERROR, "warning": Style.WARNING, "info": Style.INFO}


def status(of: StatusDoc, *, width: int | None = None) -> list[Line]:
    """How the service is, first what is wrong with it."""
    return list(_status(of, width))


def findings(of: FindingsDoc, *, verbose: bool = True, width: int | None = None) -> list[Line]:
    """A line for each, the worst first; below it the best remedy.  Informations are only counted
    if not ``verbose``.  What is not known is said.
    """
    return list(_findings(of, verbose, width))


def status_exit(of: StatusDoc, least: Severity) -> int:
    """As ``CheckResult.exit_status``: 1 findings of at least ``least``, 3 not everything is known
    or the service is in trouble, else 0.
    """
    worst: list[SeverityName] = [n for n in NAMES.values() if getattr(of.findings, n)]
    missing = of.containers.unjudged or of.containers.failing or of.containers.left_out
    return _exit(worst, least, complete=not (missing or any(_trouble(of))))


def findings_exit(of: FindingsDoc, least: Severity) -> int:
    """As ``status_exit``.  What is ignored does not count."""
    worst = [f.severity for f in of.findings if not f.ignored]
    return _exit(worst, least, complete=not (of.unjudged or of.away or of.left_out))


def check_exit(of: ViewDoc | CheckDoc, least: Severity) -> int:
    """As ``CheckResult.exit_status``."""
    if isinstance(of, ViewDoc):
        return _exit([of.worst] if of.worst else [], least, complete=of.complete)
    worst = [f.severity for r in of.reports for f in r.findings if not f.ignored]
    return _exit(worst, least, complete=not of.failed and all(r.judged for r in of.reports))


def _exit(found: Iterable[SeverityName], least: Severity, *, complete: bool) -> int:
    if any(Severity[name.upper()] >= least for name in found):
        return 1
    return 0 if complete else 3


def _status(of: StatusDoc, width: int | None) -> Iterator[Line]:
    trouble = list(_trouble(of))
    name = span(f"permdoctor {of.version} on {of.host}: ", Style.STRONG)
    state = span("in trouble", Style.ERROR) if trouble else span("works", Style.GOOD)
    yield line(name, state, f", since {of.started}")
    for what in trouble:
        yield line(span(what, Style.ERROR), indent=2)
    yield from columns([(span(k, Style.DIM), span(*v)) for k, v in _facts(of)], indent=2)
    if of.engines:
        yield line("engines", indent=2)
        yield from _fitting([_engine(e) for e in of.engines], width)
    if of.sinks:
        yield line("alerts", indent=2)
        yield from _fitting([_sink(s) for s in of.sinks], width)


def _trouble(of: StatusDoc) -> Iterator[str]:
    if of.config_error:
        yield f"the configuration is not in force: {of.config_error}"
    yield from of.troubles
    if not of.engines:
        yield "no engine has answered yet"
    for engine in of.engines:
        if not engine.connected:
            yield _away(engine)
    if of.watch.why:
        yield f"not everything is watched, changes are found at the sweeps: {of.watch.why}"
    for sink in of.sinks:
        if sink.last_error:
            yield f"alerts to {sink.name} fail: {sink.last_error}"


def _away(of: EngineDoc) -> str:
    """The reason often names the endpoint itself."""
    if of.why.startswith(of.endpoint):
        return of.why
    return f"{of.endpoint} does not answer: {of.why or 'not connected'}"


def _facts(of: StatusDoc) -> Iterator[tuple[str, tuple[str, Style]]]:
    containers = of.containers
    notes = [
        f"{number:,} {what}"
        for number, what in (
            (containers.down, "down"),
            (containers.unjudged, "not judged yet"),
            (containers.failing, "cannot be checked"),
            (containers.left_out, "too many to look after"),
        )
        if number
    ]
    style = Style.WARNING if notes else Style.PLAIN
    yield "containers", (", ".join([f"{containers.running:,} running", *notes]), style)
    counts = [
        plural(number, noun)
        for number, noun in (
            (of.findings.error, "error"),
            (of.findings.warning, "warning"),
            (of.findings.info, "info"),
        )
        if number
    ]
    ignored = f" ({of.findings.ignored:,} ignored)" if of.findings.ignored else ""
    worst = next((n for n in STYLES if getattr(of.findings, n)), "")
    yield "findings", (", ".join(counts or ["none"]) + ignored, STYLES.get(worst, Style.GOOD))
    yield "alerts", (f"{of.firing:,} firing", Style.PLAIN)
    yield "checks", (f"{of.checks.running:,} running, {of.checks.waiting:,} waiting", Style.PLAIN)
    beyond = f", {of.watch.unwatched:,} more are not" if of.watch.unwatched else ""
    paths, below = plural(of.watch.roots, "mounted path"), of.watch.directories
    watched = f"{paths}{beyond} ({below:,} {'directory' if below == 1 else 'directories'})"
    yield "watched", (watched, Style.WARNING if beyond else Style.PLAIN)
    yield "repairs", (f"{of.repairs:,} within the hour", Style.PLAIN)


def _engine(of: EngineDoc) -> tuple[Span, ...]:
    state = ("connected", Style.GOOD) if of.connected else ("away", Style.ERROR)
    swept = f"listed {of.swept}" if of.swept is not None else "never listed"
    return span(of.endpoint), span(*state), span(f"since {of.since}"), span(swept)


def _sink(of: SinkDoc) -> tuple[Span, ...]:
    state = ("fails", Style.ERROR) if of.last_error else ("works", Style.GOOD)
    counts = f"{of.sent:,} sent, {of.waiting:,} waiting"
    counts += f", {of.dropped:,} dropped" if of.dropped else ""
    return span(of.name), span(*state), span(counts)


def _findings(of: FindingsDoc, verbose: bool, width: int | None) -> Iterator[Line]:
    chosen = [f for f in of.findings if verbose or f.severity != "info"]
    parts = (
        f"{plural(n, 'info')} not shown (-v)" if (n := len(of.findings) - len(chosen)) else "",
        f"{of.ignored:,} ignored (--ignored shows them)" if of.ignored else "",
    )
    hidden = ", ".join(p for p in parts if p)
    if not chosen:
        where = f" in {plural(of.containers, 'container')}" if of.containers else ""
        known = not (of.unjudged or of.away)
        found = span(f"nothing found{where}" if known else f"nothing found{where} so far",
                     Style.GOOD if known else Style.WARNING)  # fmt: skip
        yield line(found, f", {hidden}" if hidden else "")
    several = len({f.engine for f in chosen}) > 1
    yield from _blocks(chosen, several)
    if chosen and hidden:
        yield line(span(hidden, Style.DIM))
    if of.left_out:
        yield line(span(f"{of.left_out:,} more are not shown", Style.WARNING))
    for each in of.unjudged:
        yield line(span(f"{each.container}: not judged: {each.why}", Style.WARNING))
    for engine in of.away:
        yield line(span(f"{engine} does not answer: nothing newer is known of it", Style.WARNING))


def _blocks(findings: Iterable[KnownFindingDoc], several: bool) -> Iterator[Line]:
    """The findings of each container below its name."""
    last: tuple[str, str] | None = None
    for finding in findings:
        place = (finding.engine, finding.container)
        if place != last:
            if last is not None:
                yield BLANK
            on = span(f"  on {finding.engine}", Style.DIM) if several else ""
            yield line(span(finding.container, Style.STRONG), on)
        last = place
        yield from _finding(finding)


def _finding(of: KnownFindingDoc) -> Iterator[Line]:
    label = span(f"{of.severity} {of.code}", Style.DIM if of.ignored else STYLES[of.severity])
    yield line(label, " ", span(of.title), indent=2)
    if of.ignored:
        yield line(span(f"ignored: {of.ignored}", Style.DIM), indent=4)
    told = ", people were told" if of.told else ""
    count = f", {of.count:,} entries" if of.count > 1 else ""
    when = f"for {_length(of.seconds)}, since {of.since[:19].replace('T', ' ')} UTC"
    yield line(span(f"{when}{told}{count}", Style.DIM), indent=4)
    if of.repair:
        yield line(span(f"repair {of.repair}", Style.DIM), indent=4)
    if of.remedies and not of.ignored:
        yield line("-> ", span(of.remedies[0], Style.COMMAND), indent=4, verbatim=True)


def _length(seconds: float) -> str:
    """Of time, in the largest unit that fits: ``3 h``."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit:,.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def _fitting(rows: list[tuple[Span, ...]], width: int | None) -> Iterator[Line]:
    """As columns, or stacked where the terminal is too narrow for them."""
    lines = columns(rows, indent=4)
    if width is None or all(each.width <= width for each in lines):
        yield from lines
        return
    for first, state, *rest in rows:
        yield line(first, "  ", state, indent=4)
        yield line(*rest, indent=6, gap="  ")
