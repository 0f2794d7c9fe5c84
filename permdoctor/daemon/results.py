"""What comes back: of checks and of repairs, or nothing in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from permdoctor.daemon import bounds, neighbours
from permdoctor.daemon.attempts import Attempt
from permdoctor.daemon.checks import Ticket
from permdoctor.daemon.cures import Patient
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import Checked, Found, Repaired
from permdoctor.daemon.judged import assess as judgement
from permdoctor.daemon.roster import Record
from permdoctor.daemon.rounds import next_round
from permdoctor.daemon.state import FindingState
from permdoctor.kernel.text import printable

_UNSEEN = "waits: the last check did not see it: not everything could be read"
_UNSEEN_COST = 100.0
"""What is not watched is judged at each sweep if that takes at most a hundredth of a worker."""


def accepted(desk: Desk, record: Record, ticket: Ticket, event: Checked) -> None:
    """A judgement of its present run, or of one before in a crash loop."""
    record.writes = bounds.roots_of(event.writes, desk.limits)
    if not record.judged:
        neighbours.touch(desk, record.ref, record.writes)
    record.unknown = event.unknown
    still = tuple(_still(record, event))
    record.unseen = frozenset(_which(f) for f in still)
    found = bounds.found_of((*event.found, *still), desk.limits)
    if event.predicted:
        found = bounds.found_of((*found, *_only_lived(record, found)), desk.limits)
    else:
        record.lived = found
    news = _shape(found) != _shape(record.found)
    record.since = {_which(f): record.since.get(_which(f), desk.wall) for f in found}
    record.found = found
    roots = bounds.roots_of(event.roots, desk.limits)
    unwatched = not set(roots) <= set(record.roots)
    record.roots = roots
    desk.roots.set(record.ref, roots)
    record.judged, record.failed, record.failures = True, "", 0
    record.checked, record.seconds = desk.wall, event.seconds
    _count_looks(desk, record, ticket, news=news)
    if event.started and event.started != record.started and ticket.run == record.run:
        if record.started:
            record.begun, record.settled = desk.now, False
        record.started = event.started[: desk.limits.text]
    if desk.roster.owns(record):
        seen = tuple(f for f in found if _which(f) not in record.unseen)
        proof = desk.repairs.judged(
            record.key, record.run, ticket.number, seen, desk.now, event.unknown
        )
        if proof is not None and proof.helped:
            _say(desk, proof.attempt)
        elif proof is not None:
            desk.log_of("warning", "repair did not help", record, **_fields(proof.attempt))
    assess(desk, record)
    _next_look(desk, record, ticket, unwatched=unwatched)
    _look_for_the_rest(desk, record)


def _still(record: Record, event: Checked) -> Iterator[Found]:
    """What was found where this check could see nothing: it is not known to be gone."""
    known = {_which(f) for f in event.found}
    return (
        f
        for f in record.found
        if _which(f) not in known and any(u.covers(f.problem) for u in event.unknown)
    )


def _look_for_the_rest(desk: Desk, record: Record) -> None:
    """What did not answer may do so again; a budget that was not enough is not."""
    silent = any(not u.partial for u in record.unknown)
    record.partial = record.partial + 1 if silent else 0
    if silent:
        desk.checks.want(record.ref, desk.now + _backoff(desk, record.partial), "retry")


def _backoff(desk: Desk, times: int) -> float:
    limits = desk.limits
    return min(limits.backoff_least * 2.0 ** min(times - 1, 16), limits.backoff_most)


def _only_lived(record: Record, found: tuple[Found, ...]) -> Iterator[Found]:
    """What a prediction cannot see, as an entrypoint that changes its user, it does not resolve."""
    known = {_which(f) for f in found}
    return (f for f in record.lived if _which(f) not in known)


def failed(desk: Desk, record: Record, why: str, *, away: bool = False) -> None:
    """No judgement: what was found stays, and it is tried again, later each time."""
    record.failures += 1
    record.failed = printable(why)[: desk.limits.text]
    delay = _backoff(desk, record.failures)
    desk.checks.put_off(record.ref, desk.now + delay, "retry")
    level = "debug" if away else "warning"
    desk.log_of(level, "check failed", record, why=record.failed, again=f"{delay:.0f}s")


def repaired(desk: Desk, event: Repaired) -> None:
    attempt = desk.repairs.done(event, desk.now, desk.checks.latest)
    if attempt is not None:
        repair_ended(desk, attempt)


def _say(desk: Desk, attempt: Attempt) -> None:
    """Who was told of the problem is told at its end what was done."""
    if attempt.said:
        problem = replace(attempt.cure.problem, host=desk.rules.host)
        desk.episodes.repaired(problem.fingerprint, attempt.said[: desk.limits.text])


def repair_ended(desk: Desk, attempt: Attempt) -> None:
    """Whatever came of it, the next check will say whether it helped.  One that is under way may
    see already that it did.  What is not allowed leaves everything as it was.
    """
    if attempt.denied:
        reassess(desk, [attempt.cure.name])
        return
    _say(desk, attempt)
    level = "warning" if attempt.failed else "info"
    shown = printable(attempt.failed)
    fields = {"engine": attempt.cure.name[0], "container": attempt.cure.name[1]}
    desk.log(
        level,
        _outcome(attempt),
        **fields,
        **_fields(attempt),
        applied=str(attempt.applied),
        id=printable(attempt.id),
        undo=f"permdoctor undo {printable(attempt.id)}" if attempt.applied and attempt.id else "",
        why=shown,
    )
    for ref in dict.fromkeys((attempt.ref, *desk.roots.users(attempt.cure.path))):
        record = desk.roster.get(ref)
        if record is not None and not record.failures:
            desk.checks.want(ref, desk.now, "repaired")


def _outcome(attempt: Attempt) -> str:
    if attempt.failed:
        return "repair failed"
    return "repaired" if attempt.applied else "repair not needed any more"


def treat(desk: Desk) -> None:
    """Begin the next repair, if there is one to be begun."""
    while desk.patients and not desk.repairs.busy:
        ref = next(iter(desk.patients))
        del desk.patients[ref]
        record = desk.roster.get(ref)
        if record is None or not record.judged or not desk.roster.owns(record):
            continue
        if not desk.connections.connected(ref.engine):
            continue
        choice = desk.repairs.choose(_patient(desk, record), desk.now, desk.wall)
        if choice.later is not None:
            desk.checks.want(ref, choice.later, "repair")
        _say_why_not(desk, record)
        if choice.repair is not None and choice.attempt is not None:
            desk.out.append(choice.repair)
            desk.log_of("info", "repair begins", record, **_fields(choice.attempt))
        if choice.fight is not None:
            path = printable(choice.fight.path)
            desk.log_of("error", "repairs undo each other: stopped", record, path=path)
            reassess(desk, (p.name for p in choice.fight.parties))
            desk.patients[ref] = None


def hindered(desk: Desk, record: Record) -> dict[tuple[str, str, str], str]:
    """Why what could be repaired is not, by finding."""
    if not desk.repairs.wanted or not desk.roster.owns(record):
        return {}
    patient = _patient(desk, record)
    made = {_which(f): desk.repairs.why_not(patient, f, desk.now, desk.wall) for f in patient.found}
    unseen = (f.found for f in record.findings if not f.ignored and f.found.fixable)
    made |= {_which(f): _UNSEEN for f in unseen if _which(f) in record.unseen}
    return {which: why for which, why in made.items() if why}


def _say_why_not(desk: Desk, record: Record) -> None:
    """Once: not again before it is another reason."""
    now = hindered(desk, record)
    for (code, target, path), why in now.items():
        if record.hindered.get((code, target, path)) != why:
            desk.log_of(
                "info", "not repaired", record, code=code, target=target, path=path, why=why
            )
    record.hindered = now


def assess(desk: Desk, record: Record) -> None:
    """What is told of its last judgement, under the rules of this moment."""
    if not record.judged:
        return
    owns = desk.roster.owns(record)
    own = desk.repairs.findings(record.key, record.found, desk.now) if owns else ()
    made = judgement((*record.found, *own), record.key, record.labels, desk.rules, desk.wall)
    if owns:
        desk.tell(
            desk.episodes.judged(
                record.key,
                made.told,
                made.muted,
                now=desk.now,
                wall=desk.wall,
                damp=desk.rules.damp,
                unsure=_unsure(desk, record),
            )
        )
    record.findings = tuple(
        _state(desk, record, row.found, row.ignored, told=owns) for row in made.rows
    )
    if owns and desk.repairs.wanted and any(f.fixable for f in record.found):
        desk.patients[record.ref] = None
    else:
        desk.patients.pop(record.ref, None)


def _unsure(desk: Desk, record: Record) -> frozenset[str]:
    """What people were told of, and of which the last judgement says nothing."""
    if not record.unknown:
        return frozenset()
    problems = (a.problem for a in desk.episodes.firing())
    return frozenset(
        p.fingerprint
        for p in problems
        if (p.engine, p.container) == record.key and any(u.covers(p) for u in record.unknown)
    )


def reassess(desk: Desk, names: Iterable[Name]) -> None:
    """Something that is told of these has changed without a check."""
    for name in dict.fromkeys(names):
        owner = desk.roster.owner(name)
        if owner is not None:
            assess(desk, owner)


def _state(desk: Desk, record: Record, found: Found, ignored: str, *, told: bool) -> FindingState:
    alert = desk.episodes.get(found.problem.fingerprint) if told and not ignored else None
    told = alert is not None and found.severity >= desk.rules.min_severity
    since = record.since.setdefault(_which(found), desk.wall)
    if alert is not None and told:
        since = alert.started
    return FindingState(found=found, since=since, told=told, ignored=ignored)


def _next_look(desk: Desk, record: Record, ticket: Ticket, *, unwatched: bool) -> None:
    """A second time when it has settled, and when its roots are watched: what changed there during
    the first one nobody saw.
    """
    rules = desk.rules
    settled = record.begun + rules.settle
    record.settled = record.settled or ticket.began >= settled
    if unwatched or not record.settled:
        soon = desk.now + rules.debounce if unwatched else desk.now
        desk.checks.want(record.ref, max(settled, soon), "settled")
        return
    period = rules.check_again
    if desk.roots.dark(record.ref):
        period = min(period, max(rules.sweep, _UNSEEN_COST * record.seconds))
    at = next_round(record.ref, desk.now, period, len(desk.roster))
    desk.checks.want(record.ref, at, "again")


def _count_looks(desk: Desk, record: Record, ticket: Ticket, *, news: bool) -> None:
    if news:
        record.stirs = record.drifts = record.rounds = 0
    elif ticket.stopped:
        record.rounds += 1
    elif ticket.why == "stirred":
        record.stirs += 1
    elif ticket.why == "drift":
        record.drifts += 1
    if ticket.stopped or ticket.why in ("stirred", "drift"):
        record.looked = desk.now
    if ticket.why == neighbours.WHY:
        neighbours.visited(desk, record)


def _patient(desk: Desk, record: Record) -> Patient:
    engine = desk.connections.get(record.ref.engine)
    return Patient(
        by_root=engine is not None and engine.by_root,
        refused=record.refused,
        name=record.key,
        ref=record.ref,
        run=record.run,
        labels=record.labels,
        found=tuple(
            f.found
            for f in record.findings
            if not f.ignored and _which(f.found) not in record.unseen
        ),
    )


def _which(found: Found) -> tuple[str, str, str]:
    return found.problem.code, found.problem.target, found.host_path


def _shape(found: tuple[Found, ...]) -> frozenset[tuple[str, str, str, int]]:
    """What makes it another judgement: not counts, nor sentences."""
    return frozenset((*_which(f), int(f.severity)) for f in found)


def _fields(attempt: Attempt) -> dict[str, str]:
    cure = attempt.cure
    return {"code": cure.code, "remedy": cure.remedy, "path": printable(cure.path)}
