"""Which host paths are to be watched, and whose they are.

Those that came first stay watched; what is beyond the limit has its turn when one of them goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from permdoctor.daemon.events import ContainerRef


class Roots:
    """``changed`` says that the set to be watched is another than :meth:`taken` gave last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._users: dict[bytes, dict[ContainerRef, None]] = {}
        self._of: dict[ContainerRef, tuple[bytes, ...]] = {}
        self.changed = False

    def __len__(self) -> int:
        return len(self._users)

    @property
    def watched(self) -> int:
        return min(len(self._users), self._limit)

    def set(self, ref: ContainerRef, roots: tuple[bytes, ...]) -> None:
        before = self._of.get(ref, ())
        if roots == before:
            return
        for root in set(before).difference(roots):
            users = self._users[root]
            users.pop(ref, None)
            if not users:
                del self._users[root]
                self.changed = True
        for root in roots:
            if root not in self._users:
                self._users[root] = {}
                self.changed = True
            self._users[root][ref] = None
        if roots:
            self._of[ref] = roots
        else:
            self._of.pop(ref, None)

    def taken(self) -> tuple[bytes, ...]:
        """What is to be watched, sorted."""
        self.changed = False
        return tuple(sorted(islice(self._users, self._limit)))

    def users(self, path: bytes) -> tuple[ContainerRef, ...]:
        """Whose roots cover a path."""
        found: dict[ContainerRef, None] = {}
        for top in _upwards(path):
            found.update(self._users.get(top, {}))
        return tuple(found)


def _upwards(path: bytes) -> Iterator[bytes]:
    """An absolute, clean path, and every directory above it."""
    while path != b"/" and path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b"/"
