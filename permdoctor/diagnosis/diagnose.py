"""Facts to Report: every mount and every named path put to the rules, for every subject.

Read this first in the folder.  Refusals become findings here; what is allowed too much is in
``exposure.py``, what helps in ``remedies.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from permdoctor.container.binds import Bind, SourceState, covering
from permdoctor.container.container import Container, MountKind, State
from permdoctor.container.needs import Need, NeedSource, PathNeed, clean_path, default_need
from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.causes import code_of, code_of_trouble, owner_unmapped
from permdoctor.diagnosis.entries import entry_remedies
from permdoctor.diagnosis.exposure import exposures
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts, Walk
from permdoctor.diagnosis.hostpath import host_path_of
from permdoctor.diagnosis.judge import EntryTrouble, Judgement, Phase, judge, judge_entry
from permdoctor.diagnosis.outside import outside_the_model
from permdoctor.diagnosis.remedies import remedies_for
from permdoctor.diagnosis.remedies.case import Case
from permdoctor.diagnosis.report import Access, Finding, MountReport, Remedy, Report, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.start import start_findings
from permdoctor.kernel.ids import OVERFLOW_ID
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Verdict

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
    findings.extend(_disagreements(facts))
    findings.extend(_notes(facts, findings))
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
    return default_need(bind.target, bind.read_only)


def _judged(facts: Facts) -> bool:
    """Whether enough is known to call silence good news."""
    walked = all(b.walk is not None or _explained(b) for b in facts.binds)
    return bool(facts.subjects) and walked and not facts.partial


def _explained(bind: BindFacts) -> bool:
    return bind.bind.source_state in (SourceState.MISSING, SourceState.DELETED) or (
        bind.bind.kind is MountKind.TMPFS and bind.bind.mounted is None
    )


def _judge_root(facts: Facts, bind: BindFacts, need: PathNeed) -> tuple[tuple[int, Judgement], ...]:
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
        owner="" if inode is None else owner_label(facts, inode),
        mode=None if inode is None else inode.mode,
        volume=None if b.requested is None else b.requested.volume,
        idmapped=b.mount.idmap is not None or b.mount.idmap_unknown,
        deleted=b.source_state is SourceState.DELETED,
        access=tuple(Access(subject=i, need=need, verdict=j.verdict) for i, j in judgements),
        coverage=None if bind.tree is None else bind.tree.coverage,
    )


def owner_label(facts: Facts, inode: Inode) -> str:
    """``uid:gid`` in host ids, as ls -n shows them."""

    def number(id_: int | None) -> str:
        return "unmapped" if id_ is None else str(id_)

    return f"{number(inode.uid)}:{number(inode.gid)}"


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
                yield from _entry_findings(facts, bind, need, i)
            continue
        assert walk is not None
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
            yield from _entry_findings(facts, bind, readable, i)
    yield from exposures(facts, bind, need)


def _refusing(facts: Facts, judgement: Judgement) -> bytes | None:
    """The refusing inode's place on the host."""
    assert judgement.at is not None
    return host_path_of(facts, judgement.at.path)


def _refusal(case: Case, subject: int, severity: Severity, code: str | None = None) -> Finding:
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
        detail=tuple(_details(case)),
        remedies=remedies_for(case),
    )


def _details(case: Case) -> Iterator[str]:
    """The facts behind a refusal, as sentences."""
    inode, at = case.inode, case.at
    kind = inode.type.name.lower()
    where = f" ({printable(case.host_path)} on the host)" if case.host_path is not None else ""
    owner = owner_label(case.facts, inode)
    names = _owner_names(case, inode)
    extra = " with an ACL" if inode.acl is not None and inode.acl.is_extended else ""
    yield f"{kind} {printable(at.path)}{where} is {owner}{names} {inode.mode:04o}{extra}"
    if case.need.via:
        yield f"needed: {case.need.need.value}, by {printable(case.need.via)}"
    if owner_unmapped(case.subject, case.judgement) and inode.uid is not None:
        yield (
            f"host id {owner} has no number in the container's user namespace: it shows there as "
            f"{OVERFLOW_ID}, and no capability of the container counts over it"
        )
    if case.code == "PD113":
        yield "uid 0 without CAP_DAC_OVERRIDE is an ordinary user: the mode bits apply to it"
    if case.code == "PD106":
        yield "the mount is read-only; the ownership of what it shows is not the reason"
    if case.code == "PD109":
        yield (
            "writing may be allowed, but chmod and chown are the owner's alone: "
            "neither mode bits nor an ACL give them"
        )
    if case.judgement.phase is Phase.CREATE and inode.setgid is False and inode.gid == 0:
        group = case.cred.in_group(inode.gid)
        if group and not inode.mode & 0o020:
            yield "the process is in the directory's group, but g+w is missing"


def _owner_names(case: Case, inode: Inode) -> str:
    user = next((n for u, n in case.facts.users.users if u == inode.uid), "")
    group = next((n for g, n in case.facts.users.groups if g == inode.gid), "")
    return f" ({printable(user or '-')}:{printable(group or '-')})" if user or group else ""


