"""``--probe``: the kernel's own answer beside ours, for every mount and every subject.

The prediction compared is that of access(2), for that is what a probe can ask without side
effects.
"""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.container.needs import Need
from permdoctor.diagnosis.facts import Facts, Walk
from permdoctor.diagnosis.report import ProbeResult
from permdoctor.host.look import Where
from permdoctor.host.probe import OK, Answer, Ask, Request, probe
from permdoctor.kernel import operations as op
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.filesystems import SERVER_DECIDES, is_fuse
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Want
from permdoctor.kernel.walk import walk

_WANTS = {
    Ask.READ: Want.R,
    Ask.LIST: Want.R,
    Ask.WRITE: Want.W,
    Ask.EXECUTE: Want.X,
    Ask.TRAVERSE: Want.X,
    Ask.CREATE: Want.W | Want.X,
    Ask.DELETE: Want.W | Want.X,
}


def probe_mounts(facts: Facts, where: Where, seconds: float) -> tuple[ProbeResult, ...]:
    """Every mount's root, read and (unless only reading is needed) written."""
    asked = [
        (b.walk, _asks(b.walk.object.inode, Need.READ if b.bind.read_only else Need.WRITE))
        for b in facts.binds
        if b.walk is not None and b.walk.object is not None
    ]
    return tuple(_probe(facts, where, asked, seconds))


def probe_path(
    facts: Facts, where: Where, way: Walk, seconds: float, asks: tuple[Ask, ...] = ()
) -> tuple[ProbeResult, ...]:
    """One path.  Without ``asks`` what fits the object there."""
    if way.object is None:
        return ()
    wanted = asks or _asks(way.object.inode, Need.WRITE)
    return tuple(_probe(facts, where, [(way, wanted)], seconds))


def _asks(inode: Inode, need: Need) -> tuple[Ask, ...]:
    if inode.type is FileType.SOCKET:
        return (Ask.WRITE,)
    reads = (Ask.LIST, Ask.TRAVERSE) if inode.is_dir else (Ask.READ,)
    if need is Need.READ:
        return reads
    return (*reads, Ask.CREATE if inode.is_dir else Ask.WRITE)


def _probe(
    facts: Facts, where: Where, asked: list[tuple[Walk, tuple[Ask, ...]]], seconds: float
) -> Iterator[ProbeResult]:
    assert where.pid is not None
    requests = [(way, Request(path=way.path, want=a)) for way, asks in asked for a in asks]
    for i, subject in enumerate(facts.subjects):
        answers = probe(
            where.pid, subject, [r for _, r in requests], start=where.start, seconds=seconds
        )
        for (way, _), answer in zip(requests, answers, strict=True):
            yield _compared(way, i, subject.cred, answer, facts.sysctls)


def _compared(way: Walk, subject: int, cred: Cred, answer: Answer, sysctls: Sysctls) -> ProbeResult:
    predicted = _predicted(way, cred, Ask(answer.want), sysctls)
    agrees = answer.observed == predicted if answer.observed else None
    return ProbeResult(
        target=way.path,
        subject=subject,
        want=answer.want,
        predicted=predicted,
        observed=answer.observed,
        agrees=agrees,
        note=answer.note if agrees is not False else _layer(way),
    )


def _predicted(way: Walk, cred: Cred, ask: Ask, sysctls: Sysctls) -> str:
    if ask not in _WANTS:
        return ""
    verdict = walk(cred, way.hops, sysctls)
    if verdict.allowed:
        end = way.hops[-1]
        verdict = op.access(cred, end.inode, end.mount, _WANTS[ask])
    return OK if verdict.errno is None else verdict.errno.name


def _layer(way: Walk) -> str:
    """Who else decides there: what a disagreement most likely is."""
    fstype = way.hops[-1].mount.sb.fstype
    if fstype in SERVER_DECIDES or is_fuse(fstype):
        return f"{fstype}: the server or daemon behind the filesystem decides differently"
    return (
        "a layer outside the model (a security module, the device cgroup), something that "
        "changed meanwhile, or an error of permdoctor: please report it"
    )
