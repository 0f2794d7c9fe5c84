"""What /proc says of processes and their namespaces, of mounts and sysctls, each in one call.

Every id is a host id, an id of *our* user namespace.  Raises ``ProcessGone`` for a process that
died, ``NotPermitted`` for what we may not read.
"""

from __future__ import annotations

import os

from permdoctor.errors import CannotCheckError
from permdoctor.host import syscalls
from permdoctor.host.members import Census, processes_of, with_other_mounts
from permdoctor.host.process import NotPermitted, Proc, ProcessGone
from permdoctor.kernel.ids import INITIAL, INITIAL_INUM, IdMap, Kuid, UserNs
from permdoctor.kernel.mountinfo import MountInfo, parse_mountinfo
from permdoctor.kernel.procstatus import ProcStatus, parse_id_map
from permdoctor.kernel.sysctls import Sysctls

__all__ = [
    "Census",
    "NotPermitted",
    "Proc",
    "ProcessGone",
    "processes_of",
    "read_attr",
    "read_mountinfo",
    "read_status",
    "read_sysctls",
    "read_userns",
    "start_time",
    "userns_of",
    "with_other_mounts",
]


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
    for name in Sysctls.__struct_fields__:
        try:
            with open(f"/proc/sys/fs/{name}", "rb") as f:
                found[name] = int(f.read())
        except (OSError, ValueError):
            continue
    return Sysctls(**found)
