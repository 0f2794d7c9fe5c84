"""A container without an engine: a forked child in namespaces of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from permdoctor.host import syscalls
from tests.lab.needs import MissingError, need_root

CLONE_NEWPID = 0x20000000
MS_BIND, MS_REC, MS_PRIVATE, MS_RDONLY, MS_NOEXEC, MS_REMOUNT = 4096, 16384, 1 << 18, 1, 8, 32
MNT_DETACH = 2

Map = Sequence[tuple[int, int, int]]
"""(inside, outside, count)."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    args = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, data.encode() or None)
    if _libc.mount(*args):
        code = ctypes.get_errno()
        raise OSError(code, f"mount {target}: {os.strerror(code)}")


def unmount(target: str) -> None:
    if _libc.umount2(os.fsencode(target), MNT_DETACH):
        code = ctypes.get_errno()
        raise OSError(code, f"umount {target}: {os.strerror(code)}")


@contextlib.contextmanager
def cell(
    root: Path | str,
    *,
    uid: int = 0,
    gid: int = 0,
    groups: Sequence[int] = (),
    caps: int | None = None,
    uids: Map | None = None,
    gids: Map | None = None,
    pid_ns: bool = False,
    setup: Callable[[], None] = lambda: None,
    inside: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """The host pid of a process chrooted to ``root`` in a new mount namespace, asleep.

    ``uids`` (and ``gids``, the same by default) make it a new user namespace; then ``uid``, ``gid``
    and ``groups`` are ids inside.  ``setup`` runs as root of the new namespaces before the
    chroot, ``inside`` with the final credentials.
    """
    need_root()
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    flags = syscalls.CLONE_NEWNS
    flags |= syscalls.CLONE_NEWUSER if uids is not None else 0
    flags |= CLONE_NEWPID if pid_ns else 0
    pid = os.fork()
    if not pid:
        os.close(from_parent)
        os.close(to_parent)
        _child(str(root), flags, uid, gid, groups, caps, setup, inside, to_child, from_child)
    os.close(to_child)
    os.close(from_child)
    try:
        _expect(to_parent, b"unshared")
        if uids is not None:
            for name, extents in (("uid_map", uids), ("gid_map", gids or uids)):
                text = "".join(f"{a} {b} {n}\n" for a, b, n in extents)
                Path(f"/proc/{pid}/{name}").write_text(text)
        os.write(from_parent, b"mapped\n")
        answer = _expect(to_parent, b"ready")
        yield int(answer.split()[1]) or pid
    finally:
        os.close(from_parent)
        os.close(to_parent)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _expect(fd: int, word: bytes) -> bytes:
    answer = os.read(fd, 4096)
    if not answer.startswith(word):
        raise MissingError(f"no namespaces here: {answer.decode() or 'the child died'}")
    return answer


def _child(
    root: str,
    flags: int,
    uid: int,
    gid: int,
    groups: Sequence[int],
    caps: int | None,
    setup: Callable[[], None],
    inside: Callable[[], None],
    receive: int,
    send: int,
) -> None:
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.unshare(flags)
        os.write(send, b"unshared\n")
        os.read(receive, 4096)
        first = 0
        if flags & CLONE_NEWPID:
            first = os.fork()
            if first:
                os.read(receive, 1)
                os.kill(first, signal.SIGKILL)
                os._exit(0)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if flags & syscalls.CLONE_NEWUSER:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        host_pid = int(Path("/proc/self/stat").read_text().split()[0])  # still the host's /proc
        setup()
        os.chroot(root)
        os.chdir("/")
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        if caps is not None:
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        os.setresuid(uid, uid, uid)
        if caps is not None:
            syscalls.capset(caps)
        inside()
        os.write(send, b"ready %d\n" % (host_pid if flags & CLONE_NEWPID else 0))
        os.read(receive, 1)
    except BaseException as e:
        os.write(send, f"{type(e).__name__}: {e}".encode())
    finally:
        os._exit(0)


def fill(directory: Path | str, names: Sequence[bytes], mode: int = 0o644) -> None:
    """Empty files."""
    fd = os.open(directory, os.O_RDONLY)
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, mode, dir_fd=fd))
    os.close(fd)


def deep(directory: Path | str, levels: int, *, side: bool = False) -> None:
    """A chain of directories ``d/d/d/...``, with a directory ``s`` beside each if ``side``."""
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        if side:
            os.mkdir("s", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
