"""Processes and their namespaces, from /proc.  Every id is a host id (an id of *our* namespace).

A process may die between any two reads.  All reads of one process go through a descriptor of its
/proc directory, which never comes to mean another process; its start time tells later whether a
pid still is the same one.  Dying gives :class:`ProcessGone`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from permdoctor.errors import CannotCheckError
from permdoctor.host import syscalls
from permdoctor.kernel.ids import INITIAL, INITIAL_INUM, IdMap, Kuid, UserNs
from permdoctor.kernel.mountinfo import MountInfo, is_beneath, parse_mountinfo
from permdoctor.kernel.procstatus import ProcStatus, parse_id_map, parse_status
from permdoctor.kernel.sysctls import Sysctls

PF_KTHREAD = 0x00200000
_GONE = (errno.ENOENT, errno.ESRCH)
_DENIED = (errno.EACCES, errno.EPERM)


class ProcessGone(CannotCheckError):  # noqa: N818 - it is a state of the process
    """The process died, or its pid now belongs to another one."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "if it is restarting, run the check again")


class NotPermitted(CannotCheckError):  # noqa: N818
    """We may not read this of the process."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "run it as root, or as the owner of the process")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcStat:
    """Of /proc/PID/stat: ``start`` is field 22 (clock ticks since boot), ``flags`` field 9."""

    state: str
    flags: int
    start: int

    @property
    def has_credentials(self) -> bool:
        """False for kernel threads and for the dead."""
        return not self.flags & PF_KTHREAD and self.state not in "ZXx"


class Proc:
    """One process, held by a descriptor of /proc/PID.  ``start`` identifies it with the pid."""

    def __init__(self, pid: int, start: int | None = None) -> None:
        """Raises ``ProcessGone``, also when ``start`` is given and the pid was used again."""
        self.pid = pid
        with self._errors("open"):
            self.fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.stat = self.read_stat()
        except BaseException:
            self.close()
            raise
        self.start = self.stat.start
        if start is not None and start != self.start:
            self.close()
            raise ProcessGone(f"process {pid} is gone, and its pid belongs to another process")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Proc:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            if e.errno in _GONE:
                raise ProcessGone(f"process {self.pid} is gone") from e
            if e.errno in _DENIED:
                raise NotPermitted(f"/proc/{self.pid}/{name}: {e.strerror}") from e
            raise CannotCheckError(f"/proc/{self.pid}/{name}: {e.strerror}") from e

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file below /proc/PID; magic links are followed."""
        with self._errors(name):
            return os.open(name, flags | os.O_CLOEXEC, dir_fd=self.fd)

    def read(self, name: str) -> bytes:
        fd = self.open(name)
        with self._errors(name):
            try:
                chunks = []
                while chunk := os.read(fd, 1 << 16):
                    chunks.append(chunk)
                return b"".join(chunks)
            finally:
                os.close(fd)

    def ns_inum(self, kind: str) -> int:
        """The inode of ``/proc/PID/ns/KIND``: the identity of the namespace."""
        with self._errors(f"ns/{kind}"):
            link = os.readlink(f"ns/{kind}", dir_fd=self.fd)
        return int(link.partition("[")[2].rstrip("]"))

    def read_stat(self) -> ProcStat:
        text = self.read("stat")
        fields = text[text.rfind(b")") + 1 :].split()
        if len(fields) < 20:
            raise ProcessGone(f"process {self.pid} is gone")
        return ProcStat(
            state=fields[0].decode("ascii", "replace"),
            flags=int(fields[6]),
            start=int(fields[19]),
        )

    def status(self) -> ProcStatus:
        try:
            return parse_status(self.read("status"))
        except ValueError as e:
            raise ProcessGone(f"process {self.pid} is gone ({e})") from e

    def attr(self) -> str:
        """The LSM label, empty without an LSM that labels (or where it may not be read)."""
        for name in ("attr/apparmor/current", "attr/current"):
            try:
                return self.read(name).rstrip(b"\0\n").decode("utf-8", "backslashreplace")
            except CannotCheckError:
                continue
        return ""

    def cgroups(self) -> tuple[tuple[bytes, bytes], ...]:
        """(hierarchy, path) of each line of /proc/PID/cgroup; the v2 hierarchy is ``b""``."""
        lines = (line.split(b":", 2) for line in self.read("cgroup").splitlines())
        return tuple((f[1], f[2]) for f in lines if len(f) == 3)


def read_status(pid: int) -> ProcStatus:
    """``/proc/PID/status``."""
    with Proc(pid) as proc:
        return proc.status()


def start_time(pid: int) -> int:
    """Field 22 of ``/proc/PID/stat``, in clock ticks since boot."""
    with Proc(pid) as proc:
        return proc.start


def read_mountinfo(pid: int) -> tuple[MountInfo, ...]:
    """The mounts below the process's root, paths as it sees them."""
    with Proc(pid) as proc:
        return parse_mountinfo(proc.read("mountinfo"))


def read_attr(pid: int) -> str:
    """``/proc/PID/attr/apparmor/current``, else ``attr/current``; empty without a label."""
    with Proc(pid) as proc:
        return proc.attr()


def read_userns(pid: int) -> UserNs:
    """The user namespace of a process, with its ancestors as far as they can be reached."""
    with Proc(pid) as proc:
        return userns_of(proc)


