"""What changes where inotify does not look, and what the service says of its own watching."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.daemon.dispatch import SPARE
from tests.daemon.engine import StandIn
from tests.daemon.scene import REFUSED, UID, Actor, actor
from tests.daemon.service import Service
from tests.lab.lab import Lab
from tests.lab.patience import until

UNREADABLE = "PD111"
DEEP = "runs/7/ckpt"


@pytest.fixture
def owner(lab: Lab) -> Iterator[Actor]:
    """A container whose tree is its own, all the way down."""
    with actor(lab, UID) as made:
        below = made.source
        for name in DEEP.split("/"):
            below = below / name
            below.mkdir()
            os.chown(below, UID, UID)
        yield made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "engine.sock") as made:
        yield made


@pytest.fixture
def service(tmp_path: Path, engine: StandIn) -> Iterator[Service]:
    made = Service(tmp_path / "service", engine.host)
    yield made
    made.stop()


def drop(tree: Path) -> None:
    """A file that only root can read, below what is watched."""
    (tree / DEEP / "model.pt").touch(0o600)


def calm(service: Service) -> bool:
    """Everything that was to be judged at the beginning is, and no more is for now."""
    before = service.log.count("event=checked")
    time.sleep(1.8)
    return 0 < before == service.log.count("event=checked")


def test_what_another_container_leaves_deep_in_a_tree(
    engine: StandIn, service: Service, owner: Actor
) -> None:
    """Found when that one ends; however short it was there."""
    for name in ("trainer", "job"):
        engine.start(engine.add(name, owner.pid, mounts=owner.mounts))
    (trainer, job) = engine.containers.values()
    service.start()
    until(lambda: (service.get("/v1/status") or {}).get("watch", {}).get("roots") == 1)
    until(lambda: calm(service), say=lambda: service.log)
    drop(owner.source)
    time.sleep(1)
    assert service.findings() == set(), "nobody looks there"
    engine.die(job)
    until(lambda: service.findings() == {(trainer.name, UNREADABLE)}, say=lambda: service.log)
    (owner.source / DEEP / "model.pt").unlink()
    brief = engine.add("brief", 1, mounts=owner.mounts)
    engine.start(brief)
    engine.die(brief)
    until(lambda: service.findings() == set(), say=lambda: service.log)


def test_what_cannot_be_watched_is_judged_at_each_sweep(
    engine: StandIn, service: Service, owner: Actor
) -> None:
    service.configure(service="watch_max = 0\nsweep_seconds = 3")
    engine.start(engine.add("trainer", owner.pid, mounts=owner.mounts))
    service.start()
    unwatched = {
        "roots": 0,
        "unwatched": 1,
        "directories": 0,
        "why": "service.watch_max is reached",
    }
    until(lambda: (service.get("/v1/status") or {}).get("watch") == unwatched)
    assert service.findings() == set()
    drop(owner.source)
    until(lambda: service.findings() == {("trainer", UNREADABLE)}, say=lambda: service.log)
    (owner.source / DEEP / "model.pt").unlink()
    until(lambda: service.findings() == set(), say=lambda: service.log)


def test_checks_are_running_that_a_worker_makes(
    engine: StandIn, service: Service, owner: Actor
) -> None:
    """And all others wait, wherever they do."""
    service.configure(service="workers = 1")
    engine.pause = 0.2
    for n in range(30):
        engine.start(engine.add(f"c{n}", owner.pid, mounts=owner.mounts))
    service.start()
    said: list[dict[str, int]] = []

    def many_wait() -> bool:
        status = service.get("/v1/status")
        if status is not None:
            said.append(status["checks"])
        return bool(said) and said[-1]["waiting"] >= 15

    until(many_wait, every=0.05, say=lambda: said)
    assert max(s["running"] for s in said) <= 1 + SPARE
    assert REFUSED not in {code for _, code in service.findings()}
