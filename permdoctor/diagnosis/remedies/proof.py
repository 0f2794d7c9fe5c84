"""A remedy is proven by the rules that refused: run again with the change made, for everybody."""

from __future__ import annotations

from msgspec.structs import replace

from permdoctor.container.needs import Need
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.facts import Neighbour
from permdoctor.diagnosis.judge import Phase, ask, judge, operations_for
from permdoctor.diagnosis.parties import users_of
from permdoctor.diagnosis.remedies.draft import Draft, ids_of
from permdoctor.diagnosis.report import Impact, Remedy
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.text import printable


def prove(draft: Draft, case: Case) -> Remedy | None:
    """The remedy with its proof and impacts; ``None`` if it would not help."""
    if draft.inode is None and draft.cred is None:
        return draft.remedy
    cred = draft.cred or case.cred
    hops = case.hops
    if draft.inode is not None:
        changed = replace(case.at, inode=draft.inode)
        hops = tuple(changed if h is case.at else h for h in hops)
    after = judge(cred, hops, case.need.need, case.facts.sysctls, missing=case.missing)
    if not after.allowed:
        return None
    remedy = replace(draft.remedy, proven=True)
    if draft.inode is not None:
        remedy = replace(remedy, impacts=impacts(case, draft.inode))
        remedy = replace(remedy, helps=frozenset() if remedy.breaks else frozenset({0}))
    if draft.cred is not None:
        lost = _lost_elsewhere(case, draft.cred)
        if lost:
            why_not = f"as {ids_of(case.subject, draft.cred)} it would lose {', '.join(lost)}"
            remedy = replace(remedy, why_not=why_not, proven=False)
    return remedy


def impacts(case: Case, inode: Inode) -> tuple[Impact, ...]:
    """Everybody else who uses the path, before and after the inode changes."""
    if case.host_path is None:
        return ()
    return tuple(
        impact
        for n in users_of(case.facts, case.host_path, but=case.subject)
        if n.cred_of.cred.fsuid != case.cred.fsuid
        for impact in [_impact(n, case.inode, inode)]
        if impact.before != impact.after
    )


def _impact(neighbour: Neighbour, old: Inode, new: Inode) -> Impact:
    cred = neighbour.cred_of.cred
    phases = operations_for(Need.WRITE if neighbour.rw else Need.READ, old)
    before = [p for p in phases if ask(cred, old, neighbour.mount, p).allowed]
    after = [p for p in phases if ask(cred, new, neighbour.mount, p).allowed]
    return Impact(
        who=neighbour.who,
        before=_may(before),
        after=_may(after),
        breaks=any(p not in after for p in before),
    )


def _may(phases: list[Phase]) -> str:
    if not phases:
        return "no access"
    return "may " + " and ".join("write" if p is Phase.CREATE else p.value for p in phases)


def _lost_elsewhere(case: Case, cred: Cred) -> tuple[str, ...]:
    """Other mounts that the subject may use now and would not with the new credentials."""
    lost = []
    for other in case.facts.binds:
        if other is case.bind or other.walk is None or other.walk.object is None:
            continue
        need = Need.READ if other.bind.read_only else Need.WRITE
        now = judge(case.cred, other.walk.hops, need, case.facts.sysctls)
        then = judge(cred, other.walk.hops, need, case.facts.sysctls)
        if now.allowed and not then.allowed:
            lost.append(printable(other.bind.target))
    return tuple(lost)
