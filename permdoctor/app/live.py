"""The facts of a running container: from its processes and through its own eyes.

Without the right to look through them (ptrace access to its processes), mounts are read at their
sources on the host, and the facts say that they are partial.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from permdoctor.container.binds import Bind, SourceState, mounts_of
from permdoctor.container.container import Container, MountKind, RequestedMount
from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.facts import BindFacts, Facts, SelinuxFacts, Walk
from permdoctor.engines.process import cgroup_container_id
from permdoctor.host import look, machine, procfs
from permdoctor.host.look import Where
from permdoctor.host.mounts import mount_of
from permdoctor.host.process import Proc, ProcessGone
from permdoctor.host.subjects import subjects_of
from permdoctor.kernel.ids import INITIAL
from permdoctor.kernel.mount import Mount, Superblock
from permdoctor.kernel.mountinfo import MountInfo, host_paths
from permdoctor.kernel.text import printable
from permdoctor.kernel.walk import Hop

if TYPE_CHECKING:
    from permdoctor.app.collect import Collector

HOST = Where()


def live(collector: Collector, container: Container) -> Facts:
    """Raises ``ProcessGone`` if its first process dies while we look."""
    assert container.pid is not None
    pid = container.pid
    where = Where(pid=pid, start=_start_of(container, pid))
    pids = collector.or_skip("its processes", _processes, collector, pid) or (pid,)
    named = collector.or_skip(
        "names in the container", collector.in_worker, subjects_of, pids, container.exec_pids
    )
    subjects, missed = named or subjects_of(pids, container.exec_pids, names=False)
    collector.skipped.extend(missed)
    if procfs.start_time(pid) != where.start:
        raise ProcessGone(f"process {pid} ended, and its number belongs to another one")
    _say_who_sees_otherwise(collector, pid, pids)
    mounts = collector.or_skip("its mounts", procfs.read_mountinfo, pid)
    may_look = mounts is not None and _may_look(collector, where)
    if mounts is not None and may_look:
        binds = _through_its_eyes(collector, container, mounts, where, subjects)
    else:
        binds = _at_the_sources(collector, container, subjects)
    needs = collector.needs(container, _home(collector, container, pid))
    walk = partial(collector.in_worker, look.walk, where)
    facts = Facts(
        container=container,
        basis=Basis.LIVE,
        subjects=subjects,
        binds=binds,
        needs=needs,
        places=collector.places(needs, binds, walk) if may_look else (),
        sysctls=procfs.read_sysctls(),
        selinux=_selinux(collector, where, binds),
        partial=not may_look,
    )
    if not collector.options.probe or not may_look:
        return facts
    from permdoctor.app.probing import probe_mounts, probe_path

    seconds = collector.options.config.check.deadline_seconds
    if collector.options.shallow:
        asked = {path for path, _ in collector.options.needs}
        ways = (*facts.places, *(b.walk for b in binds if b.walk is not None))
        probes = [
            p for way in ways if way.path in asked for p in probe_path(facts, where, way, seconds)
        ]
        return replace(facts, probes=tuple(probes))
    return replace(facts, probes=probe_mounts(facts, where, seconds))


def _processes(collector: Collector, pid: int) -> tuple[int, ...]:
    return procfs.processes_of(pid, collector.census.take())


def _say_who_sees_otherwise(collector: Collector, first: int, pids: tuple[int, ...]) -> None:
    """Processes that made themselves a mount namespace are judged by their container's view."""
    others = procfs.with_other_mounts(first, pids)
    for pid in others[:3]:
        collector.skip(
            f"the mounts of process {pid}",
            "it has a mount namespace of its own; it is judged as its container's first process",
            f"permdoctor check --pid {pid}",
        )


def _start_of(container: Container, pid: int) -> int:
    """When the process began.  Raises ``ProcessGone`` if it is not the container's any more."""
    with Proc(pid) as proc:
        lives_in = cgroup_container_id(proc.read("cgroup"))
        if container.id and lives_in and lives_in != container.id:
            raise ProcessGone(f"process {pid} is not the container's any more")
        return proc.start


def _may_look(collector: Collector, where: Where) -> bool:
    seen = collector.or_skip(
        "the container's own view of its paths", collector.in_worker, look.walk, where, b"/"
    )
    return seen is not None


