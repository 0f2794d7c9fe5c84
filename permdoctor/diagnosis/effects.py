"""Who gains what by a plan, and who loses what: its changes put to the rules for everybody.

Everybody is: the container's processes, other containers that mount the same, the account that
owns the mount, and whoever owns an entry now.  Root of the host is left out: nothing changes for
it.  Rights on the entries themselves are judged, not the way to them.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.plan import Summary


class Right(StrEnum):
    """WRITE of a directory is to create and delete in it; OWN is chmod and chown."""

    READ = "read"
    WRITE = "write"
    OWN = "own"


class Effect(Struct, frozen=True, kw_only=True):
    """Somebody's rights on ``count`` entries of the tree at ``path`` that change alike.

    ``samples`` are up to three paths relative to ``path``.
    """

    who: str
    path: bytes
    gains: tuple[Right, ...]
    loses: tuple[Right, ...]
    count: int
    samples: tuple[bytes, ...]


def effects(summary: Summary, facts: Facts | None = None) -> tuple[Effect, ...]:
    """Losses first, then by count.  Without ``facts`` only owners by their number are judged."""
    raise NotImplementedError
