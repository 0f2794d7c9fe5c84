"""The system calls of the attackers, cheap enough for 100,000 a second from Python.

Through ``PyDLL`` (an attacker has one thread; giving up the interpreter lock costs more than the
call), without conversion and without errno: -1 is failure, and a failed round is a round.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final, NamedTuple

AT_FDCWD: Final = -100
EXCHANGE: Final = 2
EMPTY_PATH: Final = 0x1000
NOFOLLOW: Final = 0x100
CLONE_NEWNS: Final = 0x00020000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 1 << 18
MNT_DETACH: Final = 2

_libc = ctypes.PyDLL(None, use_errno=True)
link = _libc["linkat"]
unlink = _libc["unlinkat"]
rename = _libc["renameat2"]
mount = _libc["mount"]
umount = _libc["umount2"]
unshare = _libc["unshare"]
fchownat = _libc["fchownat"]
_statx = _libc["statx"]
_prctl = _libc["prctl"]

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29
_BASIC, _BTIME = 0x07FF, 0x0800
_FIELDS = struct.Struct("=8xQI10s2xQ40xqI4xqI148x")
_OWNER = struct.Struct("=IIH")
_out = ctypes.create_string_buffer(256)
_uid = memoryview(_out).cast("B")[20:24].cast("I")


class Stat(NamedTuple):
    uid: int
    gid: int
    mode: int
    nlink: int
    ino: int
    btime: tuple[int, int]
    ctime: tuple[int, int]


def uid_of(fd: int, name: bytes) -> int:
    """The owner, -1 if there is no such file: one call and no object."""
    if _statx(fd, name, NOFOLLOW | EMPTY_PATH, _BASIC, _out):
        return -1
    return _uid[0]


def stat(fd: int, name: bytes = b"") -> Stat | None:
    """``None``: no such file."""
    if _statx(fd, name, NOFOLLOW | EMPTY_PATH, _BASIC | _BTIME, _out):
        return None
    _, nlink, owner, ino, bs, bns, cs, cns = _FIELDS.unpack(_out.raw)
    uid, gid, mode = _OWNER.unpack(owner)
    return Stat(uid, gid, mode, nlink, ino, (bs, bns), (cs, cns))


def raw_statx(fd: int, mask: int) -> bytes:
    """Of what a descriptor holds, as the kernel gives it."""
    must(_statx(fd, b"", EMPTY_PATH, mask, _out))
    return _out.raw


def swap(fd_a: int, a: bytes, fd_b: int, b: bytes) -> int:
    """RENAME_EXCHANGE."""
    return int(rename(fd_a, a, fd_b, b, EXCHANGE))


def must(result: int) -> None:
    """For what sets a scene."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def own_mounts() -> None:
    """From here on mounts of ours are seen by us and our children only."""
    must(unshare(CLONE_NEWNS))
    must(mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def sleep_exactly() -> None:
    """Sleeps of this process end when they are due, not up to 50 us later."""
    _prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
