"""The calls that change an inode, by descriptor only; and calls made for many entries at once.

A change never takes a name: owner and mode go through AT_EMPTY_PATH, ACLs and capabilities
through /proc/self/fd/N, which leads to the held inode whatever its names are now.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import struct
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Final

from permdoctor.host import syscalls
from permdoctor.host.scan import errno_location
from permdoctor.host.syscalls import AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW

BATCH: Final = 256
"""Entries that are held open at once by one worker."""

_OTHERS: Final = 192
"""Descriptors of a worker that are none: directories, leases, the plan."""

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

FIELDS: Final = struct.Struct("=8xQI10s2xQ40xQQQQ144x")
"""Of struct statx: attributes, nlink, (uid, gid, mode) as they lie there, and ``COLUMNS``."""
OWNER: Final = struct.Struct("=IIH")
COLUMNS: Final = (4, 10, 11, 12, 13)
"""Which 8-byte words of struct statx are ino, btime (s, ns) and ctime (s, ns)."""
CTIME_S: Final = 12
_KEY: Final = (1, 2, 3)
"""Words with attributes, nlink, uid, gid and mode."""
_WORDS: Final = syscalls.STATX_SIZE // 8

_libc = ctypes.PyDLL(None)
"""Keeps the interpreter lock: letting it go and taking it back costs a tenth of each call."""
_syscall = _libc["syscall"]
_statx = _libc["statx"]
_fchownat = _libc["fchownat"]
_llistxattr = _libc["llistxattr"]
_close = _libc["close"]
_checked = ctypes.CDLL(None, use_errno=True)


Row = tuple[int, int, bytes, int, int, int, int, int]
"""``FIELDS`` of one entry."""


class Statx:
    """Room for so many results, which are read by column: entry by entry costs ten times more."""

    def __init__(self, count: int) -> None:
        self._out = ctypes.create_string_buffer(count * syscalls.STATX_SIZE)
        self._bytes = memoryview(self._out).cast("B")
        self._words = self._bytes.cast("Q")
        self._slots = [ctypes.byref(self._out, i * syscalls.STATX_SIZE) for i in range(count)]
        self._flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH
        self._quick = _libc["statx"]
        self._quick.restype = None  # errno tells; making an int of each result takes its time
        self._errno = ctypes.c_int.from_address(errno_location())

    def names(self, fd: int, names: Sequence[bytes]) -> list[int]:
        """statx of each name below a directory: the numbers of those that failed."""
        return self._all([fd] * len(names), names)

    def fds(self, fds: Sequence[int]) -> list[int]:
        """statx of what each descriptor holds: the numbers of those that failed."""
        return self._all(fds, [b""] * len(fds))

    def _all(self, fds: Sequence[int], names: Sequence[bytes]) -> list[int]:
        more = (repeat(self._flags), repeat(_MASK), self._slots)
        self._errno.value = 0
        deque(map(self._quick, fds, names, *more), maxlen=0)
        if not self._errno.value:
            return []
        return [i for i, bad in enumerate(map(_statx, fds, names, *more)) if bad]

    def column(self, word: int, count: int) -> bytes:
        """One 8-byte word of each of the first results."""
        return self._words[word : count * _WORDS : _WORDS].tobytes()

    def columns(self, count: int) -> tuple[bytes, ...]:
        """``COLUMNS`` of the first results."""
        return tuple(self.column(w, count) for w in COLUMNS)

    def newest(self, count: int) -> int:
        """The latest ctime, in whole seconds."""
        return max(self._words[CTIME_S : count * _WORDS : _WORDS], default=0)

    def alike(self, count: int) -> bool:
        """Whether attributes, links, owner and mode of all are those of the first."""
        return all((c := self.column(w, count)) == c[:8] * count for w in _KEY)

    def all_single(self, count: int) -> bool:
        """Whether each has one link."""
        halves = self._bytes.cast("I")
        return halves[4 : count * 2 * _WORDS : 2 * _WORDS].tobytes() == struct.pack("=I", 1) * count

    def row(self, i: int) -> Row:
        row: Row = FIELDS.unpack_from(self._bytes, i * syscalls.STATX_SIZE)
        return row

    def rows(self, count: int) -> list[Row]:
        return [self.row(i) for i in range(count)]


def most_open() -> int:
    """How many entries may be held open at once, beside the directories on the way to them.

    Lifts the soft limit of descriptors as far as it goes.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = BATCH if soft == resource.RLIM_INFINITY else soft - _OTHERS
    return max(1, min(BATCH, room))


def open_names(fd: int, names: Sequence[bytes]) -> list[int]:
    """An O_PATH descriptor of each name below a directory, -1 where there is none."""
    more = (repeat(_HOW), repeat(len(_HOW)))
    return list(map(_syscall, repeat(_SYS_OPENAT2), repeat(fd), names, *more))


def open_name(fd: int, name: bytes) -> int:
    """One of them.  Raises ``OSError``."""
    return syscalls.openat2(fd, name, os.O_PATH | os.O_NOFOLLOW, RESOLVE)


def close_all(fds: Sequence[int]) -> None:
    """Close them; at once where nothing else lies between them."""
    if fds and max(fds) - min(fds) + 1 == len(fds):
        os.closerange(min(fds), max(fds) + 1)
    else:
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
