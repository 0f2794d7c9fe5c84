"""When to try again, and how often at all.  Pure: times are monotonic seconds, chance is given."""

from __future__ import annotations

from typing import Final

FIRST: Final = 1.0
CAP: Final = 300.0
"""Seconds: what is waited after the first failure at most, and after many."""

LONGEST_ASKED: Final = 3600.0
"""How long a sink may ask to be left alone."""


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, capped, and a random
    part of it (``chance`` in [0, 1)) so that many hosts do not come back at the same moment; at
    least half, so that it is not at once.
    """
    longest = min(CAP, FIRST * 2.0 ** min(failures - 1, 30))
    return longest * (0.5 + chance / 2)


class Bucket:
    """A token bucket: ``per_minute`` on average, and as many in one burst."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._capacity = float(per_minute)
        self._tokens, self._at = self._capacity, now

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0: now."""
        self._fill(now)
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) * 60 / self._capacity

    def take(self, now: float) -> None:
        self._fill(now)
        self._tokens -= 1

    def _fill(self, now: float) -> None:
        grown = max(0.0, now - self._at) * self._capacity / 60
        self._tokens, self._at = min(self._capacity, self._tokens + grown), now
