"""How many repairs an hour may have: all of them together, and those for one container.

Who undoes what is repaired in it, again and again, uses up its own share and nobody else's.  A
container that was made anew under its old name goes on where that one was.
"""

from __future__ import annotations

from collections import deque

from permdoctor.daemon.episodes import HOUR, Name


class Quota:
    """When repairs were begun (monotonic), and for whom."""

    def __init__(self) -> None:
        self._begun: deque[tuple[float, Name]] = deque()

    def begin(self, name: Name, at: float) -> None:
        """Not earlier than the last one."""
        self._begun.append((at, name))

    def take_back(self, name: Name) -> None:
        """The last one for that name was none."""
        at = max((n for n, (_, of) in enumerate(self._begun) if of == name), default=None)
        if at is not None:
            del self._begun[at]

    def begun(self, now: float) -> int:
        """How many were within the last hour."""
        return len(self._within(now))

    def free(self, name: Name, most: int, now: float) -> tuple[float, str]:
        """When (monotonic) there is room for another one for this name if ``most`` may be in an
        hour, and why not now; in the past, and empty: there is.
        """
        if most <= 0:
            return float("inf"), "repair.per_hour is 0"
        every = [at for at, _ in self._within(now)]
        its = [at for at, of in self._begun if of == name]
        share = max(1, most // 2)
        if len(every) >= most:
            return every[-most] + HOUR, f"the {most} an hour (repair.per_hour) are used up"
        if len(its) >= share:
            return its[-share] + HOUR, f"one container has at most {share} of the {most} an hour"
        return now, ""

    def _within(self, now: float) -> deque[tuple[float, Name]]:
        while self._begun and now - self._begun[0][0] >= HOUR:
            self._begun.popleft()
        return self._begun
