"""Small facts of the machine and of a process's environment.  Of those that may well be
absent, absent is empty and no error.
"""

from __future__ import annotations

import os

from permdoctor.errors import CannotCheckError
from permdoctor.host.process import Proc
from permdoctor.host.procfs import read_mountinfo
from permdoctor.kernel.mountinfo import MountInfo

_LIMIT = 1 << 20


FIRST = 1
"""The process whose mounts are the host's."""


def has_own_mounts() -> bool:
    """Whether our mount namespace is not the host's: a hardened service has one in which most is
    read-only and some is hidden.  Where we may not know (no ptrace access to process 1) it is.
    """
    try:
        host = os.stat(f"/proc/{FIRST}/ns/mnt").st_ino
        return os.stat("/proc/self/ns/mnt").st_ino != host
    except OSError:
        return False


def host_mountinfo() -> tuple[MountInfo, ...]:
    """The host's mounts.

    Raises ``CannotCheckError`` where /proc does not tell: no mounts would be a lie.
    """
    return read_mountinfo(FIRST if has_own_mounts() else os.getpid())


def selinux_enforcing() -> bool:
    return read_text("/sys/fs/selinux/enforce").strip() == b"1"


def environment_value(pid: int, name: bytes) -> bytes | None:
    """The value of a variable when the process was started; ``None`` also where it may not be
    read (proc_pid_environ(5): that needs ptrace access).
    """
    try:
        with Proc(pid) as proc:
            environ = proc.read("environ")
    except CannotCheckError:
        return None
    prefix = name + b"="
    return next((v[len(prefix) :] for v in environ.split(b"\0") if v.startswith(prefix)), None)


def read_text(path: str, limit: int = _LIMIT) -> bytes:
    """The beginning of a file of the host."""
    try:
        with open(path, "rb") as f:
            return f.read(limit)
    except OSError:
        return b""