def _through_its_eyes(
    collector: Collector,
    container: Container,
    mounts: tuple[MountInfo, ...],
    where: Where,
    subjects: tuple[Subject, ...],
) -> tuple[BindFacts, ...]:
    ours = machine.host_mountinfo()
    found = []
    for target, requested, mounted in mounts_of(container.mounts, mounts):
        if mounted is None:
            collector.skip(
                f"mount {printable(target)}",
                "it was asked for and is not there",
                "it may have been unmounted inside the container",
            )
            continue
        bind = Bind(
            target=target,
            requested=requested,
            mounted=mounted,
            mount=mount_of(mounted, INITIAL, None, acls=True),
            source_state=SourceState.DELETED if mounted.deleted else SourceState.PRESENT,
        )
        walk, tree = collector.bind(bind, where, target, subjects)
        if walk is not None and walk.object is not None:
            bind = replace(bind, mount=walk.object.mount)
        host_path = _host_path(collector, bind, ours, walk)
        found.append(BindFacts(bind=replace(bind, host_path=host_path), walk=walk, tree=tree))
    return tuple(found)


def _host_path(
    collector: Collector, bind: Bind, ours: tuple[MountInfo, ...], walk: Walk | None
) -> bytes | None:
    """Where the host sees the mount's root: by mountinfo, checked by what is really there."""
    assert bind.mounted is not None
    requested = bind.requested
    if requested is not None and requested.kind is MountKind.DEVICE:
        return requested.source
    if bind.kind is MountKind.TMPFS:
        return None
    candidates = list(host_paths(bind.mounted, ours))
    if requested is not None and requested.source is not None:
        candidates.append(requested.source)
        if requested.source in candidates[:-1]:
            return requested.source
    if walk is None or walk.object is None:
        return candidates[0] if candidates else None
    for path in candidates:
        there = collector.or_quiet(look.identity, HOST, path)
        if there == (walk.dev, walk.ino):
            return path
    return None


def _at_the_sources(
    collector: Collector, container: Container, subjects: tuple[Subject, ...]
) -> tuple[BindFacts, ...]:
    return tuple(
        source_facts(collector, r, r.target, subjects, ())
        for r in sorted(container.mounts, key=lambda r: r.target)
    )


def source_facts(
    collector: Collector,
    requested: RequestedMount,
    target: bytes,
    subjects: tuple[Subject, ...],
    parents: tuple[Hop, ...],
) -> BindFacts:
    """A mount that we cannot see from inside: its source, read on the host.

    ``parents`` are the hops before the mount's root, as far as they are known.
    """
    mount = Mount(read_only=requested.read_only)
    bind = Bind(
        target=target,
        requested=requested,
        mounted=None,
        mount=mount,
        host_path=_source_of(requested),
    )
    if bind.host_path is None:
        tmpfs = Mount(read_only=requested.read_only, sb=Superblock(fstype="tmpfs"))
        return BindFacts(bind=replace(bind, mount=tmpfs), walk=None)
    walk, tree = collector.bind(bind, HOST, bind.host_path, subjects)
    if walk is None:
        return BindFacts(bind=bind, walk=None)
    if walk.object is None:
        return BindFacts(bind=replace(bind, source_state=SourceState.MISSING), walk=None)
    seen = walk.object.mount
    mount = replace(seen, read_only=seen.read_only or requested.read_only)
    root = replace(walk.object, path=target, mount=mount, mount_root=True)
    return BindFacts(
        bind=replace(bind, mount=mount, source_state=SourceState.PRESENT),
        walk=replace(walk, path=target, hops=(*parents, root)),
        tree=tree,
    )


def _source_of(requested: RequestedMount) -> bytes | None:
    if requested.source is None or not requested.source.startswith(b"/"):
        return None
    if requested.subpath:
        return requested.source.rstrip(b"/") + b"/" + requested.subpath.strip(b"/")
    return requested.source


def _home(collector: Collector, container: Container, pid: int) -> bytes | None:
    """HOME of the first process: the engine sets it, where nobody else does."""
    named = container.env_value("HOME")
    if named is not None:
        return named.encode("utf-8", "surrogateescape")
    return collector.or_quiet(machine.environment_value, pid, b"HOME")


def _selinux(collector: Collector, where: Where, binds: tuple[BindFacts, ...]) -> SelinuxFacts:
    if not machine.selinux_enforcing():
        return SelinuxFacts()
    labels = []
    for b in binds:
        label = collector.or_quiet(look.selinux_label, where, b.bind.target)
        if label:
            labels.append((b.bind.target, label))
    return SelinuxFacts(enforcing=True, labels=tuple(labels))
