"""Engines come, list what runs on them, miss an event, are away, and go."""

from __future__ import annotations

from permdoctor.daemon import absence, arrivals, bounds, passing
from permdoctor.daemon.connections import Connection
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.events import Connected, Disconnected, Seen
from permdoctor.kernel.text import printable


def met(desk: Desk, engine: str) -> Connection | None:
    """``None``: there are too many."""
    return desk.connections.met(engine, desk.now, desk.wall)


def connected(desk: Desk, event: Connected) -> None:
    """Events may have been lost: everybody is judged again, who is new first."""
    engine = event.engine
    one = met(desk, engine)
    if one is None:
        desk.log("error", "too many engines", engine=printable(engine)[: desk.limits.text])
        return
    one.by_root = event.by_root
    before = desk.roster.of(engine)
    listed(desk, engine, event.containers)
    count = str(len(desk.roster.of(engine)))
    desk.log("info", "engine connected", engine=printable(engine), containers=count)
    for record in before:
        if desk.roster.get(record.ref) is record:
            record.failures = 0
            desk.checks.want(record.ref, desk.now, "reconnected")


def listed(
    desk: Desk, engine: str, containers: tuple[Seen, ...], number: int | None = None
) -> None:
    """Everything that runs there, or ran when it was asked for."""
    one = met(desk, engine)
    if one is None or (number is not None and not one.connected):
        return
    amends = desk.connections.up(one, desk.now, desk.wall, desk.rules.sweep)
    absence.assess(desk, one)
    arrivals.listed(desk, one, containers, desk.count if number is None else number)
    arrivals.missing(desk, engine)
    if amends:
        _doubted(desk, one)
    desk.checks.release(lambda ref: ref.engine == engine)


def lost(desk: Desk, engine: str) -> None:
    """Of one that is not known there will be a list anyway."""
    one = desk.connections.get(engine)
    if one is not None:
        desk.connections.missed(one, desk.now)


def disconnected(desk: Desk, event: Disconnected) -> None:
    """Nothing is known of its containers: none of them is gone before it is back."""
    one = met(desk, event.engine)
    if one is None:
        return
    why = printable(event.why)[: desk.limits.text]
    what = "engine disconnected" if one.connected else "engine does not answer"
    if desk.connections.down(one, why, desk.now, desk.wall):
        desk.log("warning", what, engine=printable(event.engine), why=why)
    absence.awaited(desk, one)
    for name in desk.gone:
        if name[0] == event.engine:
            desk.gone.discard(name)


def left(desk: Desk, engine: str) -> None:
    """It was taken out of the configuration: what was told of it ends, with the reason."""
    desk.log("info", "engine is not watched any more", engine=printable(engine))
    desk.connections.drop(engine)
    passing.forget(desk, engine)


def _doubted(desk: Desk, one: Connection) -> None:
    """A list shows who runs, but not what else the events were that were lost: everybody is judged
    again.  Where that happens all the time, one after the other within a sweep.
    """
    now, sweep = desk.now, desk.rules.sweep
    often = now - one.amended < sweep
    one.amended = now
    if not often:
        desk.log("warning", "events were lost: all are judged again", engine=printable(one.engine))
    for record in desk.roster.of(one.engine):
        at = now + sweep * (1 + bounds.part_of(record.ref)) / 2 if often else now
        desk.checks.want(record.ref, at, "lost events")
