"""Containers come, run again, are renamed, and go: by events, and by lists, which are the truth."""

from __future__ import annotations

from typing import Final, assert_never

from permdoctor.daemon import absence, bounds, looks, neighbours
from permdoctor.daemon.connections import Connection
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import Action, ContainerRef, Happened, Seen
from permdoctor.daemon.loops import AWAY, MANY
from permdoctor.daemon.results import assess
from permdoctor.daemon.roster import Record

RELIST: Final = 5.0
"""Seconds until a list is asked for again because something in it, or an event, is in doubt."""


def happened(desk: Desk, event: Happened, one: Connection) -> None:
    """An engine's event.  It may be doubled, late, or about a run that is over."""
    seen = event.container
    record = desk.roster.get(seen.ref)
    if record is not None:
        record.heard = desk.count
    match event.action:
        case Action.CREATE:
            if record is None:
                desk.unstarted.made(seen.ref, desk.now)
        case Action.START:
            desk.unstarted.discard(seen.ref)
            _started(desk, record, seen, one)
        case Action.CHANGE:
            _changed(desk, record, seen, one)
        case Action.STOP | Action.GONE:
            desk.unstarted.discard(seen.ref)
            _stopped(desk, record, seen, one, gone=event.action is Action.GONE)
        case _:
            assert_never(event.action)


def listed(desk: Desk, one: Connection, containers: tuple[Seen, ...], asked: int) -> None:
    """Everything that runs on an engine, or that it could not start.  What was heard of after the
    list was asked for is not decided by it; then there is another one.
    """
    one.left_out = 0
    there: dict[ContainerRef, Seen] = {
        s.ref: s for s in containers if (s.running or s.refused) and s.ref.engine == one.engine
    }
    newer = False
    for record in desk.roster.of(one.engine):
        if record.heard > asked:
            newer = newer or not _agrees(record, there.get(record.ref))
        elif record.ref not in there:
            depart(desk, record)
    for ref, seen in there.items():
        known = desk.roster.get(ref)
        if known is None:
            appear(desk, seen, one)
        elif known.heard <= asked:
            _compared(desk, known, seen)
    if not any(each.left_out for each in desk.connections):
        desk.limit("too many containers: some are not looked after", reached=False)
    if newer:
        desk.connections.again(one, desk.now + RELIST)


def appear(desk: Desk, seen: Seen, one: Connection) -> None:
    """One more that runs, or should."""
    desk.unstarted.discard(seen.ref)
    if not bounds.fits(seen.ref, desk.limits) or len(desk.roster) >= desk.limits.containers:
        one.left_out += 1
        desk.limit("too many containers: some are not looked after", reached=True)
        return
    record = Record(
        ref=seen.ref,
        name=bounds.name_of(seen),
        run=desk.next_run(),
        heard=desk.count,
        begun=desk.now,
        started=seen.started[: desk.limits.text],
        labels=bounds.labels_of(seen, desk.limits),
    )
    desk.roster.add(record)
    _named(desk, record, one)
    if seen.restarting:
        _between(desk, record)
    record.refused = seen.refused
    record.ended = record.ended or seen.refused
    looks.started(desk, record)


def depart(desk: Desk, record: Record) -> None:
    """It does not run any more."""
    neighbours.touch(desk, record.ref, record.writes)
    desk.roster.remove(record)
    desk.checks.drop(record.ref)
    desk.roots.set(record.ref, ())
    desk.patients.pop(record.ref, None)
    desk.away.discard(record.ref)
    _unnamed(desk, record.key)


def ended(desk: Desk, record: Record) -> None:
    """Its run is over, and so is it, unless it is in a crash loop (``loops.py``)."""
    if record.ended:
        return
    runs = desk.loops.ended(record.key, desk.now - record.begun, desk.now)
    if runs < MANY:
        depart(desk, record)
        return
    if runs == MANY:
        desk.log_of("info", "it starts again and again", record)
    neighbours.touch(desk, record.ref, record.writes)
    _between(desk, record)
    looks.stopped(desk, record)


def missing(desk: Desk, engine: str) -> None:
    """After a full list: names that have problems and that nobody has are gone from now on."""
    names = desk.repairs.names().union(desk.episodes.names())
    for name in sorted(n for n in names if n[0] == engine and n not in desk.gone):
        if desk.roster.owner(name) is None and not absence.is_engine(name):
            desk.gone.set(name, desk.now + desk.grace)