def userns_of(proc: Proc) -> UserNs:
    """Our own namespace counts as the initial one: ids are ids as *we* see them.

    Where /proc/PID/ns/user may not be read the maps still may: then ``inum`` is 0, the owner
    unknown and the parent taken to be the initial namespace.
    """
    uids, gids = _maps(proc)
    try:
        inum = proc.ns_inum("user")
    except NotPermitted:
        if uids.is_identity and gids.is_identity:
            return INITIAL
        return UserNs(inum=0, uids=uids, gids=gids, parent=INITIAL)
    if inum in (INITIAL_INUM, _own_userns()):
        return INITIAL
    fd = proc.open("ns/user")
    try:
        ancestors = _ancestors(fd, proc)
        owner = _owner(fd)
    finally:
        os.close(fd)
    return UserNs(inum=inum, uids=uids, gids=gids, parent=ancestors, owner=owner)


def _maps(proc: Proc) -> tuple[IdMap, IdMap]:
    try:
        return parse_id_map(proc.read("uid_map")), parse_id_map(proc.read("gid_map"))
    except ValueError as e:
        raise CannotCheckError(f"/proc/{proc.pid}/uid_map: {e}") from e


def _own_userns() -> int:
    return os.stat("/proc/self/ns/user").st_ino


def _owner(fd: int) -> Kuid | None:
    try:
        return Kuid(syscalls.ns_owner_uid(fd))
    except OSError:
        return None


def _ancestors(fd: int, proc: Proc) -> UserNs:
    """The parent chain.  NS_GET_PARENT fails with EPERM at the edge of what we may see.

    An ancestor's maps are read from a parent process that lives in it; without one they are
    empty, which is enough for what is asked of ancestors: identity and owner.
    """
    try:
        parent = syscalls.ns_open(fd, syscalls.NS_GET_PARENT)
    except OSError:
        return INITIAL
    try:
        inum = os.fstat(parent).st_ino
        if inum in (INITIAL_INUM, _own_userns()):
            return INITIAL
        uids, gids = _maps_in_parents(proc, inum)
        return UserNs(
            inum=inum,
            uids=uids,
            gids=gids,
            parent=_ancestors(parent, proc),
            owner=_owner(parent),
        )
    finally:
        os.close(parent)


def _maps_in_parents(proc: Proc, inum: int) -> tuple[IdMap, IdMap]:
    pid = proc.pid
    for _ in range(64):
        try:
            with Proc(pid) as ancestor:
                if ancestor.ns_inum("user") == inum:
                    return _maps(ancestor)
                pid = ancestor.status().ppid
        except CannotCheckError:
            break
    return IdMap(()), IdMap(())


def read_sysctls() -> Sysctls:
    """``fs.protected_*`` of the running kernel; the usual values where one is missing."""
    found = {}
    for name in Sysctls.__slots__:
        try:
            with open(f"/proc/sys/fs/{name}", "rb") as f:
                found[name] = int(f.read())
        except (OSError, ValueError):
            continue
    return Sysctls(**found)


def all_pids() -> tuple[int, ...]:
    """Every process in our view of /proc."""
    return tuple(int(n) for n in os.listdir("/proc") if n.isdigit())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a process lives; ``None`` for a namespace that may not be read."""

    cgroups: tuple[tuple[bytes, bytes], ...]
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


def processes_of(pid: int) -> tuple[int, ...]:
    """All processes of the container that ``pid`` belongs to, by number; ``pid`` is among them.

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
    others = _places(pid)
    cgroup = _own_cgroup(wanted, ours, others)
    same_pid_ns = _by_pid_ns(wanted, ours, has_cgroup=cgroup is not None)
    found = {pid}
    for other, place in others:
        if (cgroup is not None and _is_in(place, cgroup)) or same_pid_ns(place):
            found.add(other)
    return tuple(sorted(found))


def _places(but: int) -> list[tuple[int, _Place]]:
    found = []
    for pid in all_pids():
        if pid == but:
            continue
        try:
            with Proc(pid) as proc:
                if proc.stat.has_credentials:
                    found.append((pid, _place(proc)))
        except CannotCheckError:
            continue
    return found


def _own_cgroup(
    wanted: _Place, ours: _Place, others: list[tuple[int, _Place]]
) -> tuple[bytes, bytes] | None:
    """The hierarchy and path of a cgroup that holds the container and nobody else."""
    for cgroup in wanted.cgroups:
        if cgroup[1] == b"/" or _is_in(ours, cgroup):
            continue
        strangers = (
            place.mnt_ns is not None and place.mnt_ns == ours.mnt_ns
            for _, place in others
            if _is_in(place, cgroup)
        )
        if not any(strangers):
            return cgroup
    return None


def _is_in(place: _Place, cgroup: tuple[bytes, bytes]) -> bool:
    hierarchy, path = cgroup
    return any(h == hierarchy and is_beneath(p, path) for h, p in place.cgroups)


def _by_pid_ns(wanted: _Place, ours: _Place, *, has_cgroup: bool) -> Callable[[_Place], bool]:
    """Whether a process shares the pid namespace in a way that makes it part of the container."""
    if wanted.pid_ns is None or wanted.pid_ns == ours.pid_ns:
        return lambda _: False
    if not has_cgroup:
        return lambda place: place.pid_ns == wanted.pid_ns
    return lambda place: place.pid_ns == wanted.pid_ns and place.mnt_ns == wanted.mnt_ns
