"""``[[ignore]]``: which findings are shown and not told, and why.

All that a silence gives must match.  Its globs are as ``fnmatch``'s, whole and with case; ``*``
matches ``/``, too.  It ends at ``expires``, by the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from permdoctor.daemon.events import Found, Silence

Labels = tuple[tuple[str, str], ...]


def ignored(
    silences: Iterable[Silence], found: Found, container: str, labels: Labels, wall: float
) -> str:
    """The reason of the first silence that holds at ``wall`` and matches; empty: none does."""
    for silence in silences:
        if _holds(silence, wall) and _matches(silence, found, container, labels):
            return silence.reason or "ignored"
    return ""


def next_expiry(silences: Iterable[Silence], wall: float) -> float | None:
    """When the next of those that hold at ``wall`` ends."""
    return min(
        (s.expires for s in silences if s.expires is not None and s.expires > wall), default=None
    )


def _holds(silence: Silence, wall: float) -> bool:
    return silence.expires is None or wall < silence.expires


def _matches(silence: Silence, found: Found, container: str, labels: Labels) -> bool:
    return (
        fnmatchcase(found.problem.code, silence.code)
        and fnmatchcase(container, silence.container)
        and _path(silence.path, found)
        and _label(silence.label, labels)
    )


def _path(glob: str, found: Found) -> bool:
    """The path of the host, or the one inside."""
    return fnmatchcase(found.host_path, glob) or fnmatchcase(found.problem.target, glob)


def _label(glob: str, labels: Labels) -> bool:
    if not glob:
        return True
    if "=" in glob:
        return any(fnmatchcase(f"{key}={value}", glob) for key, value in labels)
    return any(fnmatchcase(key, glob) for key, _ in labels)