def _deleted(bind: BindFacts) -> Finding:
    target = bind.bind.target
    return Finding(
        code="PD209",
        severity=Severity.WARNING,
        title=f"{printable(target)}: its source was deleted after the container started",
        target=target,
        path=target,
        detail=(
            "the container still sees the old directory or file; what it writes there is gone "
            "when it stops, and a new source of the same name is not seen",
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


def _entry_findings(
    facts: Facts, bind: BindFacts, need: PathNeed, subject: int
) -> Iterator[Finding]:
    """What lies below the root, by trouble: the classes of a tree judged one by one."""
    if bind.tree is None:
        return
    s = facts.subjects[subject]
    troubled: dict[EntryTrouble, list[tuple[EntryClass, Verdict]]] = {}
    for c in bind.tree.classes:
        if c.samples == (b"lost+found",) and c.inode.uid == 0:
            continue  # mkfs made it, for fsck alone
        trouble = judge_entry(s.cred, c.parent, c.inode, bind.bind.mount, need.need)
        if trouble is not None:
            troubled.setdefault(trouble[0], []).append((c, trouble[1]))
    for kind, classes in troubled.items():
        yield _entries(facts, bind, subject, kind, classes)


_ENTRY_VERBS = {
    EntryTrouble.UNREADABLE: "cannot read or search",
    EntryTrouble.UNWRITABLE: "cannot change",
    EntryTrouble.UNDELETABLE: "cannot delete",
}


def _entries(
    facts: Facts,
    bind: BindFacts,
    subject: int,
    kind: EntryTrouble,
    classes: list[tuple[EntryClass, Verdict]],
) -> Finding:
    s, target = facts.subjects[subject], bind.bind.target
    count = sum(c.count for c, _ in classes)
    largest, verdict = max(classes, key=lambda c: c[0].count)
    sample = target.rstrip(b"/") + b"/" + largest.samples[0]
    steps = tuple(
        replace(step, about=printable(sample)) if step.about == "object" else step
        for step in verdict.steps
    )
    noun = "1 entry" if count == 1 else f"{count:,} entries"
    return Finding(
        code=code_of_trouble(kind),
        severity=Severity.ERROR if kind is EntryTrouble.UNREADABLE else Severity.WARNING,
        title=f"{s.label} {_ENTRY_VERBS[kind]} {noun} below {printable(target)}",
        target=target,
        path=target,
        host_path=bind.bind.host_path,
        subject=subject,
        verdict=replace(verdict, steps=steps),
        detail=tuple(
            f"{c.count:,} x {c.inode.type.name.lower()} {owner_label(facts, c.inode)} "
            f"{c.inode.mode:04o}, such as {printable(c.samples[0])}"
            for c, _ in sorted(classes, key=lambda c: -c[0].count)[:3]
        ),
        count=count,
        samples=tuple(x for c, _ in classes for x in c.samples)[:3],
        remedies=entry_remedies(facts, bind, s, kind, [c for c, _ in classes]),
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


def _disagreements(facts: Facts) -> Iterator[Finding]:
    """Where the kernel said otherwise than we did: never hidden."""
    for p in facts.probes:
        if p.agrees is not False:
            continue
        who = facts.subjects[p.subject].label
        yield Finding(
            code="PD213",
            severity=Severity.WARNING,
            title=f"{printable(p.target)}: {p.want} as {who}: predicted {p.predicted}, "
            f"the kernel says {p.observed}",
            target=p.target,
            path=p.target,
            subject=p.subject,
            detail=(p.note,) if p.note else (),
        )


def _notes(facts: Facts, findings: list[Finding]) -> Iterator[Finding]:
    """Worth knowing about the check itself."""
    container = facts.container
    if facts.basis is Basis.PREDICTED and facts.subjects:
        s = facts.subjects[0]
        yield _note(
            "PD304",
            f"it does not run: {s.label} is predicted from its configuration",
            (_state(container), "an entrypoint may still change the user when it runs"),
        )
    refused = {f.subject for f in findings if f.severity is Severity.ERROR}
    for i, s in enumerate(facts.subjects):
        if i in refused and s.cred.fsuid == OVERFLOW_ID:
            yield _note(
                "PD303",
                f"the process's uid {OVERFLOW_ID} is nobody, a real id",
                ("it is also what an unmapped id is shown as; here it is the process's own",),
                subject=i,
            )
    for b in facts.binds:
        target = b.bind.target
        if b.tree is not None and b.tree.coverage.stopped:
            cover = b.tree.coverage
            yield _note(
                "PD305",
                f"{printable(target)}: {cover.entries:,} entries judged, {cover.stopped}",
                ("--deep judges all of them",),
                target,
            )
        if b.bind.mount.noexec and b.tree is not None:
            programs = [c for c in b.tree.classes if _is_program(c.inode)]
            if programs:
                yield _note(
                    "PD306",
                    f"{printable(target)}: mounted noexec, programs below it will not start",
                    (f"such as {printable(programs[0].samples[0])}",),
                    target,
                )


def _is_program(inode: Inode) -> bool:
    return inode.type is FileType.REGULAR and inode.any_x


def _note(
    code: str,
    title: str,
    detail: tuple[str, ...] = (),
    target: bytes | None = None,
    subject: int | None = None,
) -> Finding:
    return Finding(
        code=code,
        severity=Severity.INFO,
        title=title,
        target=target,
        path=target or b"",
        subject=subject,
        detail=detail,
    )


def _state(container: Container) -> str:
    if container.state is State.EXITED and container.exit_code is not None:
        again = f", restarted {container.restart_count} times" if container.restart_count else ""
        return f"exited with status {container.exit_code}{again}"
    return container.state.value
