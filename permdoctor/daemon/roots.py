"""Which host paths are to be watched, whose they are, and which really are.

Those that came first stay watched; what is beyond the limit has its turn when one of them goes.
What the watcher has not been asked for, or says that it cannot watch, is *dark*.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from permdoctor.daemon.events import ContainerRef


class Roots:
    """``changed`` says that the set to be watched is another than :meth:`taken` gave last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._users: dict[bytes, dict[ContainerRef, None]] = {}
        self._of: dict[ContainerRef, tuple[bytes, ...]] = {}
        self._sorted: list[bytes] = []
        self._asked: frozenset[bytes] = frozenset()
        self._lit: frozenset[bytes] = frozenset()
        self._dark: frozenset[bytes] = frozenset()
        self.changed = False

    def __len__(self) -> int:
        return len(self._users)

    @property
    def beyond(self) -> int:
        """How many nobody is asked to watch."""
        return max(0, len(self._users) - self._limit)

    @property
    def watched(self) -> int:
        """How many are watched, with the directories in them.  O(n)."""
        return sum(root in self._lit for root in self._users)

    def set(self, ref: ContainerRef, roots: tuple[bytes, ...]) -> None:
        before = self._of.get(ref, ())
        if roots == before:
            return
        for root in set(before).difference(roots):
            users = self._users[root]
            users.pop(ref, None)
            if not users:
                del self._users[root]
                del self._sorted[bisect_left(self._sorted, root)]
                self.changed = True
        for root in roots:
            if root not in self._users:
                self._users[root] = {}
                insort(self._sorted, root)
                self.changed = True
            self._users[root][ref] = None
        if roots:
            self._of[ref] = roots
        else:
            self._of.pop(ref, None)

    def taken(self) -> tuple[bytes, ...]:
        """What is to be watched, sorted."""
        self.changed = False
        taken = tuple(sorted(islice(self._users, self._limit)))
        self._asked = frozenset(taken)
        return taken

    def seen(
        self, paths: tuple[bytes, ...], dark: tuple[bytes, ...]
    ) -> tuple[tuple[ContainerRef, ...], tuple[ContainerRef, ...]]:
        """Of these ``paths`` all but the ``dark`` ones are watched.  Whose are those that became
        dark, and whose those that are watched and were not.
        """
        were_dark, self._dark = self._dark, frozenset(dark)
        were_lit, self._lit = self._lit, frozenset(paths) - self._dark
        return self._whose(self._dark - were_dark), self._whose(self._lit - were_lit)

    def dark(self, ref: ContainerRef) -> bool:
        """Whether one of its roots is."""
        return any(r in self._dark or r not in self._asked for r in self._of.get(ref, ()))

    def near(self, path: bytes) -> tuple[ContainerRef, ...]:
        """Whose roots cover a path, or lie below it."""
        found = dict.fromkeys(self.users(path))
        below = path.rstrip(b"/") + b"/"
        for at in range(bisect_left(self._sorted, below), len(self._sorted)):
            if not self._sorted[at].startswith(below):
                break
            found.update(self._users[self._sorted[at]])
        return tuple(found)

    def users(self, path: bytes) -> tuple[ContainerRef, ...]:
        """Whose roots cover a path."""
        found: dict[ContainerRef, None] = {}
        for top in _upwards(path):
            found.update(self._users.get(top, {}))
        return tuple(found)

    def _whose(self, roots: frozenset[bytes]) -> tuple[ContainerRef, ...]:
        found: dict[ContainerRef, None] = {}
        for root in sorted(roots & self._users.keys()):
            found.update(self._users[root])
        return tuple(found)


def _upwards(path: bytes) -> Iterator[bytes]:
    """An absolute, clean path, and every directory above it."""
    while path != b"/" and path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b"/"
