"""Which processes are one container.  A judgement: the kernel knows no containers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct

from permdoctor.errors import CannotCheckError
from permdoctor.host.process import NotPermitted, Proc, parse_cgroups
from permdoctor.kernel.mountinfo import is_beneath

_SETTLED = 1.0
_BELIEVED = 10.0


def all_pids() -> tuple[int, ...]:
    """Every process in our view of /proc."""
    return tuple(int(n) for n in os.listdir("/proc") if n.isdigit())


class _Place(Struct, frozen=True, kw_only=True):
    """Where a process lives; ``None`` for a namespace that may not be read.  ``cgroups`` are paths
    by hierarchy.
    """

    cgroups: dict[bytes, bytes]
    pid_ns: int | None
    mnt_ns: int | None
    nested: bool
    """Whether NSpid shows more than one pid: it lives in a pid namespace below ours."""


def _place(proc: Proc) -> _Place:
    def inum(kind: str) -> int | None:
        try:
            return proc.ns_inum(kind)
        except NotPermitted:
            return None

    pid_ns = inum("pid")
    nested = len(proc.status().nspid) > 1 if pid_ns is None else False
    return _Place(cgroups=proc.cgroups(), pid_ns=pid_ns, mnt_ns=inum("mnt"), nested=nested)


Places = tuple[tuple[int, _Place], ...]
"""Every process of one moment, and where it lives; kernel threads and the dead are among them."""


class _Resident(Struct, frozen=True, kw_only=True):
    """A process that was read at ``read`` and has lived there since ``first`` (monotonic s)."""

    place: _Place
    first: float
    read: float

    def is_believed(self, now: float) -> bool:
        return self.read - self.first >= _SETTLED and now - self.read < _BELIEVED


class Census:
    """Where every process lives.  Reading that costs a few dozen microseconds a process, and most
    of them stay where they are: who was read twice in one place, ``_SETTLED`` seconds apart, is
    believed to live there for ``_BELIEVED`` seconds more.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Resident] = {}

    def take(self) -> Places:
        now = time.monotonic()
        cgroups: dict[bytes, dict[bytes, bytes]] = {}
        known: dict[int, _Resident] = {}
        for pid in all_pids():
            one = self._known.get(pid)
            if one is None or not one.is_believed(now):
                place = _place_of(pid, cgroups)
                if place is None:
                    continue
                first = one.first if one is not None and one.place == place else now
                one = _Resident(place=place, first=first, read=now)
            known[pid] = one
        self._known = known
        return tuple((pid, one.place) for pid, one in known.items())


def processes_of(pid: int, among: Places | None = None) -> tuple[int, ...]:
    """All processes of the container that ``pid`` belongs to, by number; ``pid`` is among them.
    Looked for ``among`` those of a moment ago, or of now; what is found is read again.

    They are those in its cgroup or below, if that cgroup is the container's own: not the root,
    not one that we are in, and without a process of our mount namespace; and those that share its
    pid namespace (and its mount namespace, for a pod shares the former between containers),
    unless that is ours.  A process in our own mount namespace is no container: it is alone.
    """
    with Proc(pid) as proc:
        wanted = _place(proc)
    with Proc(os.getpid()) as proc:
        ours = _place(proc)
    if wanted.mnt_ns is not None and wanted.mnt_ns == ours.mnt_ns:
        return (pid,)
    others = [entry for entry in (Census().take() if among is None else among) if entry[0] != pid]
    cgroup = _own_cgroup(wanted, ours, others)
    same_pid_ns = _by_pid_ns(wanted, ours, has_cgroup=cgroup is not None)

    def is_one(place: _Place | None) -> bool:
        if place is None:
            return False
        return (cgroup is not None and _is_in(place, cgroup)) or same_pid_ns(place)

    found = [other for other, place in others if is_one(place)]
    if among is not None:
        found = [other for other in found if is_one(_place_of(other, {}))]
    return tuple(sorted({pid, *filter(_lives, found)}))


def _lives(pid: int) -> bool:
    """Neither a kernel thread nor dead."""
    try:
        with Proc(pid) as proc:
            return proc.stat.has_credentials
    except CannotCheckError:
        return False


def _place_of(pid: int, cgroups: dict[bytes, dict[bytes, bytes]]) -> _Place | None:
    """As :func:`_place`, for the many: without what makes :class:`Proc` safe to keep.  ``cgroups``
    holds what was parsed before.  ``None``: it is gone, or may not be read at all.
    """
    try:
        fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mnt_ns = _inum(os.readlink("ns/mnt", dir_fd=fd))
        pid_ns = _inum(os.readlink("ns/pid", dir_fd=fd))
        text = _read(fd, "cgroup")
    except OSError:
        return _slowly(pid)
    finally:
        os.close(fd)
    parsed = cgroups.get(text)
    if parsed is None:
        parsed = cgroups[text] = parse_cgroups(text)
    return _Place(cgroups=parsed, pid_ns=pid_ns, mnt_ns=mnt_ns, nested=False)


def _slowly(pid: int) -> _Place | None:
    """A namespace that may not be read is another matter than a process that is gone."""
    try:
        with Proc(pid) as proc:
            return _place(proc)
    except CannotCheckError:
        return None


def _inum(link: str) -> int:
    return int(link[link.index("[") + 1 : -1])


def _read(dir_fd: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        text = b""
        while more := os.read(fd, 1 << 16):
            text += more
        return text
    finally:
        os.close(fd)


def _own_cgroup(
    wanted: _Place, ours: _Place, others: Sequence[tuple[int, _Place]]
) -> tuple[bytes, bytes] | None:
    """The hierarchy and path of a cgroup that holds the container and nobody else."""
    for cgroup in wanted.cgroups.items():
        if cgroup[1] == b"/" or _is_in(ours, cgroup):
            continue
        strangers = (
            _is_in(place, cgroup)
            for _, place in others
            if place.mnt_ns is not None and place.mnt_ns == ours.mnt_ns
        )
        if not any(strangers):
            return cgroup
    return None


def _is_in(place: _Place, cgroup: tuple[bytes, bytes]) -> bool:
    hierarchy, path = cgroup
    there = place.cgroups.get(hierarchy)
    return there is not None and is_beneath(there, path)


def _by_pid_ns(wanted: _Place, ours: _Place, *, has_cgroup: bool) -> Callable[[_Place], bool]:
    """Whether a process shares the pid namespace in a way that makes it part of the container."""
    if wanted.pid_ns is None or wanted.pid_ns == ours.pid_ns:
        return lambda _: False
    if not has_cgroup:
        return lambda place: place.pid_ns == wanted.pid_ns
    return lambda place: place.pid_ns == wanted.pid_ns and place.mnt_ns == wanted.mnt_ns


def with_other_mounts(first: int, pids: tuple[int, ...]) -> tuple[int, ...]:
    """Those of ``pids`` that live in another mount namespace than ``first``, as far as it can be
    read (it needs ptrace rights).
    """
    found = []
    try:
        with Proc(first) as proc:
            own = proc.ns_inum("mnt")
        for pid in pids:
            with suppress(CannotCheckError), Proc(pid) as proc:
                if proc.stat.has_credentials and proc.ns_inum("mnt") != own:
                    found.append(pid)
    except CannotCheckError:
        return ()
    return tuple(found)
