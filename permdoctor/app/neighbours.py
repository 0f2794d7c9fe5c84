"""Everybody else who uses a container's mounts: the owner on the host, and other containers.

A remedy is judged for them, too.  Who judges many containers believes a list of them for a moment:
to make one costs the engine milliseconds for every dozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from permdoctor.container.container import MountKind, State
from permdoctor.diagnosis.facts import BindFacts, Facts, Neighbour
from permdoctor.engines import Engine, Summary
from permdoctor.errors import PermdoctorError
from permdoctor.host import procfs
from permdoctor.host.accounts import account
from permdoctor.host.members import Places
from permdoctor.host.subjects import subjects_of
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable

if TYPE_CHECKING:
    from permdoctor.app.collect import Collector

MOST = 16
"""Other containers that are looked at; a path that more of them share is public anyway."""

_LIST_SECONDS = 2.0


def neighbours_of(
    collector: Collector, engine: Engine | None, facts: Facts
) -> tuple[Neighbour, ...]:
    """Raises ``CannotCheckError`` where the engine does not answer."""
    found = list(_owners(collector, facts.binds))
    sources = {
        b.bind.host_path
        for b in facts.binds
        if b.bind.host_path is not None and b.bind.kind in (MountKind.BIND, MountKind.VOLUME)
    }
    if engine is not None and sources:
        others = [
            s
            for s in engine.containers_using(sources, max_age=_LIST_SECONDS)
            if s.id != facts.container.id and s.state in (State.RUNNING, State.PAUSED)
        ]
        if len(others) > MOST:
            collector.skip(
                "who else uses these mounts", f"{len(others)} containers, {MOST} were looked at"
            )
        places = collector.census.take() if others else ()
        for summary in others[:MOST]:
            found.extend(_container(engine, summary, sources, places))
    return tuple(found)


def _owners(collector: Collector, binds: tuple[BindFacts, ...]) -> Iterator[Neighbour]:
    """The account that owns a mount's root, unless it is root."""
    for b in binds:
        root = b.walk.object if b.walk is not None else None
        if root is None or b.bind.host_path is None or not root.inode.uid:
            continue
        number = root.inode.uid
        owner = collector.or_quiet(account, number)
        if owner is None:
            continue
        named = owner.host_user != f"uid {number}"
        yield Neighbour(
            who=f"{owner.host_user} ({number})" if named else owner.host_user,
            cred_of=owner,
            rw=True,
            host_path=b.bind.host_path,
            mount=Mount(sb=b.bind.mount.sb),
        )


def _container(
    engine: Engine, summary: Summary, sources: set[bytes], places: Places
) -> Iterator[Neighbour]:
    """The subjects of another container that is running; one that is gone is no neighbour."""
    try:
        other = engine.inspect(summary.id)
        if not other.running or other.pid is None:
            return
        subjects, _ = subjects_of(
            procfs.processes_of(other.pid, places), other.exec_pids, names=False
        )
    except PermdoctorError:
        return
    for m in summary.mounts:
        for source in sources:
            if m.source is None or not is_beneath(source, m.source):
                continue
            for s in subjects:
                if all(p.via_exec for p in s.processes):
                    continue
                yield Neighbour(
                    who=f"container {printable(other.name)} ({s.label})",
                    cred_of=s,
                    rw=not m.read_only,
                    exact=m.source == source,
                    host_path=source,
                    mount=Mount(read_only=m.read_only),
                )
