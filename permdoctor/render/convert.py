"""Our results as the JSON documents.  Names are escaped here, once.

Every text of a container, a process or a file goes through ``printable``, every sentence through
``one_line``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, assert_never

from permdoctor.container.container import Container
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.codes import CODES
from permdoctor.diagnosis.explanation import Explanation
from permdoctor.diagnosis.report import (
    Access,
    CheckResult,
    Finding,
    MountReport,
    ProbeResult,
    Remedy,
    Report,
    Severity,
    Skipped,
)
from permdoctor.kernel.caps import names as cap_names
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Step, Verdict, Want
from permdoctor.kernel.walk import Hop
from permdoctor.render import document as doc
from permdoctor.render.layout import one_line
from permdoctor.render.names import Names, names_of
from permdoctor.render.steps import sentence
from permdoctor.render.walk import mode_string


def check_document(result: CheckResult) -> doc.CheckDoc:
    return doc.CheckDoc(
        schema=doc.SCHEMA,
        version=result.version,
        host=printable(result.host),
        reports=[_report(r) for r in result.reports],
        failed=[skipped_document(s) for s in result.failed],
    )


def explanation_document(of: Explanation, version: str) -> doc.ExplainDoc:
    return doc.ExplainDoc(
        schema=doc.SCHEMA,
        version=version,
        container=_container(of.container),
        basis=of.basis.value,
        path=printable(of.path),
        host_path=_path(of.host_path),
        missing=_path(of.missing),
        subjects=[_subject(s) for s in of.subjects],
        walks=[_walk(of, i) for i in range(len(of.subjects))],
        probes=[_probe(p) for p in of.probes],
        skipped=[skipped_document(s) for s in of.skipped],
    )


def _path(path: bytes | None) -> str | None:
    return None if path is None else printable(path)


def _texts(texts: Iterable[str]) -> list[str]:
    return [one_line(t) for t in texts]


def _severity(of: Severity) -> doc.SeverityName:
    match of:
        case Severity.ERROR:
            return "error"
        case Severity.WARNING:
            return "warning"
        case Severity.INFO:
            return "info"
        case _:
            assert_never(of)


def _container(of: Container) -> doc.ContainerDoc:
    return doc.ContainerDoc(
        name=printable(of.name),
        id=printable(of.id),
        image=printable(of.image),
        state=of.state.value,
        pid=of.pid,
        exit_code=of.exit_code,
        error=printable(of.error),
        engine=printable(of.engine.endpoint),
        user=printable(of.user),
    )


def _report(of: Report) -> doc.ReportDoc:
    worst = of.worst()
    return doc.ReportDoc(
        container=_container(of.container),
        basis=of.basis.value,
        judged=of.judged,
        worst=None if worst is None else _severity(worst),
        subjects=[_subject(s) for s in of.subjects],
        mounts=[_mount(m, of.subjects) for m in of.mounts],
        findings=[finding_document(f, of.subjects) for f in of.findings],
        skipped=[skipped_document(s) for s in of.skipped],
        probes=[_probe(p) for p in of.probes],
    )


def _subject(of: Subject) -> doc.SubjectDoc:
    groups = [doc.Id(host=g, inside=of.cred.userns.gid(g)) for g in of.host_groups]
    return doc.SubjectDoc(
        basis=of.basis.value,
        uid=doc.Id(host=of.cred.fsuid, inside=of.uid),
        gid=doc.Id(host=of.cred.fsgid, inside=of.gid),
        groups=groups,
        user=printable(of.inside_user),
        group=printable(of.inside_group),
        host_user=printable(of.host_user),
        host_group=printable(of.host_group),
        capabilities=list(cap_names(of.cred.effective)),
        processes=[
            doc.ProcessDoc(
                pid=p.pid, inside_pid=p.inside_pid, comm=printable(p.comm), via_exec=p.via_exec
            )
            for p in of.processes
        ],
        umask=None if of.umask is None else f"{of.umask:04o}",
        label=printable(of.attr),
    )


def _step(of: Step, subject: Subject, names: Names) -> doc.StepDoc:
    outcomes: dict[str, Literal["grants", "refuses", "passes"]] = {
        "grants": "grants",
        "refuses": "refuses",
        "passes": "passes",
    }
    return doc.StepDoc(
        rule=of.rule.value,
        outcome=outcomes[of.outcome.value],
        about=one_line(of.about),
        want=_bits(of.want) or "---",
        has=_bits(of.has),
        mask=_bits(of.mask),
        id=of.id,
        capabilities=list(cap_names(of.cap)),
        why=one_line(of.why),
        text=one_line(sentence(of, subject, names)),
    )


def _bits(want: Want | None) -> str | None:
    return None if want is None else str(want)


def _verdict(of: Verdict, subject: Subject, everybody: tuple[Subject, ...]) -> doc.VerdictDoc:
    names = names_of(subject, everybody)
    return doc.VerdictDoc(
        allowed=of.allowed,
        errno=None if of.errno is None else of.errno.name,
        steps=[_step(s, subject, names) for s in of.steps],
    )


def _mount(of: MountReport, subjects: tuple[Subject, ...]) -> doc.MountDoc:
    c = of.coverage
    return doc.MountDoc(
        target=printable(of.target),
        kind=of.kind.value,
        host_path=_path(of.host_path),
        fstype=printable(of.fstype),
        read_only=of.read_only,
        owner=one_line(of.owner),
        mode=None if of.mode is None else f"{of.mode:04o}",
        volume=None if of.volume is None else printable(of.volume),
        idmapped=of.idmapped,
        deleted=of.deleted,
        access=[_access(a, subjects) for a in of.access],
        coverage=None
        if c is None
        else doc.CoverageDoc(
            entries=c.entries,
            complete=not c.stopped,
            stopped=one_line(c.stopped),
            unreadable=c.unreadable,
            vanished=c.vanished,
            foreign_mounts=c.foreign_mounts,
        ),
    )


def _access(of: Access, subjects: tuple[Subject, ...]) -> doc.AccessDoc:
    return doc.AccessDoc(
        subject=of.subject,
        need=of.need.need.value,
        source=of.need.source.value,
        via=printable(of.need.via),
        verdict=_verdict(of.verdict, subjects[of.subject], subjects),
    )


def finding_document(of: Finding, subjects: tuple[Subject, ...]) -> doc.FindingDoc:
    """``subjects`` are those of the finding's report."""
    verdict = None
    if of.verdict is not None and of.subject is not None:
        verdict = _verdict(of.verdict, subjects[of.subject], subjects)
    return doc.FindingDoc(
        code=of.code,
        name=CODES[of.code].name if of.code in CODES else "",
        severity=_severity(of.severity),
        title=one_line(of.title),
        target=_path(of.target),
        path=printable(of.path),
        host_path=_path(of.host_path),
        subject=of.subject,
        verdict=verdict,
        detail=_texts(of.detail),
        count=of.count,
        samples=[printable(s) for s in of.samples],
        remedies=[_remedy(r) for r in of.remedies],
        ignored=one_line(of.ignored),
    )


