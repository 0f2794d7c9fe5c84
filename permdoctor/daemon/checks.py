"""When which container is judged.

At most ``limits.checks`` at once, never two of one container, and at most one of each waiting.  A
run that nobody has judged goes before a second look, but not before one that has waited for
``PATIENCE`` seconds longer.  A check that does not come back is given up after its deadline; the
containers that did that may take only half of the places, so that the others go on.

Whoever carries the checks out must stop one that is given up: its place is taken again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from permdoctor.daemon.events import Check, ContainerRef
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.timers import Timers

PATIENCE: Final = 5.0


class Ticket(Struct, frozen=True, kw_only=True):
    """A check that was begun: of which run of the container, whether that was over, why, and when
    (monotonic).
    """

    number: int
    ref: ContainerRef
    run: int
    stopped: bool
    why: str
    began: float


class Wish(Struct, frozen=True, kw_only=True):
    """A check that is due ``at``.  ``fresh``: this run has not been judged."""

    at: float
    why: str
    fresh: bool


class Checks:
    """Times are monotonic seconds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._wishes: dict[ContainerRef, Wish] = {}
        self._fresh: Timers[ContainerRef] = Timers()
        self._again: Timers[ContainerRef] = Timers()
        self._slow: Timers[ContainerRef] = Timers()
        self._waiting: dict[ContainerRef, None] = {}
        """Wished for and due, but the container is being checked, or its engine is away."""
        self._hung: set[ContainerRef] = set()
        self._under_way: dict[int, Ticket] = {}
        self._busy: dict[ContainerRef, int] = {}
        self._deadlines: Timers[int] = Timers()
        self._late: dict[ContainerRef, Ticket] = {}
        self.latest = 0
        """The number of the last check that was begun."""

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def busy(self, ref: ContainerRef) -> bool:
        return ref in self._busy

    def hung(self, ref: ContainerRef) -> bool:
        """Whether its last check did not come back in time."""
        return ref in self._hung

    def due_at(self, ref: ContainerRef) -> float | None:
        """When its next check is due."""
        wish = self._wishes.get(ref)
        return None if wish is None else wish.at

    def overdue(self, now: float) -> int:
        """How many are due and not under way.  O(n)."""
        return sum(w.at <= now for w in self._wishes.values())

    def want(self, ref: ContainerRef, at: float, why: str, *, fresh: bool = False) -> None:
        """Judge it at that time, or before if that is wished for already."""
        known = self._wishes.get(ref)
        if known is not None:
            fresh = fresh or known.fresh
            if known.at <= at:
                at, why = known.at, known.why
        self._wishes[ref] = Wish(at=at, why=why, fresh=fresh)
        self._file(ref)

    def put_off(self, ref: ContainerRef, at: float, why: str) -> None:
        """Not before that time, whatever is wished for."""
        known = self._wishes.get(ref)
        fresh = known is not None and known.fresh
        self._wishes[ref] = Wish(at=at, why=why, fresh=fresh)
        self._file(ref)

    def drop(self, ref: ContainerRef) -> None:
        """It is gone.  A check under way keeps its place until it comes back."""
        self._wishes.pop(ref, None)
        self._late.pop(ref, None)
        self._unfile(ref)
        if ref not in self._busy:
            self._hung.discard(ref)

    def release(self, belongs: Callable[[ContainerRef], bool]) -> None:
        """Their engine is back: what became due meanwhile may go."""
        for ref in [r for r in self._waiting if r not in self._busy and belongs(r)]:
            self._file(ref)

    def begin(
        self,
        now: float,
        ready: Callable[[ContainerRef], bool],
        run: Callable[[ContainerRef], tuple[int, bool]],
    ) -> list[Check]:
        """The checks to be begun.  ``ready`` says whether the container's engine answers, ``run``
        which run of it this is, and whether that is over.
        """
        out: list[Check] = []
        while len(self._under_way) < self._limits.checks:
            lane = self._next_lane(now)
            ref = None if lane is None else lane.pop(now)
            if ref is None:
                break
            if ref in self._busy or not ready(ref):
                self._waiting[ref] = None
                continue
            out.append(self._started(ref, now, *run(ref)))
        return out

    def back(self, number: int, ref: ContainerRef) -> Ticket | None:
        """One came back; ``None``: it was not under way, or a newer one came back before."""
        late = self._late.get(ref)
        ticket = self._under_way.get(number)
        if late is not None and late.number == number:
            ticket = late
        elif ticket is None or ticket.ref != ref:
            return None
        else:
            self._free(ticket)
        self._late.pop(ref, None)
        self._hung.discard(ref)
        if ref in self._wishes and ref not in self._waiting:
            self._file(ref)
        return ticket

    def given_up(self, now: float) -> list[Ticket]:
        """Those that have not come back in time; they may come back late."""
        out: list[Ticket] = []
        while (number := self._deadlines.pop(now)) is not None:
            ticket = self._under_way[number]
            self._late[ticket.ref] = ticket
            self._hung.add(ticket.ref)
            self._free(ticket)
            out.append(ticket)
        return out

    def due(self) -> float | None:
        times = [self._deadlines.first()]
        if len(self._under_way) < self._limits.checks:
            times += [self._fresh.first(), self._again.first()]
            if self._slow_may_go():
                times.append(self._slow.first())
        return min((t for t in times if t is not None), default=None)

    def _started(self, ref: ContainerRef, now: float, run: int, stopped: bool) -> Check:
        wish = self._wishes.pop(ref)
        self.latest += 1
        ticket = Ticket(
            number=self.latest, ref=ref, run=run, stopped=stopped, why=wish.why, began=now
        )
        self._under_way[ticket.number] = ticket
        self._busy[ref] = ticket.number
        self._deadlines.set(ticket.number, now + self._limits.check_deadline)
        return Check(number=ticket.number, ref=ref, why=wish.why, stopped=stopped)

    def _free(self, ticket: Ticket) -> None:
        del self._under_way[ticket.number]
        del self._busy[ticket.ref]
        self._deadlines.discard(ticket.number)
        if ticket.ref in self._wishes:
            self._file(ticket.ref)

    def _file(self, ref: ContainerRef) -> None:
        """Into the lane where it belongs now."""
        self._unfile(ref)
        wish = self._wishes[ref]
        if ref in self._hung:
            self._slow.set(ref, wish.at)
        elif wish.fresh:
            self._fresh.set(ref, wish.at)
        else:
            self._again.set(ref, wish.at)

    def _unfile(self, ref: ContainerRef) -> None:
        self._waiting.pop(ref, None)
        for lane in (self._fresh, self._again, self._slow):
            lane.discard(ref)

    def _next_lane(self, now: float) -> Timers[ContainerRef] | None:
        """That whose turn it is, if anything in it is due."""
        turns = [(self._fresh, 0.0), (self._again, PATIENCE)]
        if self._slow_may_go():
            turns.append((self._slow, PATIENCE))
        due = [
            (at + handicap, n, lane)
            for n, (lane, handicap) in enumerate(turns)
            if (at := lane.first()) is not None and at <= now
        ]
        return min(due)[2] if due else None

    def _slow_may_go(self) -> bool:
        places = max(1, self._limits.checks // 2)
        return sum(t.ref in self._hung for t in self._under_way.values()) < places
