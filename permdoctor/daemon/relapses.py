"""Repairs that helped and were needed again within the hour: somebody undoes them.

It may be the container itself, or whoever may write there: a job, a person.  The first time says
little; from the second time on it is not repaired for an hour, then two, then four.  What counts is
the container's name, the path and the remedy: a container that looks well for a moment, or is made
anew, or is refused something else at the same place, has not changed its mind.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.daemon.cures import Cure, place_of
from permdoctor.daemon.episodes import HOUR, Name
from permdoctor.daemon.events import Found

_MOST: Final = 4096
_OFTEN: Final = 2
_LONGEST: Final = 24 * HOUR

_Key = tuple[Name, bytes, str]


class Relapse(Struct, frozen=True, kw_only=True):
    """A cure that was undone so many ``times``.  ``helped``: when (monotonic) it was last seen to
    help, if it has not been undone since; ``until``: it is not tried before.
    """

    cure: Cure
    helped: float | None
    times: int = 0
    until: float = float("-inf")
    id: str = ""

    def is_over(self, now: float) -> bool:
        last = self.until if self.helped is None else max(self.helped, self.until)
        return now - last >= HOUR

    def is_needed(self, found: Found) -> bool:
        """Whether it would be the cure of this, too."""
        return self.cure.remedy in found.fixable and place_of(found) == self.cure.path


class Relapses:
    """The ``_MOST`` that helped last."""

    def __init__(self) -> None:
        self._all: dict[_Key, Relapse] = {}

    def helped(self, cure: Cure, now: float, id_: str = "") -> None:
        """A check has not found any more what it was to help against."""
        known = self._all.pop(_key(cure), None)
        times = 0 if known is None or known.is_over(now) else known.times
        until = float("-inf") if known is None else known.until
        self._all[_key(cure)] = Relapse(cure=cure, helped=now, times=times, until=until, id=id_)
        if len(self._all) > _MOST:
            del self._all[next(iter(self._all))]

    def judged(self, name: Name, found: tuple[Found, ...], now: float) -> None:
        """This was seen in a container of that name."""
        for key, of in tuple(self._all.items()):
            if of.cure.name != name:
                continue
            if of.is_over(now):
                del self._all[key]
            elif of.helped is not None and any(of.is_needed(f) for f in found):
                self._all[key] = _again(of, now)

    def needed(self, cure: Cure, at: float) -> None:
        """It helped, and was needed again."""
        self.helped(cure, at)
        self._all[_key(cure)] = _again(self._all[_key(cure)], at)

    def until(self, cure: Cure, now: float) -> float | None:
        """When it may be tried again; ``None``: now."""
        known = self._all.get(_key(cure))
        return known.until if known is not None and known.until > now else None

    def stopped(self, name: Name, now: float) -> tuple[Relapse, ...]:
        """What is not tried for this name because somebody undoes it."""
        return tuple(r for r in self._all.values() if r.cure.name == name and r.until > now)

    def clear(self) -> None:
        self._all.clear()


def _again(of: Relapse, now: float) -> Relapse:
    times = of.times + 1
    wait = 0.0 if times < _OFTEN else min(HOUR * 2.0 ** min(times - _OFTEN, 16), _LONGEST)
    return replace(of, helped=None, times=times, until=now + wait)


def _key(cure: Cure) -> _Key:
    return cure.name, cure.path, cure.remedy