def _remedy(of: Remedy) -> doc.RemedyDoc:
    return doc.RemedyDoc(
        name=of.name,
        title=one_line(of.title),
        commands=_texts(of.commands),
        where=of.where,
        why=one_line(of.why),
        why_not=one_line(of.why_not),
        proven=of.proven,
        impacts=[
            doc.ImpactDoc(
                who=one_line(i.who),
                before=one_line(i.before),
                after=one_line(i.after),
                breaks=i.breaks,
            )
            for i in of.impacts
        ],
        fixable=bool(of.recipes),
    )


def skipped_document(of: Skipped) -> doc.SkippedDoc:
    return doc.SkippedDoc(
        what=one_line(of.what), reason=one_line(of.reason), hint=one_line(of.hint)
    )


def _probe(of: ProbeResult) -> doc.ProbeDoc:
    return doc.ProbeDoc(
        target=printable(of.target),
        subject=of.subject,
        want=of.want,
        predicted=of.predicted,
        observed=of.observed,
        agrees=of.agrees,
        note=one_line(of.note),
    )


def _walk(of: Explanation, index: int) -> doc.WalkDoc:
    subject = of.subjects[index]
    verdict = None
    if index < len(of.walks):
        verdict = _verdict(of.walks[index], subject, of.subjects)
    return doc.WalkDoc(
        subject=index,
        hops=[_hop(h, subject) for h in of.hops],
        verdict=verdict,
        operations=[
            doc.OperationDoc(want=o.want, verdict=_verdict(o.verdict, subject, of.subjects))
            for o in of.operations
            if o.subject == index
        ],
    )


def _hop(of: Hop, subject: Subject) -> doc.HopDoc:
    userns = subject.cred.userns
    uid, gid = of.inode.uid, of.inode.gid
    return doc.HopDoc(
        path=printable(of.path),
        mode=mode_string(of.inode),
        uid=None if uid is None else doc.Id(host=uid, inside=userns.uid(Kuid(uid))),
        gid=None if gid is None else doc.Id(host=gid, inside=userns.gid(Kgid(gid))),
        link=_path(of.link),
        fstype=printable(of.mount.sb.fstype),
        read_only=of.mount.read_only or of.mount.sb.read_only,
    )
