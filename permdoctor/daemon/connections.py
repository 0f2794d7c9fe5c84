"""The engines: which of them answer, and when each is to be listed again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from permdoctor.daemon.events import List

_REASONS: Final = 8
_PAUSE: Final = 10.0
"""Seconds, at least, between two lists that lost events make necessary."""


class Connection(Struct, kw_only=True):
    """One engine.  ``asked`` is the count of events at which a list was asked for, until it comes
    or ``overdue`` (monotonic) is reached.  ``next_list`` is ``None`` while it is not connected.
    ``away`` is when it was last heard of (monotonic), ``left_out`` how many of its containers are
    beyond the limit.  ``said`` are the reasons of this absence that the log has.

    ``heard``: it answered, or somebody tried.  ``by_root``: as it was when it was connected last.
    ``lost``: events were since the last list was asked for; ``amends``: that list is because of
    events that were lost before.  ``asked_at`` and ``amended`` are when one was asked for and when
    one came (monotonic).
    """

    engine: str
    connected: bool = False
    heard: bool = False
    why: str = "not connected yet"
    since: float
    away: float
    swept: float | None = None
    asked: int | None = None
    overdue: float | None = None
    next_list: float | None = None
    left_out: int = 0
    said: frozenset[str] = frozenset()
    by_root: bool = False
    lost: bool = False
    amends: bool = False
    asked_at: float = float("-inf")
    amended: float = float("-inf")


class Connections:
    """At most ``limit`` of them.  ``seconds`` is how long an answer may take, ``forget`` how long
    one may be unheard of that only alerts speak of: nobody watches it any more.
    """

    def __init__(self, limit: int, seconds: float, forget: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._forget = forget
        self._all: dict[str, Connection] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._all.values()))

    def get(self, engine: str) -> Connection | None:
        return self._all.get(engine)

    def connected(self, engine: str) -> bool:
        known = self._all.get(engine)
        return known is not None and known.connected

    def met(self, engine: str, now: float, wall: float) -> Connection | None:
        """Known from now on; ``None``: there are too many."""
        known = self._all.get(engine)
        if known is None and len(self._all) < self._limit:
            known = self._all[engine] = Connection(engine=engine, since=wall, away=now)
        return known

    def up(self, one: Connection, now: float, wall: float, sweep: float) -> bool:
        """It has given a full list.  Whether that was asked for because events were lost."""
        one.heard = True
        if not one.connected:
            one.connected, one.why, one.since = True, "", wall
            one.said = frozenset()
        one.swept = wall
        one.asked = one.overdue = None
        amends, one.amends = one.amends, False
        self._next(one, now, sweep)
        return amends

    def down(self, one: Connection, why: str, now: float, wall: float) -> bool:
        """Whether the log should say so: each reason once until it is back.  It is tried again and
        again.
        """
        one.heard = True
        news = why not in one.said and len(one.said) < _REASONS
        if news:
            one.said |= {why}
        if one.connected:
            one.connected, one.since, one.away = False, wall, now
        one.why = why
        one.asked = one.overdue = one.next_list = None
        one.lost = one.amends = False
        return news

    def drop(self, engine: str) -> None:
        """It is not known any more."""
        self._all.pop(engine, None)

    def missed(self, one: Connection, now: float) -> None:
        """Events were lost: list it, but not all the time."""
        one.lost = True
        if one.asked is None:
            self.again(one, max(now, one.asked_at + _PAUSE))

    def again(self, one: Connection, at: float) -> None:
        """List it before the next sweep."""
        if one.next_list is not None:
            one.next_list = min(one.next_list, at)

    def late(self, now: float, sweep: float) -> Iterator[Connection]:
        """Those that were asked and have not answered in time."""
        for one in self:
            if one.overdue is not None and one.overdue <= now:
                one.asked = one.overdue = None
                one.lost = one.lost or one.amends
                one.amends = False
                self._next(one, now, sweep)
                yield one

    def lists(self, now: float, count: int) -> Iterator[List]:
        for one in self:
            if one.asked is None and one.next_list is not None and one.next_list <= now:
                one.asked, one.overdue = count, now + self._seconds
                one.amends, one.lost, one.asked_at = one.lost, False, now
                yield List(engine=one.engine, number=count)

    def forgotten(self, now: float) -> Iterator[Connection]:
        """Those of which nothing was heard for too long: they are not known any more."""
        for one in self:
            if not one.heard and now - one.away >= self._forget:
                del self._all[one.engine]
                yield one

    def _next(self, one: Connection, now: float, sweep: float) -> None:
        one.next_list = now + sweep
        if one.lost:
            self.again(one, max(now, one.asked_at + _PAUSE))

    def due(self) -> float | None:
        return min((t for one in self._all.values() for t in self._times(one)), default=None)

    def _times(self, one: Connection) -> Iterator[float]:
        if not one.heard:
            yield one.away + self._forget
        elif not one.connected:
            return
        elif one.overdue is not None:
            yield one.overdue
        elif one.next_list is not None:
            yield one.next_list
