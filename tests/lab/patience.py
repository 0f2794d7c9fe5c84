"""Seconds in which the machine really ran: to wait for something, and to say what is too long.

A virtual machine's processors are shared: what its host took from those who wanted to run is
"steal" (proc(5), /proc/stat).  A limit that is meant for a machine must not count that.  Nor is it
what the code should take, but less than what it takes without what is tested: machines stand still
for seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

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


def until(
    what: Callable[[], T], *, seconds: float = 60.0, every: float = 0.2, say: object = ""
) -> T:
    """The first true value, within so many seconds in which the machine ran."""
    patience = Patience(seconds)
    while not (value := what()):
        if patience.over:
            why = say() if callable(say) else say
            raise AssertionError(f"not within {seconds:g} s: {why}")
        time.sleep(every)
    return value


@contextlib.contextmanager
def within(seconds: float, why: str = "") -> Iterator[None]:
    """What is done in it takes no longer than so many seconds in which the machine ran."""
    patience = Patience(seconds)
    yield
    passed = patience.passed()
    assert passed < seconds, f"it took {passed:.1f} s, not {seconds:g}: {why}"


def _ticks() -> tuple[int, int]:
    """What all processors ran, and what was stolen of them."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return user + nice + system + irq + softirq, steal
