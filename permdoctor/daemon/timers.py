"""What is due when: one time for each key, the earliest first, those of one time in their order.

Setting, discarding and popping cost O(log n).  Memory is bounded by the keys that are set.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64


class Timers(Generic[K]):
    """Times are of any one clock."""

    def __init__(self) -> None:
        self._times: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, key: K) -> bool:
        return key in self._times

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._times))

    def get(self, key: K) -> float | None:
        entry = self._times.get(key)
        return None if entry is None else entry[0]

    def set(self, key: K, at: float) -> None:
        """Another time than before moves it."""
        known = self._times.get(key)
        if known is not None and known[0] == at:
            return
        self._order += 1
        self._times[key] = (at, self._order)
        heapq.heappush(self._heap, (at, self._order, key))
        if len(self._heap) > 2 * len(self._times) + _SLACK:
            self._heap = [(t, n, k) for k, (t, n) in self._times.items()]
            heapq.heapify(self._heap)

    def sooner(self, key: K, at: float) -> None:
        """Set it, unless it is due before that anyway."""
        known = self._times.get(key)
        if known is None or at < known[0]:
            self.set(key, at)

    def discard(self, key: K) -> None:
        self._times.pop(key, None)
        if not self._times:
            self._heap.clear()

    def first(self) -> float | None:
        """The earliest time; ``None``: nothing is set."""
        while self._heap:
            at, order, key = self._heap[0]
            if self._times.get(key) == (at, order):
                return at
            heapq.heappop(self._heap)
        return None

    def pop(self, now: float) -> K | None:
        """The first key that is due by ``now``; it is no longer set."""
        at = self.first()
        if at is None or at > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._times[key]
        return key
