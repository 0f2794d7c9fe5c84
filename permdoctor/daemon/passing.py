"""What time alone does: deadlines pass, the gone are forgotten, what is watched is said again."""

from __future__ import annotations

from permdoctor.daemon import absence, arrivals, bounds, results
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import ContainerRef, Watch, Watched
from permdoctor.daemon.loops import AWAY
from permdoctor.kernel.text import printable

_NOT_WATCHED = "its engine is not watched any more"


def give_up(desk: Desk) -> None:
    """What should have come back before."""
    seconds = desk.limits.check_deadline
    for ticket in desk.checks.given_up(desk.now):
        record = desk.roster.get(ticket.ref)
        if record is None:
            desk.checks.drop(ticket.ref)
        else:
            results.failed(desk, record, f"no answer within {seconds:.0f} s")
    for one in desk.connections.late(desk.now, desk.rules.sweep):
        desk.log("warning", "no list of containers in time", engine=printable(one.engine))
    attempt = desk.repairs.given_up(desk.now, desk.checks.latest)
    if attempt is not None:
        results.repair_ended(desk, attempt)


def pass_away(desk: Desk) -> None:
    """Names that nobody has had for long enough, and engines that were away for too long."""
    while desk.starts.pop(desk.now) is not None:
        pass
    desk.loops.advance(desk.now)
    while (made := desk.unstarted.pop(desk.now, desk.rules.sweep)) is not None:
        one = desk.connections.get(made.engine)
        if one is not None:
            desk.connections.again(one, desk.now)
    while (ref := desk.away.pop(desk.now)) is not None:
        _not_back(desk, ref)
    while (name := desk.gone.pop(desk.now)) is not None:
        over(desk, name)
    absence.expire(desk)
    for one in desk.connections.forgotten(desk.now):
        desk.log("warning", "engine forgotten", engine=printable(one.engine))
        forget(desk, one.engine)


def forget(desk: Desk, engine: str) -> None:
    """An engine that is not watched any more: what was told of it and of what it runs ends."""
    for record in desk.roster.of(engine):
        arrivals.depart(desk, record)
    names = desk.repairs.names().union(desk.episodes.names())
    for name in sorted(n for n in names if n[0] == engine):
        desk.gone.discard(name)
        over(desk, name, _NOT_WATCHED)


def _not_back(desk: Desk, ref: ContainerRef) -> None:
    """It was not started again.  Of an engine that is away nobody knows that."""
    record = desk.roster.get(ref)
    assert record is not None
    if desk.connections.connected(ref.engine):
        arrivals.depart(desk, record)
    else:
        desk.away.set(ref, desk.now + AWAY)


def over(desk: Desk, name: Name, why: str = "") -> None:
    """A name is nobody's: its problems end, and who fought with it has peace."""
    desk.tell(desk.episodes.over(name, desk.now, desk.wall, why))
    results.reassess(desk, desk.repairs.forget(name))


def watch(desk: Desk) -> None:
    """Say which roots are to be watched, if they are others, and not all the time."""
    if not desk.roots.changed or desk.now < desk.watch_at:
        return
    paths = desk.roots.taken()
    desk.watch_at = desk.now + desk.rules.debounce
    if paths != desk.watched:
        desk.watched = paths
        desk.out.append(Watch(paths=paths))
    desk.limit("too many roots: some are not watched", reached=desk.roots.beyond > 0)


def watched(desk: Desk, event: Watched) -> None:
    """What became of that.  Those who have a root that is not watched are judged at each sweep
    (``results.py``), from now on, but not all of them at once.  What changed where nobody watched
    before is looked for; who has just started is judged again anyway.
    """
    rules = desk.rules
    desk.watching = event
    dark, lit = desk.roots.seen(event.paths, event.dark)
    soon = [(ref, rules.sweep * bounds.part_of(ref), "not watched") for ref in dark]
    soon += [(ref, rules.debounce, "watched") for ref in lit]
    for ref, delay, why in soon:
        record = desk.roster.get(ref)
        if record is not None and record.settled and not record.failures:
            desk.checks.want(ref, desk.now + delay, why)
