"""Two that undo each other's repairs: containers, or policies, that want one path differently.

Who repairs is a container by a remedy, for a user.  When those who repaired overlapping paths
within the last hour have changed for the second time, or would with the next repair, nothing is
repaired there any more: until the rules change, or one of them is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from msgspec import Struct

from permdoctor.daemon.episodes import HOUR, Name
from permdoctor.kernel.mountinfo import is_beneath

FLIPS: Final = 2
_HISTORY: Final = 1024
_FIGHTS: Final = 256


class Did(Struct, frozen=True, kw_only=True):
    """Who repaired what, when (monotonic), and for which of its mounts.  ``who`` was refused
    something there, as in ``Found``; empty: not known.
    """

    at: float
    path: bytes
    name: Name
    remedy: str
    target: str
    who: str = ""

    @property
    def party(self) -> tuple[Name, str]:
        return self.name, self.remedy

    def undoes(self, other: Did) -> bool:
        """Whether it may have.  Two that repair for the same user in the same way want the same:
        it is somebody else who undoes that.
        """
        if self.remedy != other.remedy or not (self.who and other.who):
            return self.party != other.party
        return self.who != other.who


class Fight(Struct, frozen=True, kw_only=True):
    """Over which path, and the last repair of each of the parties."""

    path: bytes
    parties: tuple[Did, ...]


class Fights:
    """The history of an hour, and what was made of it."""

    def __init__(self) -> None:
        self._history: deque[Did] = deque(maxlen=_HISTORY)
        self._fights: list[Fight] = []

    def did(self, repair: Did) -> None:
        """Something was changed."""
        while self._history and repair.at - self._history[0].at >= HOUR:
            self._history.popleft()
        self._history.append(repair)

    def would(self, repair: Did) -> Fight | None:
        """The fight that this repair would go on with: an old one, or one that is seen now.  Who
        wanted it is a party.
        """
        old = self.over(repair.path)
        if old is not None:
            return self._begun(old.path, [*old.parties, repair])
        there = [d for d in self._history if repair.at - d.at < HOUR and _overlap(d, repair)]
        row = [*there, repair]
        flips = sum(b.undoes(a) for a, b in pairwise(row))
        return self._begun(repair.path, row) if flips >= FLIPS else None

    def restored(self, path: bytes, party: Did) -> None:
        """It was going on when the service ended."""
        old = next((f for f in self._fights if f.path == path), None)
        self._begun(path, [*(old.parties if old else ()), party])

    def over(self, path: bytes) -> Fight | None:
        """The fight over this path, or one above or below it."""
        return next((f for f in self._fights if _paths_overlap(f.path, path)), None)

    def of(self, name: Name) -> tuple[Fight, ...]:
        return tuple(f for f in self._fights if any(p.name == name for p in f.parties))

    def names(self) -> frozenset[Name]:
        return frozenset(p.name for f in self._fights for p in f.parties)

    def forget(self, name: Name) -> None:
        """A party is gone: the others have peace."""
        self._fights = [f for f in self._fights if all(p.name != name for p in f.parties)]
        kept = [d for d in self._history if d.name != name]
        self._history = deque(kept, maxlen=_HISTORY)

    def clear(self) -> None:
        self._fights.clear()
        self._history.clear()

    def _begun(self, path: bytes, row: Iterable[Did]) -> Fight:
        parties = {d.party: d for d in row}
        fight = Fight(path=path, parties=tuple(parties.values()))
        others = [f for f in self._fights if f.path != path]
        self._fights = [*others, fight][-_FIGHTS:]
        return fight


def _overlap(a: Did, b: Did) -> bool:
    return _paths_overlap(a.path, b.path)


def _paths_overlap(a: bytes, b: bytes) -> bool:
    return is_beneath(a, b) or is_beneath(b, a)
