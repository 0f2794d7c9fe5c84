"""Paths in which somebody may have written, until those who share them are looked for."""

from __future__ import annotations

from permdoctor.daemon.events import ContainerRef
from permdoctor.daemon.timers import Timers


class Touched:
    """Times are monotonic seconds.  What is touched often before it is due is due once."""

    def __init__(self) -> None:
        self._due: Timers[bytes] = Timers()
        self._by: dict[bytes, ContainerRef | None] = {}

    def add(self, path: bytes, by: ContainerRef, at: float) -> None:
        known = self._by.get(path, by)
        self._by[path] = by if known == by else None
        self._due.sooner(path, at)

    def pop(self, now: float) -> tuple[bytes, ContainerRef | None] | None:
        """A path that is due, and who touched it; ``None``: several did."""
        path = self._due.pop(now)
        return None if path is None else (path, self._by.pop(path))

    def first(self) -> float | None:
        return self._due.first()
