"""How many inotify watches there may be, and whose they are."""

from __future__ import annotations

import threading
from typing import Protocol


class Holder(Protocol):
    """Who has watches ``below`` itself, and can do with one less."""

    @property
    def below(self) -> int: ...

    def give_up_one(self) -> bool: ...


class Room:
    """``most`` there may be, and so many are ``taken``.  Two threads count.

    Files and roots come first, and what is left is shared by the roots for the directories in them:
    one may have more than its share only until another needs its own.
    """

    def __init__(self) -> None:
        self.most = 0
        self.taken = 0
        self.roots: dict[Holder, None] = {}
        self._lock = threading.Lock()

    @property
    def share(self) -> int:
        """Directories in each root."""
        below = sum(r.below for r in self.roots)
        return max(0, self.most - self.taken + below) // max(1, len(self.roots))

    @property
    def is_full(self) -> bool:
        return self.taken >= self.most

    def count(self, more: int) -> None:
        with self._lock:
            self.taken += more

    def make(self, below: int | None) -> bool:
        """Whether there is room for one more, or can be made: for a directory in a root that has so
        many; ``None``: for a root itself, or a file.
        """
        if not self.is_full:
            return True
        least = 0 if below is None else self.share
        if below is not None and below >= least:
            return False
        largest = max(self.roots, key=lambda r: r.below, default=None)
        return largest is not None and largest.below > least and largest.give_up_one()
