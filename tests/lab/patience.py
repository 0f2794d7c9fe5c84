"""Seconds in which the machine really ran.

A virtual machine's processors are shared: what its host took from those who wanted to run is
"steal" (proc(5), /proc/stat).  A limit that is meant for a machine must not count that.
"""

from __future__ import annotations

import time
from pathlib import Path

LEAST = 0.04
"""Of a second, even where nearly everything is stolen: there must be an end."""


class Patience:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = time.monotonic()
        self._ran, self._stolen = _ticks()

    def passed(self) -> float:
        """Seconds since the beginning, less what was stolen of them."""
        ran, stolen = _ticks()
        ran, stolen = ran - self._ran, stolen - self._stolen
        share = ran / (ran + stolen) if ran + stolen else 1.0
        return (time.monotonic() - self._begun) * max(share, LEAST)

    @property
    def over(self) -> bool:
        return self.passed() >= self._seconds


def _ticks() -> tuple[int, int]:
    """What all processors ran, and what was stolen of them."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return user + nice + system + irq + softirq, steal
