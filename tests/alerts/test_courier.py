"""When, how often and in which order a sink is told: at times that the test sets."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from permdoctor.alerts import courier, ledger, pace, room
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.courier import STALE, Courier
from permdoctor.alerts.sink import RetryError, Sink, UndeliverableError
from permdoctor.alerts.store import Store
from permdoctor.diagnosis.report import Severity

from .build import Taker, alert, resolved

WALL = 1_700_000_000.0


class Post:
    """An outbox without threads: a store, couriers, and a clock that the test moves."""

    def __init__(self, file: Path, *sinks: Sink, now: float = 0.0) -> None:
        from permdoctor.alerts.database import prepare

        assert prepare(str(file))
        self.now = now
        self.lines: list[tuple[str, str, Mapping[str, str]]] = []
        self.store = Store(str(file), sinks, now=WALL + now)
        self.couriers = [
            Courier(s, self.store, lambda *line: self.lines.append(line), lambda: 0.999, now)
            for s in sinks
        ]

    def tell(self, *alerts: Alert) -> None:
        for each in alerts:
            for name, number in self.store.tell(each, WALL + self.now).evicted:
                (courier,) = (c for c in self.couriers if c.sink.name == name)
                courier.evicted(number)

    def run(self, seconds: float = 0.0) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while True:
            waits = [c.step(self.now, WALL + self.now) for c in self.couriers]
            after = min((w for w in waits if w is not None), default=float("inf"))
            if self.now + after > end:
                self.now = end
                return
            self.now += after

    def step(self) -> None:
        for each in self.couriers:
            each.step(self.now, WALL + self.now)

    def logged(self, event: str) -> int:
        return sum(line[1] == event for line in self.lines)


Make = Callable[..., Post]


@pytest.fixture
def post(tmp_path: Path) -> Make:
    return lambda *sinks, **more: Post(tmp_path / "outbox", *sinks, **more)


def test_told_once(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    box.tell(alert(1), alert(1), alert(2))
    box.run()
    box.tell(alert(1))
    box.run(60)
    assert sink.ids == [alert(1).id, alert(2).id]
    assert box.store.firing() == (alert(1), alert(2))
    assert box.store.waiting() == {"taker": 0}


def test_a_resolve_follows_and_ends(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    box.tell(alert())
    box.run()
    box.tell(resolved(alert()), resolved(alert()), alert())
    box.run()
    assert sink.ids == [alert().id, resolved(alert()).id]
    assert box.store.firing() == ()


def test_an_episode_that_is_over_does_not_become_worse(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    mild = alert(severity=Severity.WARNING)
    box.tell(mild, resolved(mild))
    box.run()
    box.tell(alert(revision=1))
    box.run(60)
    assert sink.ids == [mild.id, resolved(mild).id]


def test_a_resolve_of_nothing_is_nothing(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    box.tell(resolved(alert()))
    box.run(600)
    assert sink.calls == []


def test_order_of_one_problem(post: Make) -> None:
    """Firing, resolve and the next episode wait; others overtake them, they not each other."""
    sink = Taker(failures=[RetryError("away")])
    box = post(sink)
    again = alert(1, started=alert().started + 100)
    box.tell(alert(1), resolved(alert(1)), again, alert(2))
    box.run(10)
    assert sink.ids == [alert(2).id, alert(1).id, resolved(alert(1)).id, again.id]


def test_order_is_kept_by_chance_too(post: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "STALE", float("inf"))
    chance = random.Random(7)
    failures = [RetryError("x") if chance.random() < 0.4 else None for _ in range(300)]
    sink = Taker(failures=list(failures), batch=3)
    box = post(sink)
    told: dict[str, list[str]] = {}
    for step in range(120):
        number = chance.randrange(5)
        history = told.setdefault(alert(number).problem.fingerprint, [])
        started = alert().started + len(history) // 2
        of = alert(number, started=started)
        box.tell(of if len(history) % 2 == 0 else resolved(of))
        history.append(of.id if len(history) % 2 == 0 else resolved(of).id)
        box.run(chance.random() * 3 if step % 3 else 0)
    box.run(3600)
    for fingerprint, history in told.items():
        assert [i for i in sink.ids if i.startswith(fingerprint)] == history


def test_a_new_episode_ends_the_one_before(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    again = alert(1, started=alert().started + 100)
    box.tell(alert(1), again)
    box.run()
    assert [a.status for a in sink.taken] == ["firing", "resolved", "firing"]
    assert box.store.firing() == (again,)


def test_what_becomes_more_severe_is_told_again(post: Make) -> None:
    errors, everything = Taker(name="e", min_severity=Severity.ERROR), Taker(name="all")
    box = post(errors, everything)
    mild, bad = alert(severity=Severity.WARNING), alert(revision=1)
    box.tell(mild)
    box.run()
    assert (errors.ids, everything.ids) == ([], [mild.id])
    box.tell(bad, mild)
    box.run()
    assert (errors.ids, everything.ids) == ([bad.id], [mild.id, bad.id])
    assert box.store.firing() == (bad,)
    box.tell(resolved(bad))
    box.run()
    assert errors.ids == [bad.id, resolved(bad).id]
    assert everything.ids == [mild.id, bad.id, resolved(bad).id]


class Mild(Taker):
    """Refuses errors."""

    def send(self, alerts: object) -> None:
        if any(a.severity is Severity.ERROR for a in alerts if a.ended is None):  # type: ignore[attr-defined]
            raise UndeliverableError("HTTP status 400")
        super().send(alerts)  # type: ignore[arg-type]


def test_a_resolve_comes_if_any_firing_came(post: Make) -> None:
    sink = Mild()
    box = post(sink)
    mild, bad = alert(severity=Severity.WARNING), alert(revision=1)
    box.tell(mild, bad, resolved(bad), alert(2), resolved(alert(2)))
    box.run(60)
    assert sink.ids == [mild.id, resolved(bad).id]


def moved(number: int = 1, revision: int = 1, **more: Any) -> Alert:
    """To somebody else."""
    who = f"{revision}:{revision}"
    return alert(number, who=who, remedies=(f"chown {who} /d",), revision=revision, **more)


def test_who_can_use_an_update_gets_it(post: Make) -> None:
    pager, chat = Taker(name="pager", updates=True), Taker(name="chat")
    strict = Taker(name="strict", updates=True, min_severity=Severity.ERROR)
    box = post(pager, chat, strict)
    box.tell(alert(1), alert(2, severity=Severity.WARNING))
    box.run()
    box.tell(moved(1), moved(2, severity=Severity.WARNING))
    box.run(60)
    assert chat.ids == [alert(1).id, alert(2).id]
    assert [(a.id, a.update) for a in pager.taken[2:]] == [
        (moved(1).id, True),
        (moved(2).id, True),
    ]
    assert strict.ids == [alert(1).id, moved(1).id]
    box.tell(*(resolved(moved(n)) for n in (1, 2)))
    box.run()
    assert [a.remedies for a in chat.taken[2:]] == [moved().remedies] * 2
    assert len(strict.ids) == 3


def test_an_update_to_a_milder_severity(post: Make) -> None:
    """Who was told of the error is told that it is none any more; nobody anew that it is again."""
    errors = Taker(name="e", min_severity=Severity.ERROR, updates=True)
    chat = Taker(name="chat")
    box = post(errors, chat)
    for revision, severity in enumerate((Severity.ERROR, Severity.WARNING, Severity.ERROR)):
        box.tell(alert(severity=severity, revision=revision))
        box.run()
    assert [a.severity.name for a in errors.taken] == ["ERROR", "WARNING", "ERROR"]
    assert [a.update for a in errors.taken] == [False, True, True]
    assert len(chat.ids) == 1


def test_worse_is_told_anew(post: Make) -> None:
    sink = Taker(updates=True)
    box = post(sink)
    for revision, severity in enumerate((Severity.INFO, Severity.WARNING, Severity.ERROR)):
        box.tell(alert(severity=severity, revision=revision))
        box.run()
    assert [a.update for a in sink.taken] == [False] * 3


@pytest.mark.parametrize("updates", [True, False])
def test_what_was_not_heard_yet_is_told_as_it_is_now(post: Make, updates: bool) -> None:
    """However many updates there were meanwhile, and as what is new."""
    sink = Taker(failures=[RetryError("away", after=600)], updates=updates)
    box = post(sink)
    box.tell(alert(9))
    box.run()
    box.tell(alert(1))
    for revision in range(1, 9):
        box.tell(moved(1, revision))
    assert box.store.waiting() == {"taker": 2}
    box.run(700)
    (told,) = (a for a in sink.taken if a.problem == alert(1).problem)
    assert told == moved(1, 8)


def test_what_was_perhaps_heard_is_followed_by_the_newest(post: Make) -> None:
    sink = Taker(failures=[RetryError("no answer", after=60)], updates=True)
    box = post(sink)
    box.tell(alert(1))
    box.run()
    box.tell(*(moved(1, revision) for revision in range(1, 9)))
    assert box.store.waiting() == {"taker": 2}
    box.run(60)
    assert sink.ids == [alert(1).id, moved(1, 8).id]


class Racer(Taker):
    """While it is told, there is news."""

    def send(self, alerts: Sequence[Alert]) -> None:
        super().send(alerts)
        if len(self.calls) == 1:
            self.box.tell(moved(1))

    box: Post


def test_news_while_it_is_told(post: Make) -> None:
    sink = Racer(updates=True)
    sink.box = box = post(sink)
    box.tell(alert(1))
    box.run()
    assert sink.ids == [alert(1).id, moved(1).id]


def test_what_is_told_is_what_was_noted(post: Make) -> None:
    """News between the choice of a delivery and its attempt takes its place, once."""
    sink = Taker(updates=True)
    box = post(sink)
    box.tell(alert(1))
    found = box.store.next("taker", 1, ())
    box.tell(moved(1))
    assert [d.alert for d in box.store.begin("taker", found)] == [moved(1)]


def test_another_count_waits_with_the_alert(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    box.tell(alert(1), alert(1, count=9))
    box.run()
    assert sink.taken == [alert(1, count=9)]


def test_a_restart_tells_nothing_again(post: Make) -> None:
    box = post(Taker(name="pager", updates=True), Taker(name="chat"))
    box.tell(alert(1))
    box.run()
    box.tell(moved(1))
    box.run()
    box.store.close()
    pager, chat, new = Taker(name="pager", updates=True), Taker(name="chat"), Taker(name="new")
    box = post(pager, chat, new)
    box.run()
    assert (pager.ids, chat.ids) == ([], [])
    assert new.taken == [moved(1)]
    assert box.store.firing() == (moved(1),)


def test_an_update_that_was_refused(post: Make) -> None:
    """The resolve comes all the same: it was told of the firing."""
    sink = Taker(failures=[None, UndeliverableError("HTTP status 400")], updates=True)
    box = post(sink)
    box.tell(alert(1))
    box.run()
    box.tell(moved(1))
    box.run()
    box.tell(resolved(moved(1)))
    box.run()
    assert sink.ids == [alert(1).id, resolved(moved(1)).id]


def test_old_and_over_whatever_its_severities(post: Make) -> None:
    sink = Taker(failures=[RetryError("away", after=STALE * 2)])
    box = post(sink)
    box.tell(alert(9))
    box.run()
    bad = alert(revision=1)
    box.tell(alert(severity=Severity.WARNING), bad, resolved(bad))
    box.run(STALE * 3)
    assert sink.ids == [alert(9).id]
    assert box.store.waiting() == {"taker": 0}


def test_who_was_not_told_hears_of_no_resolve(post: Make) -> None:
    errors = Taker(min_severity=Severity.ERROR)
    box = post(errors)
    low = alert(severity=Severity.WARNING)
    box.tell(low, resolved(low), resolved(alert(2)))
    box.run(3600)
    assert errors.calls == []


def test_retries_back_off_and_are_logged_once(post: Make) -> None:
    sink = Taker(failures=[RetryError("away")] * 8)
    box = post(sink)
    box.tell(alert())
    box.run(100)
    assert len(sink.calls) == 7  # at 0, 1, 3, 7, 15, 31, 63
    box.run(10_000)
    assert sink.ids == [alert().id]
    assert (box.logged("sink fails"), box.logged("sink works again")) == (1, 1)
    counters = box.couriers[0].counters()
    assert (counters.sent, counters.failed, counters.last_error) == (1, 8, "")


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_backoff(chance: float) -> None:
    waits = [pace.backoff(n, chance) for n in range(1, 2000)]
    assert all(0 < w <= pace.CAP for w in waits)
    assert all(a <= b for a, b in pairwise(waits))
    assert waits[-1] >= pace.CAP / 2


def test_a_sink_is_left_alone_as_long_as_it_asked(post: Make) -> None:
    sink = Taker(failures=[RetryError("429", after=120)])
    box = post(sink)
    box.tell(alert(1))
    box.run()
    box.tell(alert(2))
    box.run(119)
    assert len(sink.calls) == 1
    box.run(1)
    assert sorted(sink.ids) == sorted([alert(1).id, alert(2).id])


def test_it_may_not_ask_for_ever(post: Make) -> None:
    sink = Taker(failures=[RetryError("429", after=1e9)])
    box = post(sink)
    box.tell(alert())
    box.run(pace.LONGEST_ASKED)
    assert sink.ids == [alert().id]


class Choosy(Taker):
    """Cannot digest one alert."""

    error: Exception = RetryError("HTTP status 500")

    def send(self, alerts: object) -> None:
        if any(a.problem == alert(1).problem for a in alerts):  # type: ignore[attr-defined]
            self.calls.append(())
            raise self.error
        super().send(alerts)  # type: ignore[arg-type]


def test_one_that_it_cannot_digest_does_not_hold_up_others(post: Make) -> None:
    sink = Choosy()
    box = post(sink)
    for number in range(1, 20):
        box.tell(alert(number))
        box.run(2)
    assert len(sink.ids) == 18
    assert box.store.waiting() == {"taker": 1}


@pytest.mark.parametrize("batch", [1, 8])
def test_what_is_refused_is_dropped_with_its_resolve(post: Make, batch: int) -> None:
    sink = Choosy(batch=batch)
    sink.error = UndeliverableError("HTTP status 400")
    box = post(sink)
    box.tell(*(alert(n) for n in range(1, 6)))
    box.run(60)
    box.tell(resolved(alert(1)), resolved(alert(2)))
    box.run(60)
    expected = [alert(n).id for n in range(2, 6)] + [resolved(alert(2)).id]
    assert sink.ids == expected
    assert box.logged("alert dropped: refused") == 1
    assert box.couriers[0].counters().dropped == 1
    assert box.store.waiting() == {"taker": 0}


def test_what_was_refused_is_tried_after_a_restart(post: Make) -> None:
    """It fires still, and the configuration may be right now."""
    box = post(Taker(failures=[UndeliverableError("HTTP status 400")]))
    box.tell(alert())
    box.run(60)
    box.store.close()
    sink = Taker()
    box = post(sink)
    box.run()
    assert sink.ids == [alert().id]


@pytest.mark.parametrize(
    ("away", "heard"),
    [pytest.param(STALE - 60, 2, id="short"), pytest.param(STALE + 60, 0, id="long")],
)
def test_old_and_over(post: Make, away: float, heard: int) -> None:
    sink = Taker(failures=[RetryError("away", after=away)])
    box = post(sink)
    box.tell(alert(9))
    box.run()
    box.tell(alert(1), resolved(alert(1)))
    box.run(away + 60)
    assert len([i for i in sink.ids if i.startswith(alert(1).problem.fingerprint)]) == heard
    assert alert(9).id in sink.ids
    assert box.couriers[0].counters().stale == (heard == 0)
    assert box.logged("alert not sent: over before the sink came back") == (heard == 0)


def test_old_and_over_but_perhaps_heard_of(post: Make) -> None:
    """The attempt failed; the receiver may have taken it all the same, and have it open."""
    sink = Taker(failures=[RetryError("no answer", after=STALE * 2)])
    box = post(sink)
    box.tell(alert())
    box.run()
    box.tell(resolved(alert()))
    box.run(STALE * 3)
    assert sink.ids == [alert().id, resolved(alert()).id]


def test_old_but_not_over(post: Make) -> None:
    sink = Taker(failures=[RetryError("away", after=3000)])
    box = post(sink)
    box.tell(alert(9))
    box.run()
    box.tell(alert(1))
    box.run(3000)
    assert alert(1).id in sink.ids


def test_rate_limit(post: Make) -> None:
    sink = Taker(per_minute=6)
    box = post(sink)
    box.tell(*(alert(n) for n in range(20)))
    box.run()
    assert len(sink.ids) == 6
    box.run(60)
    assert len(sink.ids) == 12
    box.run(600)
    assert len(sink.ids) == 20


def test_resend(post: Make) -> None:
    sink = Taker(resend=60, batch=2)
    box = post(sink)
    box.tell(*(alert(n) for n in range(3)))
    box.run()
    assert len(sink.ids) == 3
    box.run(60)
    assert len(sink.ids) == 6
    box.tell(resolved(alert(1)))
    box.run(60)
    assert sink.ids[6:] == [resolved(alert(1)).id, alert(0).id, alert(2).id] or sink.ids[6:] == [
        alert(0).id, alert(2).id, resolved(alert(1)).id
    ]  # fmt: skip
    box.run(60)
    assert sink.ids[9:] == [alert(0).id, alert(2).id]


def test_resend_says_the_newest(post: Make) -> None:
    sink = Taker(resend=60)
    box = post(sink)
    box.tell(alert())
    box.run()
    box.tell(alert(count=7))
    box.run(60)
    assert [a.count for a in sink.taken] == [1, 7]


class Slow(Taker):
    """Each of its answers takes 9 s."""

    box: Post

    def send(self, alerts: Sequence[Alert]) -> None:
        self.box.now += 9
        super().send(alerts)


def test_a_round_of_resending_that_takes_long_does_not_hold_up_what_is_new(post: Make) -> None:
    """Nor is what fires forgotten because there is always something new."""
    sink = Slow(resend=60, batch=64)
    sink.box = box = post(sink)
    box.tell(*(alert(n) for n in range(1000)))
    box.run(1000)
    box.tell(alert(5000))
    begun, sink.taken = box.now, []
    while alert(5000).id not in sink.ids:
        box.step()
    assert box.now - begun <= 3 * 9
    sink.taken = []
    for number in range(200):
        box.tell(alert(6000 + number))
        box.step()
    assert {alert(n).id for n in range(1000)} <= set(sink.ids)


def test_a_batch_that_fails_is_left_to_the_next_round(post: Make) -> None:
    sink = Taker(resend=600)
    box = post(sink)
    box.tell(*(alert(n) for n in range(4)))
    box.run(60)
    sink.taken, sink.failures = [], [None, RetryError("HTTP status 500")]
    box.run(600)
    assert sink.ids == [alert(n).id for n in (0, 2, 3)]
    box.run(600)
    assert sink.ids[3:] == [alert(n).id for n in range(4)]


def test_what_is_resolved_meanwhile_is_not_sent_again(post: Make) -> None:
    """It would fire there again."""
    sink = Taker(resend=60, batch=1)
    box = post(sink)
    box.tell(*(alert(n) for n in range(4)))
    box.run()
    sink.taken = []
    box.now += 60
    box.step()
    box.tell(resolved(alert(2)))
    box.run()
    assert sorted(sink.ids) == sorted([*(alert(n).id for n in (0, 1, 3)), resolved(alert(2)).id])


def test_resend_to_a_sink_that_is_away(post: Make) -> None:
    sink = Taker(resend=10)
    box = post(sink)
    box.tell(alert())
    box.run()
    sink.failures = [RetryError("away")] * 3
    box.run(100)
    assert 5 <= len(sink.ids) <= 10
    assert box.logged("sink fails") == 1


def test_a_fault_of_ours_is_not_the_end(post: Make) -> None:
    sink = Taker(failures=[ValueError("https://s3cr3t")])
    box = post(sink)
    box.tell(alert())
    box.run()
    assert box.couriers[0].counters().last_error == "internal error in the sink: ValueError"
    assert "s3cr3t" not in str(box.lines)
    box.run(60)
    assert sink.ids == [alert().id]


def test_a_new_sink_hears_what_fires(post: Make) -> None:
    box = post(Taker(name="old"))
    box.tell(alert(1), alert(2), resolved(alert(2)))
    box.run()
    box.tell(alert(3))
    box.store.close()
    old, new = Taker(name="old"), Taker(name="new")
    box = post(old, new)
    box.run()
    assert old.ids == [alert(3).id]
    assert sorted(new.ids) == sorted([alert(1).id, alert(3).id])


def test_a_sink_that_is_gone_is_forgotten(post: Make) -> None:
    box = post(Taker(name="old"))
    box.tell(alert(1))
    box.store.close()
    box = post(Taker(name="new"))
    assert box.store.forgotten == ("old",)
    assert box.store.waiting() == {"new": 1}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_WAITING", 20)
    monkeypatch.setattr(ledger, "MAX_FIRING", 50)
    monkeypatch.setattr(room, "AT_ONCE", 4)


@pytest.mark.usefixtures("small")
def test_room_is_made_by_what_is_over(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    pairs = [a for n in range(5) for a in (alert(n), resolved(alert(n)))]
    box.tell(*pairs, *(alert(n) for n in range(10, 23)))
    assert box.store.waiting()["taker"] <= 20
    box.run()
    assert {alert(n).id for n in range(10, 23)} <= set(sink.ids)
    heard = [n for n in range(5) if alert(n).id in sink.ids]
    assert heard == [n for n in range(5) if resolved(alert(n)).id in sink.ids] == [2, 3, 4]
    assert box.couriers[0].counters().evicted == 4
    assert box.logged("alerts dropped: too many wait for this sink") == 1


@pytest.mark.usefixtures("small")
def test_room_is_made_by_the_oldest_and_their_resolves_do_not_come(post: Make) -> None:
    sink = Taker()
    box = post(sink)
    box.tell(*(alert(n) for n in range(30)))
    assert box.store.waiting()["taker"] <= 20
    gone = [n for n in range(30) if n < 12]
    box.tell(*(resolved(alert(n)) for n in gone))
    box.run()
    assert sorted(sink.ids) == sorted(alert(n).id for n in range(12, 30))
    assert box.couriers[0].counters().evicted == 12


@pytest.mark.usefixtures("small")
def test_too_many_fire(post: Make) -> None:
    box = post(Taker())
    box.tell(*(alert(n) for n in range(50)))
    assert box.store.tell(alert(50), WALL).refused
    assert len(box.store.firing()) == 50
    box.tell(resolved(alert(0)))
    assert not box.store.tell(alert(50), WALL).refused


def test_the_file_does_not_grow(post: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "KEPT", 10)
    monkeypatch.setattr(ledger, "CLEANED", 5)
    sink = Taker(per_minute=10**6)
    box = post(sink)
    for number in range(60):
        of = alert(1, started=alert().started + number)
        box.tell(of, resolved(of))
        box.run()
    with box.store._reading() as db:
        assert db.execute("SELECT count(*) FROM alert").fetchone()[0] <= 15
        assert db.execute("SELECT count(*) FROM delivery").fetchone()[0] <= 30
    assert len(sink.ids) == 120


def test_the_file_does_not_grow_over_restarts(post: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them lives long enough to count to ``CLEANED``."""
    monkeypatch.setattr(ledger, "KEPT", 10)
    for number in range(30):
        box = post(Taker(per_minute=10**6))
        of = alert(1, started=alert().started + number)
        box.tell(of, resolved(of))
        box.run()
        box.store.close()
    with post(Taker()).store._reading() as db:
        assert db.execute("SELECT count(*) FROM alert").fetchone()[0] <= 11
        assert db.execute("SELECT count(*) FROM delivery").fetchone()[0] <= 22
