"""The service as a process, with a stand-in engine that loses, hangs and comes back."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.receiver import Receiver, answer
from tests.daemon.engine import Fake, StandIn
from tests.daemon.scene import REFUSED, UID, Actor, actor, cast
from tests.daemon.service import Service
from tests.engines.test_tcp import free_port
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.patience import Patience, until
from tests.lab.silent import silent_fuse

Pair = tuple[Actor, Actor]

HASTY = """
import permdoctor.daemon.source as source
Pace = source.Pace
source.Pace = lambda: Pace(ping=0.3, answer=0.5, least=0.1)
"""
STUCK = """
import sys
import time
from permdoctor.daemon.serve import _Service
_Service._reload = lambda self: (sys.stderr.write("stuck=yes\\n"), time.sleep(60))
"""
SLOW_READER = """
import time
from permdoctor.daemon.inbox import Inbox
real = Inbox.take
def take(self, most):
    time.sleep(0.2)
    return real(self, most)
Inbox.take = take
"""


@pytest.fixture(scope="module")
def actors(lab: Lab) -> Iterator[Pair]:
    with cast(lab) as pair:
        yield pair


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "engine.sock") as made:
        yield made


@pytest.fixture
def service(tmp_path: Path, engine: StandIn) -> Iterator[Service]:
    made = Service(tmp_path / "service", engine.host)
    yield made
    made.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(answer(200))
    yield made
    made.close()


def added(engine: StandIn, name: str, of: Actor, **more: Any) -> Fake:
    return engine.add(name, of.pid, mounts=of.mounts, **more)


def started(engine: StandIn, name: str, of: Actor, **more: Any) -> Fake:
    fake = added(engine, name, of, **more)
    engine.start(fake)
    return fake


def alerts(receiver: Receiver) -> list[dict[str, Any]]:
    return [r.json["data"] for r in list(receiver.requests)]


def webhook(receiver: Receiver) -> str:
    return f'[[alerts.webhook]]\nurl = "{receiver.url}/"\nper_minute = 6000'


# --- what starts is judged ---


def test_what_runs_and_what_starts_is_judged(
    engine: StandIn, service: Service, actors: Pair
) -> None:
    refused, well = actors
    started(engine, "before", refused)
    service.start()
    until(lambda: service.findings() == {("before", REFUSED)}, say=lambda: service.log)
    started(engine, "after", refused)
    started(engine, "healthy", well)
    until(lambda: service.findings() == {("before", REFUSED), ("after", REFUSED)})
    all_judged = {"running": 3, "down": 0, "unjudged": 0, "failing": 0, "left_out": 0}
    until(lambda: service.get("/v1/status")["containers"] == all_judged, say=lambda: service.log)


def test_who_asks_for_checks_does_not_end_the_service(
    engine: StandIn, service: Service, actors: Pair
) -> None:
    """Each makes a worker while the loop watches whether the one that makes them has died."""
    started(engine, "one", actors[0])
    service.start()
    until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)
    for name in ("one", "nobody") * 4:
        assert service.get(f"/v1/check/{name}") is not None, service.log
    assert service.findings() == {("one", REFUSED)}, service.log


def test_a_dead_stream_is_noticed(engine: StandIn, service: Service, actors: Pair) -> None:
    """It does not end, it only says nothing any more: what happens meanwhile is found."""
    fake = started(engine, "one", actors[0])
    service.start(HASTY)
    until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)
    engine.silent = True
    until(lambda: "engine disconnected" in service.log, say=lambda: service.log)
    engine.die(fake)
    started(engine, "two", actors[0])
    engine.silent = False
    until(lambda: service.findings() == {("two", REFUSED)}, say=lambda: service.log)


def test_an_engine_behind_tcp_is_listened_to(tmp_path: Path, actors: Pair) -> None:
    """Not only listed: between two lists lie minutes.  It hangs up, and is back."""
    with StandIn(tmp_path / "none", free_port()) as engine:
        service = Service(tmp_path / "service", engine.host).start()
        try:
            until(lambda: "engine connected" in service.log, say=lambda: service.log)
            fake = started(engine, "one", actors[0])
            until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)
            engine.die(fake)
            until(lambda: not service.findings(), say=lambda: service.log)
            engine.hang_up()
            engine.start(fake)
            until(lambda: "engine disconnected" in service.log, say=lambda: service.log)
            engine.come_back()
            until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)
        finally:
            service.stop()


def test_a_slow_engine_is_not_a_dead_one(engine: StandIn, service: Service, actors: Pair) -> None:
    """It answers, nearly too late each time: nobody hangs up."""
    started(engine, "one", actors[0])
    service.start(HASTY.replace("answer=0.5", "answer=10"))
    until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)
    engine.pause = 1
    asked = engine.pings
    until(lambda: engine.pings >= asked + 2, seconds=30)
    engine.pause = 0
    started(engine, "two", actors[0])
    until(lambda: service.findings() == {("one", REFUSED), ("two", REFUSED)}, seconds=30)
    assert "disconnected" not in service.log


def test_events_without_room_become_a_list(engine: StandIn, service: Service, actors: Pair) -> None:
    service.configure(service="queue = 1")
    service.start(SLOW_READER)
    until(lambda: "engine connected" in service.log, say=lambda: service.log)
    fakes = [added(engine, f"c{n}", actors[0]) for n in range(40)]
    for fake in fakes:
        engine.start(fake)
    wanted = {(f.name, REFUSED) for f in fakes}
    until(lambda: service.findings() == wanted, say=lambda: service.log)
    assert "events were lost" in service.log


STORMS = [
    pytest.param(300, 20, id="300 events"),
    pytest.param(10_000, 200, id="10,000 events", marks=pytest.mark.slow),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("events", "containers"), STORMS)
def test_after_a_storm_the_state_is_the_truth(
    events: int, containers: int, engine: StandIn, tmp_path: Path, actors: Pair
) -> None:
    """Two disconnects, slow answers, a queue that is too small, names that change hands."""
    service = Service(tmp_path / "service", engine.host, service=f"queue = {events // 100}")
    service.start()
    until(lambda: service.get("/v1/status"))
    before = service.rss()
    chance = random.Random(events)
    storm = _Storm(engine, actors, containers, chance)
    try:
        for n in range(events):
            storm.step()
            if n in (events // 3, 2 * events // 3):
                engine.hang_up()
                for _ in range(containers):
                    storm.step()
                engine.come_back()
            engine.pause = 0.05 if events // 2 <= n < events // 2 + events // 10 else 0.0
            if n % 20 == 0:
                time.sleep(0.01)
        truth = storm.truth()
        running = sum(f.running for f in engine.containers.values())

        def settled() -> bool:
            status = service.get("/v1/status")["containers"]
            return service.findings() == truth and status["running"] == running

        until(settled, seconds=120, every=0.2, say=lambda: service.findings() ^ truth)
        time.sleep(2)  # and it stays so
        assert settled()
        assert service.rss() - before < 40_000, "KiB"
        assert len(service.processes()) < 30
    finally:
        service.stop()


class _Storm:
    def __init__(
        self, engine: StandIn, actors: Pair, containers: int, chance: random.Random
    ) -> None:
        self.engine, self.actors, self.chance = engine, actors, chance
        self.fakes = [added(engine, f"c{n}", chance.choice(actors)) for n in range(containers)]
        self.spare = [f"d{n}" for n in range(containers)]

    def step(self) -> None:
        chance, engine = self.chance, self.engine
        place = chance.randrange(len(self.fakes))
        fake = self.fakes[place]
        match chance.choice(("toggle", "toggle", "restart", "anew", "rename", "exec")):
            case "toggle" if fake.running:
                engine.die(fake)
            case "toggle":
                engine.start(fake)
            case "restart" if fake.running:
                engine.die(fake)
                actor = chance.choice(self.actors)
                fake.pid, fake.mounts = actor.pid, actor.mounts
                engine.start(fake)
            case "anew":
                engine.remove(fake)
                self.fakes[place] = added(engine, fake.name, chance.choice(self.actors))
                engine.start(self.fakes[place])
            case "rename":
                name = self.spare.pop(chance.randrange(len(self.spare)))
                self.spare.append(fake.name)
                engine.rename(fake, name)
            case "exec" if fake.running:
                engine.emit(fake, "exec_start: sh")
            case _:
                pass

    def truth(self) -> set[tuple[str, str]]:
        refused = self.actors[0].pid
        running = [f for f in self.engine.containers.values() if f.running]
        return {(f.name, REFUSED) for f in running if f.pid == refused}


# --- who hangs ---


def test_a_filesystem_that_hangs_delays_nobody(
    engine: StandIn, service: Service, actors: Pair, lab: Lab
) -> None:
    """More of them than there are workers."""
    dead = lab.directory()
    service.configure(more="[check]\ndeadline_seconds = 20", service="workers = 1")
    try:
        with silent_fuse(str(dead)), actor(lab, UID, dead) as stuck:
            service.start()
            until(lambda: service.get("/v1/status"))
            for n in range(4):
                started(engine, f"stuck{n}", stuck)
            time.sleep(0.5)
            patience = Patience(40)
            for n in range(5):
                started(engine, f"one{n}", actors[0])
            wanted = {(f"one{n}", REFUSED) for n in range(5)}
            until(lambda: wanted <= service.findings(), seconds=60, say=lambda: service.log)
            assert not patience.over, f"{patience.passed():.1f} s"
            assert len(service.processes()) < 30
    except MissingError as e:
        pytest.skip(str(e))


# --- killed, and started again ---


KILLS = [pytest.param(2, id="2 kills"), pytest.param(30, id="30 kills", marks=pytest.mark.slow)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", KILLS)
def test_killed_at_any_moment_no_alert_is_lost_or_doubled(
    rounds: int, engine: StandIn, service: Service, actors: Pair, receiver: Receiver
) -> None:
    service.configure(more=webhook(receiver))
    chance = random.Random(rounds)
    fakes = [added(engine, f"c{n}", actors[0]) for n in range(3 * rounds)]
    for n in range(rounds):
        service.start()
        for fake in fakes[3 * n : 3 * n + 3]:
            engine.start(fake)
            time.sleep(chance.uniform(0, 0.1))
        time.sleep(chance.uniform(0.3, 1.2))
        assert service.processes()
        service.kill()
        until(lambda: not service.processes(), say="what it started outlives it")
    service.start()
    names = {f.name for f in fakes}

    def told() -> bool:
        return {a["container"] for a in alerts(receiver)} == names

    until(told, seconds=120, say=lambda: service.log[-3000:])
    episodes = Counter(a["container"] for a in {a["id"]: a for a in alerts(receiver)}.values())
    assert set(episodes.values()) == {1}, "one alert each, however often it was sent"
    assert {a["status"] for a in alerts(receiver)} == {"firing"}
    service.kill()
    engine.die(fakes[0])  # and nobody sees it
    service.start()
    until(lambda: [a for a in alerts(receiver) if a["status"] == "resolved"], seconds=20)
    assert alerts(receiver)[-1]["container"] == fakes[0].name


# --- the end, and another beginning ---


def test_it_ends_in_order_and_leaves_nothing(
    engine: StandIn, service: Service, actors: Pair
) -> None:
    service.start()
    started(engine, "one", actors[0])
    until(lambda: service.findings())
    before = len(os.listdir(f"/proc/{service.pid}/fd"))
    assert len(service.processes()) > 2
    for n in range(10):
        started(engine, f"more{n}", actors[0])
    until(lambda: len(service.findings()) == 11)
    assert len(os.listdir(f"/proc/{service.pid}/fd")) <= before + 8, "a worker has two"
    assert service.stop(25) == 0
    until(lambda: not service.processes(), seconds=30)
    assert not (service.base / "status.sock").exists()
    bad = [x for x in service.log.splitlines() if "=" not in x or "Traceback" in x]
    assert not bad, "nothing but log lines"


def test_two_cannot_serve(engine: StandIn, service: Service) -> None:
    service.start()
    until(lambda: service.get("/v1/status"))
    first = service.process
    service.start()
    assert service.process is not None
    assert service.process.wait(60) == 2
    assert "in use by another process" in service.log
    service.process = first


# --- the service manager ---


def test_the_manager_hears_of_everything(engine: StandIn, service: Service, actors: Pair) -> None:
    service.start_notified(WATCHDOG_USEC="900000")
    words: list[str] = []

    def said(word: str) -> bool:
        words.extend(service.words())
        return any(word in w for w in words)

    until(lambda: said("READY=1"), say=lambda: service.log)
    until(lambda: said("WATCHDOG=1"))
    started(engine, "one", actors[0])
    until(lambda: said("STATUS=1 containers on 1 of 1 engines, 1 problems told"))
    words.clear()
    begun = time.monotonic()
    until(lambda: said("WATCHDOG=1") and words.count("WATCHDOG=1") >= 3)
    assert words.count("WATCHDOG=1") <= 8 * max(1, time.monotonic() - begun), "not at every turn"
    service.signal(signal.SIGHUP)
    until(lambda: said("RELOADING=1"))
    until(lambda: said("READY=1"))
    service.stop()
    assert said("STOPPING=1")


def test_a_stuck_loop_is_not_alive(engine: StandIn, service: Service, actors: Pair) -> None:
    """Its other threads go on, and do not speak for it: it is the loop that sends."""
    service.start_notified(STUCK, WATCHDOG_USEC="600000")
    until(lambda: "READY=1" in "".join(service.words()), say=lambda: service.log)
    service.signal(signal.SIGHUP)
    until(lambda: "stuck=yes" in service.log, every=0.02)
    service.words()
    time.sleep(1)
    assert service.get("/v1/status") is not None
    assert "WATCHDOG=1" not in service.words()
    service.kill()


# --- another configuration ---


def test_a_good_configuration_is_taken_and_a_bad_one_is_not(
    engine: StandIn, service: Service, actors: Pair, receiver: Receiver
) -> None:
    started(engine, "one", actors[0])
    service.start()
    until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)

    service.config.write_text("[service]\nworkers = 'many'\n")
    service.signal(signal.SIGHUP)
    until(lambda: "configuration not reloaded" in service.log, say=lambda: service.log)
    assert "workers" in service.get("/v1/status")["config_error"]
    started(engine, "two", actors[0])
    until(lambda: len(service.findings()) == 2, say="it goes on with the old one")

    service.configure(
        more=webhook(receiver) + "\n[[ignore]]\nreason = 'known'\ncontainer = 'one'\n"
    )
    service.signal(signal.SIGHUP)
    until(lambda: "configuration reloaded" in service.log, say=lambda: service.log)
    assert service.get("/v1/status")["config_error"] == ""
    until(lambda: service.findings() == {("two", REFUSED)})
    until(lambda: {a["container"] for a in alerts(receiver)} == {"two"}, say=lambda: service.log)


def test_a_changed_configuration_is_said_and_not_taken(
    engine: StandIn, service: Service, actors: Pair
) -> None:
    service.start()
    until(lambda: service.get("/v1/status"))
    time.sleep(0.5)
    service.configure(service="workers = 1")
    until(lambda: "the configuration has changed" in service.log, say=lambda: service.log)
    service.config.write_text("[nonsense]\n")
    until(lambda: "the changed configuration is wrong" in service.log, say=lambda: service.log)


# --- drift ---


def test_what_somebody_else_drops_into_a_tree_is_found(
    engine: StandIn, service: Service, actors: Pair
) -> None:
    """At the root, and one level below it."""
    well = actors[1]
    below = well.source / "below"
    below.mkdir()
    os.chown(below, UID, UID)
    started(engine, "one", well)
    service.start()
    until(lambda: service.get("/v1/status"), say=lambda: service.log)
    until(lambda: service.get("/v1/status")["watch"]["roots"] == 1, say=lambda: service.log)
    time.sleep(1.5)  # judged a second time; what is dropped now only the watch can show
    assert service.findings() == set()
    file = below / "foreign"
    try:
        file.write_bytes(b"x")
        file.chmod(0o600)
        until(lambda: service.findings(), seconds=30, say=lambda: service.log)
    finally:
        file.unlink()
        below.rmdir()
    # a tree that changes again and again is looked at later each time, at most a minute
    until(lambda: not service.findings(), seconds=70, say=lambda: service.log)
