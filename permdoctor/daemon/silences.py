"""``[[ignore]]``: which findings are shown and not told, and why.

What a silence covers, ``diagnosis/ignoring.py`` says.  It ends at ``expires``, by the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from permdoctor.daemon.events import Found, Silence
from permdoctor.diagnosis.ignoring import Labels as Labels
from permdoctor.diagnosis.ignoring import covers


def ignored(
    silences: Iterable[Silence], found: Found, container: str, labels: Labels, wall: float
) -> str:
    """The reason of the first silence that holds at ``wall`` and matches; empty: none does."""
    problem = found.problem
    paths = (found.host_path, problem.target)
    for silence in silences:
        if _holds(silence, wall) and covers(silence, problem.code, container, labels, paths):
            return silence.reason or "ignored"
    return ""


def next_expiry(silences: Iterable[Silence], wall: float) -> float | None:
    """When the next of those that hold at ``wall`` ends."""
    return min(
        (s.expires for s in silences if s.expires is not None and s.expires > wall), default=None
    )


def _holds(silence: Silence, wall: float) -> bool:
    return silence.expires is None or wall < silence.expires
