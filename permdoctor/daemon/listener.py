"""Files and sockets that are born with their mode and group, in directories nobody else can write.

A mode that is changed after the file is there comes too late, and changes whatever has the name
by then.  So the file is made in a thread of its own, with its own umask (unshare(2), CLONE_FS) and
its own group for new files (setfsgid(2)), which end with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import os
import socket
import stat
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.host.syscalls import unshare
from permdoctor.kernel.text import printable

T = TypeVar("T")

CLONE_FS: Final = 0x200
SOCKET_MASK: Final = 0o117
"""0660."""

MAX_PATH: Final = 107
"""sun_path of unix(7), without its NUL."""

BACKLOG: Final = 64


class NotOurGroupError(CannotCheckError):
    """A group that we are not in, and may not give."""


def listen(path: str, group: str) -> socket.socket:
    """A listening unix socket of mode 0660 and that group (a name or number; empty: ours).

    One that is there is replaced if nobody listens at it.  Raises ``UsageError`` for a place or a
    group that cannot be, ``CannotCheckError`` where somebody listens or the machine refuses, and
    of these ``NotOurGroupError`` where it is the group that we may not give.
    """
    shown = printable(path)
    if len(os.fsencode(path)) > MAX_PATH:
        raise UsageError(
            f"service.socket: {shown} is longer than {MAX_PATH} bytes",
            hint="name a shorter path, such as /run/permdoctor/status.sock",
        )
    gid = group_id(group) if group else None
    try:
        _safe_directory(os.path.dirname(path))
        _remove_stale(path)
        return _bound(path, gid, group)
    except OSError as e:
        raise CannotCheckError(
            f"cannot listen at {shown}: {e.strerror}",
            hint='service.socket names another place, or none with ""',
        ) from e


def unlink(path: str, inode: tuple[int, int]) -> None:
    """Remove the socket, if it still is the one with this device and number."""
    with contextlib.suppress(OSError):
        if identity(path) == inode:
            os.unlink(path)


def identity(path: str) -> tuple[int, int]:
    """Device and number of what has the name itself."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def group_id(name: str) -> int:
    """Raises ``UsageError``."""
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(
            f"service.socket_group: there is no group {printable(name)}",
            hint=f"groupadd --system {printable(name)}",
        ) from None


def born(make: Callable[[], T], *, umask: int, gid: int | None = None) -> T:
    """What ``make`` returns or raises, called with this umask and group of new files.

    Without CAP_SETGID a group other than the process's own is not taken, without a word:
    setfsgid(2).  Look at what was made.
    """
    result: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            unshare(CLONE_FS)
            os.umask(umask)
            if gid is not None:
                _libc.setfsgid(gid)
            result.append(make())
        except BaseException as e:  # noqa: BLE001 - raised again in the caller's thread
            raised.append(e)

    thread = threading.Thread(target=run, name="permdoctor-born")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return result[0]


_libc = ctypes.CDLL(None)
_libc.setfsgid.argtypes = [ctypes.c_uint]


def _safe_directory(path: str) -> None:
    """Made if it is missing, 0755.  Who can write in it could put another socket there."""
    with contextlib.suppress(FileExistsError):
        born(lambda: os.mkdir(path, 0o755), umask=0o022)
    status = os.stat(path)
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if others or status.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"service.socket: others than root may write in {printable(path)}",
            hint="put the socket into a directory of its own, such as /run/permdoctor",
        )


def _remove_stale(path: str) -> None:
    shown = printable(path)
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise UsageError(
                f"service.socket: {shown} is there and is no socket; it is left as it is"
            )
        if _somebody_listens(fd):
            raise CannotCheckError(
                f"somebody listens at {shown} already",
                hint="one service at a time: systemctl status permdoctor",
            )
    finally:
        os.close(fd)
    os.unlink(path)


def _somebody_listens(fd: int) -> bool:
    """At the socket that an O_PATH descriptor holds, whatever its name is by now."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        refused = probe.connect_ex(f"/proc/self/fd/{fd}")
    return refused != errno.ECONNREFUSED


def _bound(path: str, gid: int | None, group: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        born(lambda: listener.bind(path), umask=SOCKET_MASK, gid=gid)
        if gid is not None and os.lstat(path).st_gid != gid:
            os.unlink(path)
            raise NotOurGroupError(
                f"cannot give {printable(path)} to the group {printable(group)}: "
                "that needs CAP_SETGID",
                hint="`permdoctor systemd drop-in --write` makes it the group of the unit",
            )
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
