"""The state as the documents that the status socket answers with.  Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from permdoctor import __version__
from permdoctor.alerts.counters import Counters
from permdoctor.alerts.document import rfc3339
from permdoctor.daemon.state import ContainerState, EngineState, FindingState, State
from permdoctor.diagnosis.codes import CODES
from permdoctor.diagnosis.report import Severity
from permdoctor.render import service_document as doc
from permdoctor.render.layout import one_line
from permdoctor.render.service_json import NAMES

MOST_FINDINGS: Final = 5000
"""In one answer."""


class Facts(Struct, frozen=True, kw_only=True):
    """What the state does not say.  ``started`` is seconds since the epoch; ``config_error`` is
    why the configuration in the files is not in force (empty: it is), ``troubles`` what else is
    wrong.  Sinks by name; ``tells_from`` is the least severity that any is told (``None``: none).
    """

    host: str
    started: float
    config_error: str = ""
    troubles: tuple[str, ...] = ()
    sinks: Mapping[str, Counters] = {}
    waiting: Mapping[str, int] = {}
    tells_from: Severity | None = None


class Filter(Struct, frozen=True, kw_only=True):
    """Which findings: ``container`` is a glob over names; an empty ``code`` is every one."""

    container: str = "*"
    code: str = ""
    ignored: bool = False


def status(state: State, facts: Facts, wall: float) -> doc.StatusDoc:
    """``wall`` is now, in seconds since the epoch."""
    of = state.containers
    findings = [f for c in of for f in c.findings]
    told = [f.found.severity for f in findings if not f.ignored]
    return doc.StatusDoc(
        schema=doc.SCHEMA,
        version=__version__,
        host=one_line(facts.host),
        time=rfc3339(wall),
        started=rfc3339(facts.started),
        config_error=one_line(facts.config_error),
        troubles=[one_line(each) for each in facts.troubles],
        engines=[_engine(e) for e in state.engines],
        containers=doc.ContainersDoc(
            running=sum(not c.down for c in of),
            down=sum(c.down for c in of),
            unjudged=sum(not c.judged for c in of),
            failing=sum(bool(c.failed) for c in of),
            left_out=state.left_out,
        ),
        findings=doc.CountsDoc(
            error=told.count(Severity.ERROR),
            warning=told.count(Severity.WARNING),
            info=told.count(Severity.INFO),
            ignored=len(findings) - len(told),
        ),
        firing=len(state.firing),
        sinks=[_sink(name, of, facts.waiting.get(name, 0)) for name, of in facts.sinks.items()],
        checks=doc.ChecksDoc(running=state.checking, waiting=state.waiting),
        watch=doc.WatchDoc(
            roots=state.watched,
            unwatched=state.unwatched,
            directories=state.directories,
            why=one_line(state.blind),
        ),
        repairs=state.repairs,
    )


def findings(state: State, which: Filter, facts: Facts, wall: float) -> doc.FindingsDoc:
    """The containers with the worst ones first, and of each the worst first.

    Not by ``fnmatchcase``, which keeps 32768 patterns: they are other people's.
    """
    fits = re.compile(fnmatch.translate(which.container)).match
    chosen = [c for c in state.containers if fits(c.name)]
    wanted = [
        (c, f)
        for c in sorted(chosen, key=_order)
        for f in sorted(c.findings, key=lambda f: (-f.found.severity, f.found.problem.code))
        if not which.code or f.found.problem.code == which.code
    ]
    shown = [(c, f) for c, f in wanted if which.ignored or not f.ignored]
    return doc.FindingsDoc(
        schema=doc.SCHEMA,
        version=__version__,
        host=one_line(facts.host),
        time=rfc3339(wall),
        containers=len(chosen),
        findings=[_finding(c, f, facts.tells_from, wall) for c, f in shown[:MOST_FINDINGS]],
        ignored=len(wanted) - len(shown),
        left_out=max(0, len(shown) - MOST_FINDINGS),
        unjudged=list(_unjudged(chosen))[:MOST_FINDINGS],
        away=[one_line(e.engine) for e in state.engines if not e.connected],
    )


def _order(of: ContainerState) -> tuple[int, str, str]:
    worst = max((f.found.severity for f in of.findings if not f.ignored), default=0)
    return -worst, of.name, of.ref.engine


def _unjudged(containers: list[ContainerState]) -> Iterator[doc.UnjudgedDoc]:
    for of in containers:
        if of.judged and not of.failed:
            continue
        why = of.failed or ("it is being judged" if of.checking else "it has just started")
        yield doc.UnjudgedDoc(
            engine=one_line(of.ref.engine), container=one_line(of.name), why=one_line(why)
        )


def _engine(of: EngineState) -> doc.EngineDoc:
    return doc.EngineDoc(
        endpoint=one_line(of.engine),
        connected=of.connected,
        why=one_line(of.why),
        since=rfc3339(of.since),
        swept=None if of.swept is None else rfc3339(of.swept),
    )


def _sink(name: str, of: Counters, waiting: int) -> doc.SinkDoc:
    return doc.SinkDoc(
        name=one_line(name),
        waiting=waiting,
        sent=of.sent,
        failed=of.failed,
        dropped=of.dropped + of.stale + of.evicted,
        last_error=one_line(of.last_error),
    )


def _finding(
    container: ContainerState, of: FindingState, tells_from: Severity | None, wall: float
) -> doc.KnownFindingDoc:
    found = of.found
    code = CODES.get(found.problem.code)
    return doc.KnownFindingDoc(
        engine=one_line(container.ref.engine),
        container=one_line(container.name),
        id=one_line(container.ref.id),
        code=one_line(found.problem.code),
        name=code.name if code is not None else "",
        severity=NAMES[found.severity],
        title=one_line(found.title),
        target=one_line(found.problem.target),
        host_path=one_line(found.host_path),
        count=found.count,
        detail=[one_line(each) for each in found.detail],
        remedies=[one_line(each) for each in found.remedies],
        since=rfc3339(of.since),
        told=of.told and tells_from is not None and found.severity >= tells_from,
        ignored=one_line(of.ignored),
        repair=one_line(of.repair),
        seconds=max(0.0, round(wall - of.since, 3)),
    )
