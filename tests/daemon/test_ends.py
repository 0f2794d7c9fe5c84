"""However it ends: nobody stays paused, and the journals say what was done."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.repair.journal import Status
from permdoctor.repair.store import Store
from tests.cli.process import permdoctor
from tests.daemon.engine import StandIn
from tests.daemon.scene import UID, actor
from tests.daemon.service import Service
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.patience import until
from tests.lab.silent import silent_fuse

pytestmark = pytest.mark.engine

STOP_SECONDS = 60.0
"""TimeoutStopSec of the unit."""

PATIENCE = 60.0
"""A busy machine takes its time until a repair is under way."""

SLOW_CHANGES = """
import time
from permdoctor.repair import journal
real, times = journal.Journal.mark, []
def mark(*args):
    if not times:
        times.append(1)
        time.sleep(600)
    real(*args)
journal.Journal.mark = mark
"""
STUCK_CHANGES = """
import signal, time
from permdoctor.repair import journal
def mark(*args):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    time.sleep(600)
journal.Journal.mark = mark
"""
SLOW_PROOF = """
import time
from permdoctor.app import verify
verify.again = lambda *a: time.sleep(600)
"""


class Mended:
    """A service that repairs for a container without being asked; ``engine`` is a path to
    dockerd's socket that can be taken away.
    """

    def __init__(self, base: Path, dockerd: Engine, data: Path) -> None:
        self.data, self.dockerd = data, dockerd
        self.engine = base / "engine.sock"
        self.appear()
        table = f"""
per_hour = 20
roots = ["{data}"]
[[repair.unasked]]
container = "*"
remedy = "chown-directory"
roots = ["{data}"]
[[repair.unasked]]
container = "*"
remedy = "acl-user"
roots = ["{data}"]
"""
        self.service = Service(base / "service", f"unix://{self.engine}", repair=table)
        options = ("-u", f"{UID}:{UID}", "-v", f"{data}:/data")
        self.box: Box = dockerd.run(*options)

    def appear(self) -> None:
        self.engine.symlink_to(self.dockerd.socket)

    def is_paused(self) -> bool:
        return bool(self.box.inspect()["State"]["Paused"])

    @property
    def repaired(self) -> bool:
        return self.data.stat().st_uid == UID

    @property
    def acl(self) -> bool:
        return "system.posix_acl_access" in os.listxattr(self.data)

    @property
    def begun(self) -> bool:
        """Something may have been changed."""
        return any((self.service.base / "state" / "journal").glob("*/marks"))

    def journals(self) -> list[Status]:
        return [r.status for r in Store(str(self.service.base / "state")).records()]

    @property
    def left(self) -> list[str]:
        """Repairs of which somebody has to take care."""
        return os.listdir(self.service.base / "state" / "active")


@pytest.fixture
def mended(lab: Lab, dockerd: Engine, tmp_path: Path) -> Iterator[Mended]:
    made = Mended(tmp_path, dockerd, lab.directory())
    yield made
    made.service.stop()
    dockerd.docker_process("unpause", made.box.id)
    made.box.rm()


def stopped_in_time(service: Service) -> None:
    assert service.stop(STOP_SECONDS) == 0, service.log
    until(lambda: not service.processes(), seconds=30)
    assert "Traceback" not in service.log


def test_a_stop_while_a_repair_is_changing_things(mended: Mended) -> None:
    mended.service.start(SLOW_CHANGES)
    until(lambda: mended.begun, seconds=PATIENCE, say=lambda: mended.service.log)
    assert mended.is_paused()
    stopped_in_time(mended.service)
    assert not mended.is_paused()
    assert not mended.left
    assert mended.journals() == [Status.STOPPED]


@pytest.mark.slow
def test_a_stop_while_a_repair_is_stuck(mended: Mended) -> None:
    """It is killed, and those that it paused go on."""
    mended.service.start(STUCK_CHANGES)
    until(lambda: mended.begun, seconds=PATIENCE, say=lambda: mended.service.log)
    assert mended.is_paused()
    stopped_in_time(mended.service)
    assert not mended.is_paused()
    assert not mended.left
    assert mended.journals() == [Status.INTERRUPTED], "undo takes it back"


def test_a_stop_while_a_repair_is_proved(mended: Mended) -> None:
    mended.service.start(SLOW_PROOF)
    until(
        lambda: mended.repaired and not mended.is_paused(),
        seconds=PATIENCE,
        say=lambda: mended.service.log,
    )
    stopped_in_time(mended.service)
    assert not mended.is_paused()
    assert not mended.left
    assert mended.journals() == [Status.DONE]


def test_what_a_person_takes_back_stays_so(mended: Mended) -> None:
    """By another remedy, too, until somebody repairs it by hand."""
    service = mended.service.start()
    until(lambda: mended.repaired and "repaired" in service.log, say=lambda: service.log)
    host = f"unix://{mended.engine}"
    words = ("--config", str(service.config), "--host", host, "--yes")
    undone = permdoctor("undo", "--last", *words)
    assert undone.returncode == 0, undone.stderr
    until(lambda: service.log.count("repair begins") == 3, say=lambda: service.log)
    until(lambda: "not done: it was taken back by hand (permdoctor history" in service.log)
    assert "PD401" not in service.log
    assert not mended.repaired
    assert not mended.acl
    fixed = permdoctor("fix", mended.box.name, "--apply", *words)
    assert fixed.returncode == 0, fixed.stderr
    os.chown(mended.data, 0, 0)
    mended.dockerd.docker("restart", "--time", "0", mended.box.id)
    until(lambda: mended.repaired, say=lambda: service.log)


def test_a_stop_while_checks_hang(lab: Lab, tmp_path: Path) -> None:
    dead = lab.directory()
    try:
        with silent_fuse(str(dead)), actor(lab, UID, dead) as stuck, StandIn(tmp_path / "e") as far:
            service = Service(tmp_path / "service", far.host).start()
            until(lambda: "engine connected" in service.log, say=lambda: service.log)
            for n in range(3):
                far.start(far.add(f"stuck{n}", stuck.pid, mounts=stuck.mounts))
            until(lambda: service.get("/v1/status")["checks"]["running"] == 3)
            stopped_in_time(service)
    except MissingError as e:
        pytest.skip(str(e))


def test_what_was_left_paused_goes_on_when_its_engine_is_back(mended: Mended) -> None:
    """The service and its repair are killed; when it is started again, there is no engine yet."""
    service = mended.service
    service.start(SLOW_CHANGES)
    until(mended.is_paused, seconds=PATIENCE, say=lambda: service.log)
    for pid in sorted(service.processes(), reverse=True):
        os.kill(pid, signal.SIGKILL)  # its repair first: it would not leave it so
    until(lambda: not service.processes())
    assert mended.is_paused()
    mended.engine.unlink()
    service.configure()  # it repairs nothing any more
    service.start()
    until(lambda: "STILL PAUSED" in service.log, say=lambda: service.log)
    assert mended.is_paused()
    mended.appear()
    until(lambda: not mended.is_paused(), seconds=PATIENCE, say=lambda: service.log)
    until(lambda: not mended.left)
    assert service.log.count("STILL PAUSED") == 1
