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


def own_mountinfo() -> tuple[MountInfo, ...]:
    """The mounts of our own namespace: the host's, when run on the host.

    Raises ``CannotCheckError`` where /proc does not tell: no mounts would be a lie.
    """
    return read_mountinfo(os.getpid())


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
