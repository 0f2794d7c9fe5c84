"""The service's mind: (event, now, wall) in, commands out.  It never waits and reads no clock.

Theory of operation.  *Lists are the truth*: what is not in one is gone, what is new in one is
judged, what has another ``started`` is judged again.  Events only make it faster; one that was
lost, doubled or late is corrected by the next list.  A list that was asked for before an event
came does not overrule it, and is asked for again.  ``Connected`` means that events may have been
lost: then everybody is judged again; ``Lost`` that some were: then everybody is listed, and judged
again at once or, if that was not long ago, one after the other.

*Results belong to runs*: a container that is started while it is checked is checked again, and
what comes back for a run that is over is dropped, but in a crash loop (``loops.py``).  A check that
failed leaves everything as it was, and resolves nothing.

*Problems belong to names*: what people are told of is (engine, name, code, target), whichever
container has the name (``episodes.py``).  A name that nobody has is gone after twice ``damp``, if
its engine has answered all the time; so a restart loop is one alert.

*Silences*: a finding that one covers is in the state with the reason.  Where it was told before it
is resolved, with the reason in the alert: who wrote the rule does not want to hear of it, and an
incident elsewhere would stay open for ever.  When the silence ends and the problem does not, it is
told as a new episode.  The same holds for what falls below ``min_severity``.

Everything is bounded by ``limits.py``, and costs O(log n) an event, or what the event names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from permdoctor.alerts.alert import AlertStatus
from permdoctor.daemon import (
    absence,
    arrivals,
    bounds,
    looks,
    neighbours,
    passing,
    presence,
    results,
)
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.events import (
    Changed,
    Checked,
    Command,
    Connected,
    ContainerRef,
    Disconnected,
    Event,
    Happened,
    Left,
    Lost,
    MapsChanged,
    Reloaded,
    Repaired,
    Restored,
    Rules,
    Swept,
    Tick,
    Watched,
)
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.roster import Record
from permdoctor.daemon.silences import next_expiry
from permdoctor.daemon.snapshot import snapshot
from permdoctor.daemon.state import State
from permdoctor.kernel.text import printable

_CLOCK = 3600.0
"""Seconds after which the wall clock is looked at again: it may be set."""

_STEP = 1.0
"""Seconds by which a clock that is only slewed does not differ from one event to the next."""


def utc_minute(wall: float) -> int:
    """The minute of the day, in UTC."""
    return int(wall // 60) % 1440


class Reconciler:
    """``minute_of_day`` turns seconds since the epoch into the minute of the local day, for
    maintenance windows: a pure core knows no time zone.
    """

    def __init__(
        self,
        rules: Rules,
        limits: Limits | None = None,
        minute_of_day: Callable[[float], int] = utc_minute,
    ) -> None:
        self._desk = Desk(rules, limits or Limits(), minute_of_day)
        self._expiry = next_expiry(rules.silences, float("-inf"))
        self._offset: float | None = None

    def handle(self, event: Event, now: float, wall: float) -> list[Command]:
        """What is to be done now that this has happened, in this order.  ``now`` is monotonic
        seconds, ``wall`` seconds since the epoch, which may go back.
        """
        desk = self._desk
        desk.now, desk.wall = max(now, desk.now), wall
        desk.count += 1
        self._take(event)
        self._advance()
        out, desk.out = desk.out, []
        return out

    def due(self) -> float | None:
        """The monotonic time at which ``Tick`` would do something; ``None``: never."""
        desk = self._desk
        times = [
            desk.checks.due(),
            desk.connections.due(),
            desk.episodes.due(),
            desk.repairs.due(),
            desk.touched.first(),
            desk.gone.first(),
            desk.unstarted.first(),
            desk.away.first(),
            desk.absent.first(),
            desk.watch_at if desk.roots.changed else None,
        ]
        if self._expiry is not None:
            times.append(desk.now + min(max(self._expiry - desk.wall, 0.0), _CLOCK))
        return min((t for t in times if t is not None), default=None)

    def state(self) -> State:
        """What is known now.  O(n) in containers."""
        return snapshot(self._desk)

    # -- events ------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        desk = self._desk
        match event:
            case Happened():
                self._happened(event)
            case Checked():
                self._checked(event)
            case Connected():
                presence.connected(desk, event)
            case Swept(engine=engine, containers=containers, number=number):
                presence.listed(desk, engine, containers, number)
            case Lost(engine=engine):
                presence.lost(desk, engine)
            case Disconnected():
                presence.disconnected(desk, event)
            case Left(engine=engine):
                presence.left(desk, engine)
            case Changed(path=path):
                self._changed(path)
            case Watched():
                passing.watched(desk, event)
            case MapsChanged(path=path):
                desk.log("info", "id maps changed", path=printable(path))
                self._judge_all("maps", desk.rules.debounce)
            case Repaired():
                results.repaired(desk, event)
            case Restored():
                self._restored(event)
            case Reloaded(rules=rules):
                self._reloaded(rules)
            case Tick():
                pass
            case _:
                assert_never(event)

    def _happened(self, event: Happened) -> None:
        one = presence.met(self._desk, event.container.ref.engine)
        if one is not None:
            arrivals.happened(self._desk, event, one)

    def _checked(self, event: Checked) -> None:
        desk = self._desk
        ticket = desk.checks.back(event.number, event.ref)
        record = desk.roster.get(event.ref)
        if ticket is None:
            return
        if record is None or event.gone:
            neighbours.touch(desk, event.ref, bounds.roots_of(event.writes, desk.limits))
        if record is None:
            desk.checks.drop(event.ref)
        elif ticket.run != record.run and (event.gone or event.failed or not self._loops(record)):
            desk.log_of("debug", "a run that is over was judged", record)
        elif event.gone and ticket.stopped:
            arrivals.depart(desk, record)
        elif event.gone:
            arrivals.ended(desk, record)
        elif not event.failed:
            results.accepted(desk, record, ticket, event)
        elif desk.connections.connected(record.ref.engine):
            results.failed(desk, record, event.failed, away=event.away)
        else:
            desk.checks.want(record.ref, desk.now, ticket.why, fresh=not record.judged)

    def _changed(self, path: bytes) -> None:
        for ref in self._desk.roots.users(path):
            record = self._desk.roster.get(ref)
            if record is not None:
                looks.drifted(self._desk, record)

    def _judge_all(self, why: str, delay: float) -> None:
        for record in self._desk.roster:
            self._desk.checks.want(record.ref, self._desk.now + delay, why)

    def _restored(self, event: Restored) -> None:
        """Episodes go on, and what was repaired was; those of an engine that is never heard of end
        with it.
        """
        desk = self._desk
        firing = [a for a in event.firing if a.status is AlertStatus.FIRING]
        for engine in dict.fromkeys(a.problem.engine for a in firing):
            presence.met(desk, engine)
        desk.tell(desk.episodes.restored(firing, desk.now, desk.wall))
        desk.repairs.restored(firing, event.repairs, desk.now, desk.wall)
        for name in desk.episodes.names():
            if desk.connections.get(name[0]) is None:
                passing.over(desk, name)
            elif desk.connections.connected(name[0]):
                results.reassess(desk, [name])
        for one in desk.connections:
            if one.connected:
                absence.assess(desk, one)
                arrivals.missing(desk, one.engine)

    def _reloaded(self, rules: Rules) -> None:
        """Everybody is judged again, too: needs and budgets may be others."""
        desk = self._desk
        desk.rules = rules
        desk.repairs.reloaded(rules)
        for one in desk.connections:
            desk.connections.again(one, desk.now + rules.sweep)
        self._assess_all()
        self._judge_all("reloaded", rules.debounce)

    # -- time --------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Whatever is due by now."""
        desk = self._desk
        if self._clock_was_set() or (self._expiry is not None and desk.wall >= self._expiry):
            self._assess_all()
        passing.give_up(desk)
        passing.pass_away(desk)
        neighbours.visit(desk)
        desk.out.extend(desk.connections.lists(desk.now, desk.count))
        passing.watch(desk)
        results.treat(desk)
        desk.tell(desk.episodes.advance(desk.now, desk.wall))
        desk.limit("too many problems: some are not told", reached=desk.episodes.full)
        desk.out.extend(desk.checks.begin(desk.now, self._ready, self._run))

    def _clock_was_set(self) -> bool:
        """Whether the wall clock did not go on as the monotonic one did."""
        before, self._offset = self._offset, self._desk.wall - self._desk.now
        return before is not None and abs(self._offset - before) > _STEP

    def _assess_all(self) -> None:
        """The rules, or those that hold now, are others."""
        desk = self._desk
        self._expiry = next_expiry(desk.rules.silences, desk.wall)
        for record in desk.roster:
            results.assess(desk, record)
        for one in desk.connections:
            absence.assess(desk, one)

    def _ready(self, ref: ContainerRef) -> bool:
        return self._desk.connections.connected(ref.engine)

    def _run(self, ref: ContainerRef) -> tuple[int, bool]:
        record = self._desk.roster.get(ref)
        assert record is not None
        return record.run, record.ended

    def _loops(self, record: Record) -> bool:
        return record.ended or self._desk.loops.has(record.key)