def _started(desk: Desk, record: Record | None, seen: Seen, one: Connection) -> None:
    if record is None:
        appear(desk, seen, one)
        return
    _renamed(desk, record, seen, one)
    if seen.started and seen.started == record.started:
        return
    run_again(desk, record, seen.started)


def _changed(desk: Desk, record: Record | None, seen: Seen, one: Connection) -> None:
    if record is None:
        if seen.running:
            appear(desk, seen, one)
        return
    if not seen.running:
        desk.connections.again(one, desk.now + RELIST)
    renamed = _renamed(desk, record, seen, one)
    if seen.started and record.started and seen.started != record.started:
        run_again(desk, record, seen.started)
    elif renamed:
        looks.again(desk, record, desk.rules.debounce, "renamed")
    else:
        looks.stirred(desk, record)


def _stopped(desk: Desk, record: Record | None, seen: Seen, one: Connection, *, gone: bool) -> None:
    if record is None:
        return
    if seen.started and record.started and seen.started != record.started:
        desk.connections.again(one, desk.now + RELIST)
        return
    if gone:
        depart(desk, record)
    else:
        ended(desk, record)


def _agrees(record: Record, seen: Seen | None) -> bool:
    if record.ended:
        return True
    return seen is not None and (not seen.started or seen.started == record.started)


def _compared(desk: Desk, record: Record, seen: Seen) -> None:
    """A list says how it is now."""
    one = desk.connections.get(record.ref.engine)
    assert one is not None
    record.heard = desk.count
    if _renamed(desk, record, seen, one):
        looks.again(desk, record, desk.rules.debounce, "renamed")
    other = bool(seen.started) and seen.started != record.started
    if seen.refused:
        _refused(desk, record)
    elif other or (record.ended and not seen.restarting):
        run_again(desk, record, seen.started)
    if seen.restarting:
        _between(desk, record)


def run_again(desk: Desk, record: Record, started: str) -> None:
    """Another run of the same container: what was found is kept until that is judged.  In a crash
    loop that may never be, and what is known of any of its runs counts.
    """
    neighbours.touch(desk, record.ref, record.writes)
    record.ended = record.refused = False
    desk.away.discard(record.ref)
    record.run = desk.next_run()
    record.begun = desk.now
    record.started = started[: desk.limits.text]
    record.judged = record.judged and desk.loops.has(record.key)
    record.settled = False
    record.stirs = record.drifts = 0
    if not desk.checks.hung(record.ref):
        record.failures = 0
    desk.patients.pop(record.ref, None)
    looks.started(desk, record)


def _between(desk: Desk, record: Record) -> None:
    """It does not run just now, but will."""
    record.ended = True
    desk.away.set(record.ref, desk.now + AWAY)


def _refused(desk: Desk, record: Record) -> None:
    """It stays, and is judged from its configuration, until it is started or removed."""
    desk.away.discard(record.ref)
    record.refused = True
    if not record.ended:
        record.ended = True
        desk.checks.want(record.ref, desk.now, "refused")


def _renamed(desk: Desk, record: Record, seen: Seen, one: Connection) -> bool:
    if seen.labels:
        record.labels = bounds.labels_of(seen, desk.limits)
    name = bounds.name_of(seen)
    if not seen.name or name == record.name:
        return False
    before = record.key
    desk.roster.rename(record, name)
    _unnamed(desk, before)
    _named(desk, record, one)
    return True


def _named(desk: Desk, record: Record, one: Connection) -> None:
    """Somebody has that name (again)."""
    desk.gone.discard(record.key)
    for other in desk.roster.others(record):
        assess(desk, other)
        desk.connections.again(one, desk.now + RELIST)


def _unnamed(desk: Desk, name: Name) -> None:
    """One has that name no longer."""
    owner = desk.roster.owner(name)
    if owner is not None:
        assess(desk, owner)
        looks.again(desk, owner, 0.0, "name")
        return
    troubled = desk.episodes.has(name) or name in desk.repairs.names()
    if troubled and desk.connections.connected(name[0]):
        desk.gone.sooner(name, desk.now + desk.grace)
