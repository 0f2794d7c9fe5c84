"""The calls that change an inode, by descriptor only; and calls made for many entries at once.

A change never takes a name: owner and mode go through AT_EMPTY_PATH, ACLs and capabilities
through /proc/self/fd/N, which leads to the held inode whatever its names are now.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Final

from permdoctor.host import syscalls
from permdoctor.host.syscalls import AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW

BATCH: Final = 256
"""Entries that are held open at once by one worker."""

RESOLVE: Final = (
    syscalls.RESOLVE_BENEATH
    | syscalls.RESOLVE_NO_XDEV
    | syscalls.RESOLVE_NO_SYMLINKS
    | syscalls.RESOLVE_NO_MAGICLINKS
)

_SYS_OPENAT2 = 437
_SYS_FCHMODAT2 = 452
_HOW = struct.pack("=QQQ", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, RESOLVE)
_MASK = syscalls.STATX_BASIC_STATS | syscalls.STATX_BTIME

FIELDS: Final = struct.Struct("=8xQI10s2xQ40xqI4xqI148x")
"""Of struct statx: attributes, nlink, (uid, gid, mode) as they lie there, ino, btime, ctime."""
OWNER: Final = struct.Struct("=IIH")

_libc = ctypes.PyDLL(None)
"""Keeps the interpreter lock: letting it go and taking it back costs a tenth of each call."""
_syscall = _libc["syscall"]
_statx = _libc["statx"]
_fchownat = _libc["fchownat"]
_llistxattr = _libc["llistxattr"]
_close = _libc["close"]
_checked = ctypes.CDLL(None, use_errno=True)


class Statx:
    """Room for so many results."""

    def __init__(self, count: int) -> None:
        self._out = ctypes.create_string_buffer(count * syscalls.STATX_SIZE)
        self._view = memoryview(self._out).cast("B")
        self._slots = [ctypes.byref(self._out, i * syscalls.STATX_SIZE) for i in range(count)]
        self._flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH

    def names(self, fd: int, names: Sequence[bytes]) -> list[int]:
        """statx of each name below a directory; 0 or -1 each."""
        more = (repeat(self._flags), repeat(_MASK), self._slots)
        return list(map(_statx, repeat(fd), names, *more))

    def fds(self, fds: Sequence[int]) -> list[int]:
        """statx of what each descriptor holds."""
        more = (repeat(b""), repeat(self._flags), repeat(_MASK), self._slots)
        return list(map(_statx, fds, *more))

    def results(self, count: int) -> list[tuple[int, int, bytes, int, int, int, int, int]]:
        """``FIELDS`` of the first results."""
        return list(FIELDS.iter_unpack(self._view[: count * syscalls.STATX_SIZE]))


def open_names(fd: int, names: Sequence[bytes]) -> list[int]:
    """An O_PATH descriptor of each name below a directory, -1 where there is none."""
    more = (repeat(_HOW), repeat(len(_HOW)))
    return list(map(_syscall, repeat(_SYS_OPENAT2), repeat(fd), names, *more))


def open_name(fd: int, name: bytes) -> int:
    """One of them.  Raises ``OSError``."""
    return syscalls.openat2(fd, name, os.O_PATH | os.O_NOFOLLOW, RESOLVE)


def close_all(fds: Sequence[int]) -> None:
    deque(map(_close, fds), maxlen=0)


def chown_all(fds: Sequence[int], uid: int, gid: int) -> list[int]:
    """fchownat(2) of what each descriptor holds; 0 or -1 each."""
    owner = (repeat(ctypes.c_uint(uid)), repeat(ctypes.c_uint(gid)))
    return list(map(_fchownat, fds, repeat(b""), *owner, repeat(AT_EMPTY_PATH)))


def list_sizes(names: Sequence[bytes]) -> list[int]:
    """Bytes that llistxattr(2) has for each name in the *working directory*; -1 on failure."""
    return list(map(_llistxattr, names, repeat(None), repeat(0)))


def chown(fd: int, uid: int, gid: int) -> None:
    """Raises ``OSError``."""
    if _checked.fchownat(fd, b"", ctypes.c_uint(uid), ctypes.c_uint(gid), AT_EMPTY_PATH):
        raise _error("fchownat")


def chmod(fd: int, mode: int) -> None:
    """fchmodat2(2), or before Linux 6.6 chmod(2) of /proc/self/fd/N.  Raises ``OSError``."""
    if not _checked.syscall(_SYS_FCHMODAT2, fd, b"", mode, AT_EMPTY_PATH):
        return
    if ctypes.get_errno() != errno.ENOSYS:
        raise _error("fchmodat2")
    os.chmod(b"/proc/self/fd/%d" % fd, mode)


def set_xattr(fd: int, name: bytes, value: bytes | None) -> None:
    """Set it, or remove it if ``value`` is ``None`` (none there is no error).

    Raises ``OSError``.
    """
    path = b"/proc/self/fd/%d" % fd
    if value is not None:
        os.setxattr(path, name, value)
        return
    try:
        os.removexattr(path, name)
    except OSError as e:
        if e.errno != errno.ENODATA:
            raise


def _error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")
