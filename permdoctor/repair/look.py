"""Looking at entries by name below a held directory, and at what a descriptor holds.

A change within the tick of the kernel's clock in which an entry was last changed cannot be told by
its ctime, so entries that are so fresh are looked at again a little later; those that stay fresh
are being changed right now.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence

from permdoctor.host import acl as acl_xattr
from permdoctor.host import inodes
from permdoctor.host.scan import BATCH
from permdoctor.host.syscalls import STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE
from permdoctor.repair.state import CAPS, State
from permdoctor.repair.syscalls import OWNER, Statx

FRESH_NS = 40_000_000
"""Longer than any tick (CONFIG_HZ=100: 10 ms)."""
_FUTURE_NS = 1_000_000_000
_WAITS = 25

Row = tuple[int, int, bytes, int, int, int, int, int]
"""attributes, nlink, (uid, gid, mode), ino, btime (s, ns), ctime (s, ns)."""

FLAGS = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND


class Looker:
    """Looks at names; waits for fresh ones, but not for ever."""

    def __init__(self) -> None:
        self.statx = Statx(BATCH)
        self._waits = _WAITS

    def rows(self, fd: int, names: Sequence[bytes]) -> list[Row | None]:
        """One look at each name; ``None`` where that failed."""
        rows = self._look(fd, names)
        fresh = fresh_ones(rows)
        while fresh and self._waits:
            self._waits -= 1
            time.sleep(FRESH_NS / 1e9)
            again = self._look(fd, [names[i] for i in fresh])
            for i, row in zip(fresh, again, strict=True):
                rows[i] = row
            still = set(fresh_ones(again))
            fresh = [i for n, i in enumerate(fresh) if n in still]
        return rows

    def _look(self, fd: int, names: Sequence[bytes]) -> list[Row | None]:
        failed = self.statx.names(fd, names)
        rows: list[Row | None] = list(self.statx.results(len(names)))
        if any(failed):
            rows = [None if f else r for f, r in zip(failed, rows, strict=True)]
        return rows


def fresh_ones(rows: Sequence[Row | None]) -> list[int]:
    """Which of them changed a moment ago.  A time in the future is not fresh: whatever comes
    now will differ from it.
    """
    now = time.time_ns()
    second = (now - FRESH_NS) // 1_000_000_000
    if max((r[6] for r in rows if r is not None), default=0) < second:
        return []
    return [
        i
        for i, r in enumerate(rows)
        if r is not None and now - FRESH_NS < r[6] * 1_000_000_000 + r[7] < now + _FUTURE_NS
    ]


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
    return State(
        state.uid,
        state.gid,
        state.mode,
        state.flags,
        inodes.acl_blob(path, acl_xattr.ACCESS),
        inodes.acl_blob(path, acl_xattr.DEFAULT) if state.is_dir else None,
        caps=inodes.acl_blob(path, CAPS) if stat.S_ISREG(state.mode) else None,
        linked=state.linked,
        unsteady=state.unsteady,
    )


def look_at(fd: int) -> tuple[Row, State]:
    """Row and state of one held object.  Raises ``OSError``."""
    statx = Statx(1)
    if statx.fds([fd])[0]:
        os.stat(b"/proc/self/fd/%d" % fd)  # raises what it was
        raise OSError("statx")
    row = statx.results(1)[0]
    return row, state_of_fd(fd, row)
