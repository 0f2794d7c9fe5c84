"""Containers that were made and have not been started: Docker says nothing of a start that fails.

Whether it was refused shows in a list.  Most are started at once, and are not waited for; compose
makes what depends on others long before it starts it, so the pauses double, up to the next sweep.
"""

from __future__ import annotations

from typing import Final

from permdoctor.daemon.events import ContainerRef
from permdoctor.daemon.timers import Timers

FIRST: Final = 5.0
"""Seconds from the making to the first look."""


class Unstarted:
    """At most ``limit`` of them: the others are found by a sweep.  Times are monotonic seconds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._due: Timers[ContainerRef] = Timers()
        self._pauses: dict[ContainerRef, float] = {}

    def made(self, ref: ContainerRef, now: float) -> None:
        if ref in self._pauses or len(self._pauses) >= self._limit:
            return
        self._pauses[ref] = FIRST
        self._due.set(ref, now + FIRST)

    def discard(self, ref: ContainerRef) -> None:
        """It was started, refused, or removed."""
        self._pauses.pop(ref, None)
        self._due.discard(ref)

    def first(self) -> float | None:
        return self._due.first()

    def pop(self, now: float, most: float) -> ContainerRef | None:
        """One that is to be looked at now; again after twice the time, unless that is more than
        ``most`` seconds.
        """
        ref = self._due.pop(now)
        if ref is None:
            return None
        pause = 2 * self._pauses.pop(ref)
        if pause <= most:
            self._pauses[ref] = pause
            self._due.set(ref, now + pause)
        return ref
