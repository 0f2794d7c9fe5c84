"""Repairs that nobody asks for: which rule allows what, when, and what became of them.

One at a time, ``repairs_per_hour`` over all, at most half of them for one (``quota.py``).  A repair
is proven by the first check that begins after it: where that still finds the problem it did not
help, and is not tried again before the container has another run (after a second failure in another
run at once, then hours) or the rules change; that is a finding of its own, PD401, as is what helps
and is undone again and again (``relapses.py``).  Two that fight over one path are PD402
(``fights.py``).  The executor asks the policy again: what is chosen here is only a wish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert
from permdoctor.daemon.attempts import NEVER, Attempt, Choice, Failure, Obstacle, Proof
from permdoctor.daemon.complaints import FIGHT, NOT_HELPED, fought, not_helped, undone
from permdoctor.daemon.cures import (
    Cure,
    Patient,
    bytes_of,
    cures,
    not_allowed,
    opens_in,
    shown,
)
from permdoctor.daemon.episodes import HOUR, Name
from permdoctor.daemon.events import (
    ContainerRef,
    Found,
    PastRepair,
    Repair,
    Repaired,
    RepairRule,
    Rules,
    Unknown,
)
from permdoctor.daemon.fights import Did, Fights
from permdoctor.daemon.quota import Quota
from permdoctor.daemon.relapses import Relapses

_FAILED: Final = 4096


class Repairs:
    """``minute_of_day`` is the local one of seconds since the epoch."""

    def __init__(
        self, rules: Rules, deadline: float, minute_of_day: Callable[[float], int]
    ) -> None:
        self._rules = rules
        self._deadline = deadline
        self._minute = minute_of_day
        self._quota = Quota()
        self._relapses = Relapses()
        self._number = 0
        self._under_way: Attempt | None = None
        self._unproven: dict[Name, Attempt] = {}
        self._failed: dict[Name, dict[Cure, Failure]] = {}
        self._fights = Fights()

    @property
    def wanted(self) -> bool:
        """Whether somebody allowed any."""
        return bool(self._rules.repairs)

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._under_way is not None

    def begun(self, now: float) -> int:
        """How many were begun within the last hour."""
        return self._quota.begun(now)

    def names(self) -> frozenset[Name]:
        """Of whom something is kept."""
        return self._fights.names().union(self._failed, self._unproven)

    def due(self) -> float | None:
        return None if self._under_way is None else self._under_way.deadline

    # -- before ------------------------------------------------------------------------------

    def choose(self, patient: Patient, now: float, wall: float) -> Choice:
        """The first repair that a rule allows, and that was not in vain.  One is begun at a time:
        not to be asked while one is under way.
        """
        assert self._under_way is None
        most = self._rules.repairs_per_hour
        if most <= 0 or patient.name in self._unproven:
            return Choice()
        later: list[float] = []
        for cure, rule, found in cures(patient, self._rules.repairs):
            obstacle = self._obstacle(cure, rule, patient.run, now, wall)
            if obstacle is not None:
                later.append(obstacle.until)
                continue
            fight = self._fights.would(cure.did(now, found.who))
            if fight is not None:
                return Choice(fight=fight)
            free, full = self._quota.free(patient.name, most, now)
            if full:
                return Choice(later=free)
            return self._begin(patient, cure, rule, found.who, now)
        first = min(later, default=NEVER)
        return Choice(later=first if first < NEVER else None)

    def why_not(self, patient: Patient, found: Found, now: float, wall: float) -> str:
        """Why this is not repaired although it could be and somebody allowed something for this
        container; empty: nobody did, or it will be in a moment.
        """
        no = not_allowed(patient, found, self._rules.repairs)
        if no:
            return f"not done: {no}"
        whys = []
        for cure, rule, _ in cures(replace(patient, found=(found,)), self._rules.repairs):
            obstacle = self._obstacle(cure, rule, patient.run, now, wall)
            if obstacle is None:
                most = self._rules.repairs_per_hour
                _, full = self._quota.free(patient.name, most, now)
                return f"waits: {full}" if full and not self._is_at_work(cure) else ""
            waits = "waits" if obstacle.until < NEVER else "not done"
            whys.append(f"{waits}: {obstacle.why}")
        return next(iter(whys), "")

    def _is_at_work(self, cure: Cure) -> bool:
        attempts = (self._under_way, self._unproven.get(cure.name))
        return any(a is not None and a.cure == cure for a in attempts)

    def _obstacle(
        self, cure: Cure, rule: RepairRule, run: int, now: float, wall: float
    ) -> Obstacle | None:
        failure = self._in_vain(cure, run, now)
        if failure is not None:
            why = failure.why if failure.denied else f"{cure.remedy} did not help"
            return Obstacle(why=why)
        until = self._relapses.until(cure, now)
        if until is not None:
            return Obstacle(why="somebody undoes it", until=until)
        opens = opens_in(rule.window, self._minute(wall), wall % 60)
        if rule.window is not None and opens > 0:
            return Obstacle(why=f"outside {shown(rule.window)}", until=now + opens)
        fight = self._fights.over(cure.path)
        if fight is not None and any(p.name == cure.name for p in fight.parties):
            return Obstacle(why="repairs there undo each other")
        return None

    def _begin(
        self, patient: Patient, cure: Cure, rule: RepairRule, who: str, now: float
    ) -> Choice:
        self._number += 1
        self._quota.begin(patient.name, now)
        attempt = Attempt(
            number=self._number,
            cure=cure,
            ref=patient.ref,
            deadline=now + self._deadline,
            who=who,
            run=patient.run,
        )
        self._under_way = attempt
        repair = Repair(
            number=attempt.number,
            ref=patient.ref,
            remedy=cure.remedy,
            root=cure.path,
            max_entries=rule.max_entries,
            code=cure.code,
            target=cure.target,
        )
        return Choice(repair=repair, attempt=attempt)

    def _in_vain(self, cure: Cure, run: int, now: float) -> Failure | None:
        failed = self._failed.get(cure.name, {})
        failure = failed.get(cure) or failed.get(cure.known_later)
        if failure is None or failure.run is None or failure.run == run:
            return failure
        return failure if now < failure.at + HOUR * (failure.times - 1) else None

    # -- after -------------------------------------------------------------------------------

    def done(self, event: Repaired, now: float, latest_check: int) -> Attempt | None:
        """It came back; ``None``: another one than the one under way."""
        attempt = self._under_way
        if attempt is None or event.number != attempt.number:
            return None
        if event.denied or not (event.applied or event.failed):
            self._quota.take_back(attempt.cure.name)
        if event.applied > 0:
            self._fights.did(attempt.cure.did(now, attempt.who))
        attempt = replace(
            attempt,
            failed=event.failed,
            id=event.id,
            applied=event.applied,
            denied=event.denied,
        )
        if attempt.denied:
            self._under_way = None
            self._fail(attempt, attempt.run, now)
            return attempt
        return self._ended(attempt, latest_check)

    def given_up(self, now: float, latest_check: int) -> Attempt | None:
        """The one under way, if it should have come back before."""
        attempt = self._under_way
        if attempt is None or now < attempt.deadline:
            return None
        return self._ended(replace(attempt, failed="it did not come back in time"), latest_check)

    def _ended(self, attempt: Attempt, latest_check: int) -> Attempt:
        self._under_way = None
        attempt = replace(attempt, proof=latest_check)
        self._unproven[attempt.cure.name] = attempt
        return attempt

    def judged(
        self,
        name: Name,
        run: int,
        number: int,
        found: tuple[Found, ...],
        now: float,
        unknown: tuple[Unknown, ...] = (),
    ) -> Proof | None:
        """A check of that name came back, which ``found`` this and could not see what is
        ``unknown``: what was repaired may be proven now.
        """
        self._relapses.judged(name, found, now)
        failed = self._failed.get(name, {})
        for cure in tuple(failed):
            if not any(cure.is_for(f) for f in found):
                if any(u.covers(cure.problem) for u in unknown):
                    continue
                if cure.remedy and failed[cure].applied:
                    self._relapses.helped(cure, now)
                del failed[cure]
            elif failed[cure].run is None:
                failed[cure] = replace(failed[cure], run=run)
        if not failed:
            self._failed.pop(name, None)
        attempt = self._unproven.get(name)
        if attempt is None or attempt.proof is None or number <= attempt.proof:
            return None
        helped = not any(attempt.cure.is_for(f) for f in found)
        unseen = [u for u in unknown if helped and u.covers(attempt.cure.problem)]
        if any(not u.partial for u in unseen):
            return None
        del self._unproven[name]
        if unseen:
            return None  # nobody will ever know
        if helped and attempt.applied:
            self._relapses.helped(attempt.cure, now, attempt.id)
        elif not helped:
            self._fail(attempt, run, now)
        return Proof(attempt=attempt, helped=helped)

    def _fail(self, attempt: Attempt, run: int, now: float) -> None:
        failed = self._failed.setdefault(attempt.cure.name, {})
        known = failed.pop(attempt.cure, None)
        failed.pop(attempt.cure.known_later, None)
        again = "the problem was there again" if attempt.applied else "it would change nothing"
        why = attempt.failed or again
        if attempt.id:
            why = f"{why} (permdoctor history {attempt.id})"
        times = 1 if known is None else known.times + 1
        failed[attempt.cure] = Failure(
            run=run,
            at=now,
            times=times,
            why=why,
            applied=attempt.applied > 0,
            denied=attempt.denied,
        )

    def findings(self, name: Name, found: tuple[Found, ...], now: float) -> tuple[Found, ...]:
        """PD401 and PD402 of a container with these findings."""
        again = tuple(undone(name, self._relapses.stopped(name, now), found))
        said = {f.problem.target for f in again}
        vain = not_helped(name, self._failed.get(name, {}), found)
        fights = fought(name, self._fights.of(name))
        return (*again, *(f for f in vain if f.problem.target not in said), *fights)

    # -- what ends it ------------------------------------------------------------------------

    def reloaded(self, rules: Rules) -> None:
        """Under another policy everything may be tried again; the hour's cap goes on."""
        before, self._rules = self._rules, rules
        if (rules.repairs, rules.policy) == (before.repairs, before.policy):
            return
        self._failed.clear()
        self._fights.clear()
        self._relapses.clear()

    def forget(self, name: Name) -> frozenset[Name]:
        """Nobody of that name is there any more.  Gives those who have peace now."""
        self._failed.pop(name, None)
        self._unproven.pop(name, None)
        others = {p.name for f in self._fights.of(name) for p in f.parties}
        self._fights.forget(name)
        return frozenset(others - {name})

    def restored(
        self, alerts: Iterable[Alert], past: Iterable[PastRepair], now: float, wall: float
    ) -> None:
        """What was in vain before the service was started is in vain now, and what was begun then
        counts: for the hour's cap, for fights, and until a check has proven it.
        """
        known: set[Cure] = set()
        for repair in sorted(past, key=lambda p: p.at):
            self._did_before(repair, now - min(max(wall - repair.at, 0.0), HOUR), known)
        for alert in alerts:
            problem = alert.problem
            name = (problem.engine, problem.container)
            if problem.code == NOT_HELPED and len(self._failed) < _FAILED:
                cure = Cure(name=name, target=problem.target)
                why = alert.detail[1] if len(alert.detail) > 1 else "it was so before"
                failure = Failure(run=None, at=now, times=1, why=why)
                self._failed.setdefault(name, {})[cure] = failure
            path = bytes_of(alert.host_path)
            if problem.code == FIGHT and path is not None:
                did = Did(at=now, path=path, name=name, remedy="repair", target=problem.target)
                self._fights.restored(path, did)

    def _did_before(self, repair: PastRepair, at: float, known: set[Cure]) -> None:
        """Whether the last was proven is not known: where the problem is there, it was in vain.
        Of another one before it that is known: it was needed again.
        """
        name = (repair.engine, repair.container)
        cure = Cure(
            name=name,
            target=repair.target,
            code=repair.code,
            remedy=repair.remedy,
            path=repair.path,
        )
        self._quota.begin(name, at)
        if cure in known:
            self._relapses.needed(cure, at)
        if repair.applied > 0:
            self._fights.did(cure.did(at))
            known.add(cure)
        ref = ContainerRef(engine=repair.engine, id="")
        self._unproven[name] = Attempt(
            number=0,
            cure=cure,
            ref=ref,
            deadline=at,
            proof=0,
            failed=repair.failed,
            id=repair.id,
            applied=repair.applied,
        )
