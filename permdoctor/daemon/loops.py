"""Crash loops: names that are started again and again and never last.

An engine starts what a restart policy names after a pause of 0.1 s, which doubles up to a minute
and begins anew after a run of ten seconds (moby: restartmanager.go).  Such a run is over before
anybody can look at it.  So after ``MANY`` short runs of one name it is the container that is judged
and not the run: it stays known between its runs, and is judged from its configuration then; a
result of any of its runs counts.
"""

from __future__ import annotations

from typing import Final

from permdoctor.daemon.episodes import Name
from permdoctor.daemon.timers import Timers

SHORT: Final = 10.0
"""Seconds; a run that lasts for longer is none of a loop."""

MANY: Final = 2
"""Short runs in a row."""

AWAY: Final = 120.0
"""Seconds without a start after which a loop is over: twice the longest pause of an engine."""


class Loops:
    """Times are monotonic seconds.  At most ``limit`` names: the oldest are forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: dict[Name, int] = {}
        self._forget: Timers[Name] = Timers()

    def has(self, name: Name) -> bool:
        return self._runs.get(name, 0) >= MANY

    def ended(self, name: Name, lasted: float, now: float) -> int:
        """A run is over that lasted so many seconds: how many short ones there were in a row."""
        before = self._runs.pop(name, 0)
        runs = before + 1 if lasted < SHORT else 0
        if not runs:
            self._forget.discard(name)
            return 0
        self._runs[name] = runs
        self._forget.set(name, now + AWAY)
        if len(self._runs) > self._limit:
            oldest = next(iter(self._runs))
            del self._runs[oldest]
            self._forget.discard(oldest)
        return runs

    def advance(self, now: float) -> None:
        while (name := self._forget.pop(now)) is not None:
            del self._runs[name]
