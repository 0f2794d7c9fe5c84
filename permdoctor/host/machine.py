"""Small facts of the machine and of a process's environment.  Absent is empty, never an error."""

from __future__ import annotations

from permdoctor.errors import CannotCheckError
from permdoctor.host.procfs import Proc
from permdoctor.kernel.mountinfo import MountInfo, parse_mountinfo

_LIMIT = 1 << 20


def own_mountinfo() -> tuple[MountInfo, ...]:
    """The mounts of our own namespace: the host's, when run on the host."""
    return parse_mountinfo(read_text("/proc/self/mountinfo", 1 << 26))


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
