"""What is heard of an engine, and what is not: clocks, long events, and the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from permdoctor.daemon import heard as heard_events
from permdoctor.daemon import source
from permdoctor.daemon.events import Action, Connected, Event, Happened, Swept
from permdoctor.daemon.inbox import Inbox
from permdoctor.daemon.source import Pace, Source
from permdoctor.engines.endpoints import find_endpoints
from permdoctor.engines.events import MAX_LINE
from tests.daemon import engine as module
from tests.daemon.engine import StandIn
from tests.daemon.scene import REFUSED, actor
from tests.daemon.service import Service
from tests.lab.lab import Lab
from tests.lab.patience import until

HOUR = 3600 * 10**9


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "s") as made:
        yield made


class Heard:
    """A source, and what it has put into its inbox."""

    def __init__(self, engine: StandIn) -> None:
        self.inbox = Inbox(1000)
        self.lost: set[str] = set()
        self.events: list[Event] = []
        (endpoint,) = find_endpoints((engine.host,), {})
        self.source = Source(endpoint, self.inbox)
        self.source.start()
        self.hears(Connected)

    def all(self) -> list[Event]:
        self.events += self.inbox.take(1000)
        self.lost |= self.inbox.lost()
        return self.events

    def hears(self, kind: type[Event]) -> None:
        until(lambda: any(isinstance(e, kind) for e in self.all()), every=0.02)

    def starts(self) -> list[str]:
        happened = [e for e in self.all() if isinstance(e, Happened)]
        return [e.container.name for e in happened if e.action is Action.START]


@pytest.fixture
def heard(engine: StandIn) -> Iterator[Heard]:
    made = Heard(engine)
    yield made
    made.source.stop()
    assert made.source.join(60)


class _Time:
    """The engine's clock."""

    sleep = staticmethod(time.sleep)
    time_ns: Callable[[], int]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_clock_that_is_set_back_silences_nobody(
    engine: StandIn, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    """Whether something was heard before or not."""
    monkeypatch.setattr(heard_events, "BEFORE", 0.2)
    monkeypatch.setattr(source, "BEFORE", 0.2)
    heard = Heard(engine)
    if quiet:
        time.sleep(0.3)
    else:
        engine.start(engine.add("before", os.getpid()))
        until(lambda: heard.starts() == ["before"], every=0.02)
    late = _Time()
    late.time_ns = lambda: time.time_ns() - HOUR
    monkeypatch.setattr(module, "time", late)
    engine.start(engine.add("after", os.getpid()))
    until(lambda: heard.starts()[-1:] == ["after"], every=0.02, seconds=30)
    heard.source.stop()


def test_what_was_listed_is_not_heard_again(engine: StandIn) -> None:
    engine.start(engine.add("one", os.getpid()))
    heard = Heard(engine)
    engine.start(engine.add("two", os.getpid()))
    until(lambda: "two" in heard.starts(), every=0.02)
    heard.source.stop()
    assert heard.starts() == ["two"], "its start was replayed: the stream begins before the list"


def test_an_engine_that_is_away_is_tried_later_each_time_and_never_in_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that lost one engine together do not come back to it together."""
    drawn: list[tuple[float, float]] = []
    pauses: list[float] = []

    def uniform(least: float, most: float) -> float:
        drawn.append((least, most))
        return 1.0

    monkeypatch.setattr(source.random, "uniform", uniform)
    (endpoint,) = find_endpoints((f"unix://{tmp_path}/nobody",), {})
    away = Source(endpoint, Inbox(100), pace=Pace(least=0.01, most=0.05))
    wait = away._stop.wait
    monkeypatch.setattr(away._stop, "wait", lambda s: (pauses.append(s), wait(s))[1])
    away.start()
    until(lambda: len(drawn) >= 6, every=0.02)
    away.stop()
    assert away.join(60)
    assert all(least < 1 < most for least, most in drawn)
    assert [p for p in pauses if p < 0.2][:5] == [0.01, 0.02, 0.04, 0.05, 0.05]


def test_an_event_without_an_end_is_a_loss(engine: StandIn, heard: Heard) -> None:
    """Not a connection: everybody would be judged again, each time."""
    big = engine.add("big", os.getpid(), labels={"x": "y" * 2 * MAX_LINE})
    engine.start(big)
    until(lambda: heard.all() and heard.lost, every=0.02)
    heard.source.list(1)
    heard.hears(Swept)
    assert sum(isinstance(e, Connected) for e in heard.events) == 1
    engine.emit(engine.add("small", os.getpid()), "exec_start: true")
    engine.containers[big.id].labels.clear()
    engine.emit(big, "exec_start: true")
    until(lambda: any(isinstance(e, Happened) for e in heard.all()), every=0.02)


def test_nothing_is_said_after_the_end(engine: StandIn, heard: Heard) -> None:
    """Neither of a list that was under way nor of the end itself."""
    engine.pause = 0.3
    heard.source.list(1)
    time.sleep(0.1)
    heard.source.stop()
    said = len(heard.all())
    engine.pause = 0.0
    engine.start(engine.add("late", os.getpid()))
    assert heard.source.join(60)
    assert heard.all()[said:] == []


def test_an_engine_that_is_taken_out_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    with (
        actor(lab, 0) as bad,
        StandIn(tmp_path / "a") as one,
        StandIn(tmp_path / "b") as two,
    ):
        for each in (one, two):
            each.start(each.add(f"on-{each.path.name}", bad.pid, mounts=bad.mounts))
        hosts = f"[engines]\nhosts = ['{one.host}', '{two.host}']"
        service = Service(tmp_path / "service", more=hosts).start()
        try:
            both = {("on-a", REFUSED), ("on-b", REFUSED)}
            until(lambda: service.findings() == both, say=lambda: service.log)
            service.configure(more=f"[engines]\nhosts = ['{one.host}']")
            service.signal(signal.SIGHUP)
            until(lambda: service.findings() == {("on-a", REFUSED)}, say=lambda: service.log)
            two.hang_up()
            time.sleep(0.5)
            status = service.get("/v1/status")
        finally:
            service.stop()
    assert [e["endpoint"] for e in status["engines"]] == [one.host]
    assert status["firing"] == 1
    assert 'why="its engine is not watched any more"' in service.log
