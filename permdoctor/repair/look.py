"""Looking at entries by name below a held directory, and at what a descriptor holds.

A change within the tick of the kernel's clock in which an entry was last changed cannot be told by
its ctime, so entries that are so fresh are looked at again a little later; those that stay fresh
are being changed right now.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence

from msgspec.structs import replace

from permdoctor.host import acl as acl_xattr
from permdoctor.host import inodes
from permdoctor.host.scan import BATCH
from permdoctor.host.syscalls import STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE
from permdoctor.repair.state import CAPS, State
from permdoctor.repair.syscalls import OWNER, Row, Statx

FRESH_NS = 40_000_000
"""Longer than any tick (CONFIG_HZ=100: 10 ms)."""
COARSE_NS = 1_100_000_000
"""Where times are whole seconds, as far as one can see."""
_FUTURE_NS = 1_000_000_000
_WAITS = 25

FLAGS = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND


class Looker:
    """Looks at names below a directory; waits for fresh ones, but not for ever.

    After ``look``: ``failed`` and ``fresh`` hold the numbers of names that are not there, and of
    those that are being changed.
    """

    def __init__(self) -> None:
        self.statx = Statx(BATCH)
        self.failed: frozenset[int] = frozenset()
        self.fresh: frozenset[int] = frozenset()
        self._waits = _WAITS

    def look(self, fd: int, names: Sequence[bytes]) -> None:
        """One look at each name, at most ``BATCH`` of them."""
        self._look(fd, names)
        while self.fresh and self._waits:
            self._waits -= 1
            time.sleep(FRESH_NS / 1e9)
            self._look(fd, names)

    def _look(self, fd: int, names: Sequence[bytes]) -> None:
        now = time.time_ns()
        self.failed = frozenset(self.statx.names(fd, names))
        self.fresh = frozenset()
        if self.statx.newest(len(names)) >= now // 1_000_000_000 - 2:
            rows = self.statx.rows(len(names))
            self.fresh = frozenset(i for i, r in enumerate(rows) if is_fresh(r, now))
            self.fresh -= self.failed


def is_fresh(row: Row, now: int) -> bool:
    """Whether it changed a moment before ``now`` (ns since the epoch), or later.

    ``now`` is from *before* the look: whoever looks may be kept waiting for long.  A time in the
    future is not fresh: whatever comes now will differ from it.
    """
    fresh = FRESH_NS if row[7] else COARSE_NS
    return now - fresh < row[6] * 1_000_000_000 + row[7] < now + _FUTURE_NS


def bare_state(row: Row, *, unsteady: bool = False) -> State:
    """The state as far as statx tells it: without ACLs and capabilities."""
    uid, gid, mode = OWNER.unpack(row[2])
    linked = row[1] > 1 and not stat.S_ISDIR(mode)
    return State(uid, gid, mode, row[0] & FLAGS, linked=linked, unsteady=unsteady)


def state_of_fd(fd: int, row: Row) -> State:
    """The whole state of what a descriptor holds.  Raises ``OSError``."""
    return with_xattrs(bare_state(row), b"/proc/self/fd/%d" % fd)


def with_xattrs(state: State, path: bytes) -> State:
    """The state with ACLs and capabilities; ``path`` is a name in the working directory, or
    /proc/self/fd/N.  Raises ``OSError``.
    """
    if stat.S_ISLNK(state.mode):
        return state
    acl = inodes.acl_blob(path, acl_xattr.ACCESS)
    default = inodes.acl_blob(path, acl_xattr.DEFAULT) if state.is_dir else None
    caps = inodes.acl_blob(path, CAPS) if stat.S_ISREG(state.mode) else None
    return replace(state, acl=acl, default=default, caps=caps)


def look_at(fd: int) -> tuple[Row, State]:
    """Row and state of one held object; if it is fresh, a little later.  Raises ``OSError``."""
    statx = Statx(1)
    for last in (False, True):
        now = time.time_ns()
        if statx.fds([fd]):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        row = statx.row(0)
        state = state_of_fd(fd, row)
        if not is_fresh(row, now):
            return row, state
        if not last:
            time.sleep(2 * FRESH_NS / 1e9)
    return row, replace(state, unsteady=True)
