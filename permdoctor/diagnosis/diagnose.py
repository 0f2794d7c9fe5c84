"""Facts to Report: every mount and every named path put to the rules, for every subject.

Read this first in the folder.  Refusals become findings here; what is allowed too much is in
``exposure.py``, what helps in ``remedies.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.container.binds import Bind, SourceState, covering
from permdoctor.container.container import MountKind
from permdoctor.container.needs import Need, NeedSource, PathNeed, clean_path, default_need
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.causes import code_of
from permdoctor.diagnosis.details import details, owner_label
from permdoctor.diagnosis.entries import entry_findings
from permdoctor.diagnosis.exposure import exposures
from permdoctor.diagnosis.facts import BindFacts, Facts, Walk
from permdoctor.diagnosis.hostpath import host_path_of
from permdoctor.diagnosis.judge import Judgement, Phase, judge
from permdoctor.diagnosis.notes import disagreements, notes
from permdoctor.diagnosis.outside import outside_the_model
from permdoctor.diagnosis.report import Access, Finding, MountReport, Remedy, Report, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.start import start_findings
from permdoctor.kernel.filesystems import PSEUDO
from permdoctor.kernel.text import printable

_VERBS = {
    Phase.WALK: "cannot reach",
    Phase.READ: "cannot read",
    Phase.WRITE: "cannot write",
    Phase.CREATE: "cannot create or delete files in",
    Phase.OWN: "cannot chmod or chown",
}


def diagnose(facts: Facts) -> Report:
    """Everything there is to say about one container, worst first."""
    findings = list(start_findings(facts))
    mounts = []
    for bind in facts.binds:
        need = need_of(facts, bind.bind)
        judgements = _judge_root(facts, bind, need)
        mounts.append(_mount_report(facts, bind, need, judgements))
        findings.extend(_mount_findings(facts, bind, need, judgements))
    for walk in facts.places:
        findings.extend(_place_findings(facts, walk))
    findings.extend(disagreements(facts))
    findings.extend(notes(facts, findings))
    findings.sort(key=lambda f: (-f.severity, f.target or b"", f.path, f.code, f.subject or 0))
    return Report(
        container=facts.container,
        basis=facts.basis,
        subjects=facts.subjects,
        mounts=tuple(mounts),
        findings=tuple(findings),
        skipped=facts.skipped,
        probes=facts.probes,
        judged=_judged(facts),
    )


def need_of(facts: Facts, bind: Bind) -> PathNeed:
    """What is needed of a mount's root: what somebody asked for, or the default.

    A variable that asks to *own* the mount's root (PGDATA) counts as asked: the program will
    refuse to start without.
    """
    for need in facts.needs:
        if need.path == bind.target and (need.source.asked or need.need is Need.OWN):
            return need
    above = _asked_for_above(facts, bind)
    read_only = bind.read_only or (
        above is not None and need_of(facts, above).need in (Need.READ, Need.NONE)
    )
    return default_need(bind.target, read_only)


def _asked_for_above(facts: Facts, bind: Bind) -> Bind | None:
    """For a mount that came along with a requested one (a mount below its source): that one."""
    if bind.requested is not None:
        return None
    asked = tuple(b.bind for b in facts.binds if b.bind.requested is not None)
    return covering(asked, bind.target)


def _judged(facts: Facts) -> bool:
    """Whether enough is known to call silence good news."""
    unread = any(is_unread(b) for b in facts.binds)
    return bool(facts.subjects) and not unread and not facts.partial


def is_unread(of: BindFacts) -> bool:
    """Whether the root of a mount could not be read, without a finding that says why."""
    explained = of.bind.source_state in (SourceState.MISSING, SourceState.DELETED) or (
        of.bind.kind is MountKind.TMPFS and of.bind.mounted is None
    )
    return of.walk is None and not explained


def _judge_root(facts: Facts, bind: BindFacts, need: PathNeed) -> tuple[tuple[int, Judgement], ...]:
    if need.need is Need.NONE or bind.bind.fstype in PSEUDO:
        return ()
    if bind.walk is None or bind.walk.object is None or bind.bind.mount.idmap_unknown:
        return ()
    hops = bind.walk.hops
    return tuple(
        (i, judge(s.cred, hops, need.need, facts.sysctls)) for i, s in enumerate(facts.subjects)
    )


def _mount_report(
    facts: Facts, bind: BindFacts, need: PathNeed, judgements: tuple[tuple[int, Judgement], ...]
) -> MountReport:
    b = bind.bind
    inode = bind.walk.object.inode if bind.walk and bind.walk.object else None
    return MountReport(
        target=b.target,
        kind=b.kind,
        host_path=b.host_path,
        fstype=b.fstype,
        read_only=b.read_only,
        owner="" if inode is None else owner_label(inode),
        mode=None if inode is None else inode.mode,
        volume=None if b.requested is None else b.requested.volume,
        idmapped=b.mount.idmap is not None or b.mount.idmap_unknown,
        deleted=b.source_state is SourceState.DELETED,
        access=tuple(Access(subject=i, need=need, verdict=j.verdict) for i, j in judgements),
        coverage=None if bind.tree is None else bind.tree.coverage,
        dev=0 if bind.walk is None else bind.walk.dev,
        ino=0 if bind.walk is None else bind.walk.ino,
    )


def _mount_findings(
    facts: Facts, bind: BindFacts, need: PathNeed, judgements: tuple[tuple[int, Judgement], ...]
) -> Iterator[Finding]:
    if bind.bind.source_state is SourceState.DELETED:
        yield _deleted(bind)
    if bind.bind.source_state is SourceState.MISSING:
        yield _missing(facts, bind)
    outside = outside_the_model(facts, bind, need, judgements)
    yield from outside.findings
    walk = bind.walk
    for i, j in judgements:
        if j.allowed or i in outside.decided:
            if i not in outside.decided:
                yield from entry_findings(facts, bind, need, i)
            continue
        assert walk is not None
        if j.phase is Phase.WALK and _asked_for_above(facts, bind.bind) is not None:
            continue  # what refuses lies below the mount it came with, and is said there
        case = Case(
            facts=facts,
            code=code_of(j, facts.subjects[i]),
            subject=facts.subjects[i],
            need=need,
            judgement=j,
            hops=walk.hops,
            bind=bind,
            host_path=_refusing(facts, j),
        )
        yield _refusal(case, i, Severity.ERROR)
        if j.phase in (Phase.CREATE, Phase.OWN):
            readable = replace(need, need=Need.READ)
            yield from entry_findings(facts, bind, readable, i)
    yield from exposures(facts, bind, need)


def _refusing(facts: Facts, judgement: Judgement) -> bytes | None:
    """The refusing inode's place on the host."""
    assert judgement.at is not None
    return host_path_of(facts, judgement.at.path)


def _refusal(case: Case, subject: int, severity: Severity, code: str | None = None) -> Finding:
    from permdoctor.diagnosis.remedies import remedies_for  # the healthy need none of it

    j = case.judgement
    assert j.phase is not None
    path = case.need.path
    return Finding(
        code=code or case.code,
        severity=severity,
        title=f"{case.subject.label} {_VERBS[j.phase]} {printable(path)}",
        target=None if case.bind is None else case.bind.bind.target,
        path=path,
        host_path=case.host_path,
        subject=subject,
        verdict=j.verdict,
        detail=tuple(details(case)),
        remedies=remedies_for(case),
    )


def _deleted(bind: BindFacts) -> Finding:
    target = bind.bind.target
    return Finding(
        code="PD209",
        severity=Severity.WARNING,
        title=f"{printable(target)}: its source was deleted after the container started",
        target=target,
        path=target,
        detail=(
            "the container still sees the old one: in a deleted directory nothing can be made "
            "(ENOENT), what is written to a deleted file is gone when the container stops, and a "
            "new source of the same name is not seen",
        ),
    )


def _missing(facts: Facts, bind: BindFacts) -> Finding:
    target = bind.bind.target
    source = bind.bind.host_path or b"?"
    who = facts.subjects[0].cred if facts.subjects else None
    owner = f" -o {who.fsuid} -g {who.fsgid}" if who else ""
    return Finding(
        code="PD114",
        severity=Severity.ERROR,
        title=f"{printable(target)}: its source {printable(source)} does not exist",
        target=target,
        path=target,
        host_path=source,
        detail=(
            "with -v the engine will create it as root:root 0755, which an ordinary user cannot "
            "write; with --mount it will refuse to start",
        ),
        remedies=(
            Remedy(
                name="create-source",
                title="Create it for the one who will use it, before the start",
                commands=(f"install -d{owner} -m 0755 {path_argument(source)}",),
            ),
        ),
    )


def _place_findings(facts: Facts, walk: Walk) -> Iterator[Finding]:
    """A path that somebody or a variable named, other than a mount's root."""
    for need in facts.needs:
        if clean_path(need.path) != walk.path or _is_mount_root(facts, need):
            continue
        for i, s in enumerate(facts.subjects):
            j = judge(s.cred, walk.hops, need.need, facts.sysctls, missing=walk.missing is not None)
            if j.allowed or s.uid is None:
                continue
            bind = covering(tuple(b.bind for b in facts.binds), walk.hops[-1].path)
            of = next((b for b in facts.binds if b.bind is bind), None)
            if of is not None and not need.source.asked and _root_refused(facts, of, s):
                continue  # the mount's own finding says it
            case = Case(
                facts=facts,
                code=code_of(j, s),
                subject=s,
                need=need,
                judgement=j,
                hops=walk.hops,
                missing=walk.missing is not None,
                bind=of,
                host_path=_refusing(facts, j),
            )
            match need.source:
                case NeedSource.HOME:
                    yield _refusal(case, i, Severity.INFO, "PD301")
                case NeedSource.ENVIRONMENT:
                    yield _refusal(case, i, Severity.WARNING, "PD208")
                case _:
                    yield _refusal(case, i, Severity.ERROR)


def _is_mount_root(facts: Facts, need: PathNeed) -> bool:
    """Whether the need was judged as the mount's own already."""
    return any(need_of(facts, b.bind) is need for b in facts.binds)


def _root_refused(facts: Facts, bind: BindFacts, subject: Subject) -> bool:
    if bind.walk is None:
        return True
    need = need_of(facts, bind.bind).need
    return not judge(subject.cred, bind.walk.hops, need, facts.sysctls).allowed
