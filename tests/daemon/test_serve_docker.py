"""The service with a dockerd of its own: what it repairs unasked, and many that start at once.

How it tells others, and other engines: ``tests/acceptance/test_serve.py``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.process import permdoctor
from tests.daemon.scene import REFUSED, UID
from tests.daemon.service import Service
from tests.lab import engine as engines
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.patience import until

pytestmark = pytest.mark.engine

AS_USER = ("-u", f"{UID}:{UID}")


@pytest.fixture(scope="module")
def engine(lab: Lab) -> Iterator[Engine]:
    """Nobody else's containers are on it."""
    try:
        made = engines.start_docker(lab.root / "served", lab.image)
    except MissingError as e:
        pytest.skip(str(e))
    yield made
    made.stop()


def test_a_policy_repairs_what_it_names_and_nothing_else(
    engine: Engine, lab: Lab, tmp_path: Path, boxes: list[Box]
) -> None:
    named, other = lab.directory(), lab.directory()
    repair = f"""
roots = ["{named}", "{other}"]
[[repair.unasked]]
container = "mend-*"
remedy = "chown-directory"
roots = ["{named}"]
"""
    service = Service(tmp_path / "service", engine.host, repair=repair).start()
    try:
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        boxes.append(engine.run(*AS_USER, "-v", f"{named}:/data", name="mend-this"))
        boxes.append(engine.run(*AS_USER, "-v", f"{other}:/data", name="mend-not"))
        boxes.append(engine.run(*AS_USER, "-v", f"{named}:/data:ro", name="reader"))
        until(lambda: named.stat().st_uid == UID, say=lambda: service.log)
        until(lambda: service.findings() == {("mend-not", REFUSED)}, say=lambda: service.log)
        assert other.stat().st_uid == 0
        assert boxes[0].inspect()["State"]["Status"] == "running", "it goes on"
        journals = list((service.base / "state" / "journal").iterdir())
        assert len(journals) == 1, "as a person's repair: it can be taken back"
    finally:
        service.stop()
    undone = permdoctor(
        "undo", "--last", "--yes", "--config", str(service.config), DOCKER_HOST=engine.host
    )
    assert named.stat().st_uid == 0, undone.stdout + undone.stderr


def test_names_that_a_user_gives_allow_nothing(lab: Lab, tmp_path: Path) -> None:
    """Of his own engine; unless that is named."""
    data = lab.directory()
    table = f"""
roots = ["{data}"]
[[repair.unasked]]
container = "*"
remedy = "chown-directory"
roots = ["{data}"]
"""
    try:
        users = engines.start_rootless(lab.root / "users", lab.image)
    except MissingError as e:
        pytest.skip(str(e))
    service = Service(tmp_path / "service", users.host, repair=table).start()
    try:
        users.run(*AS_USER, "-v", f"{data}:/data", name="trainer")
        until(lambda: "its engine is not one of root's" in service.log, say=lambda: service.log)
        assert "repair begins" not in service.log
        service.configure(repair=f'{table}engine = "{users.host}"\n')
        service.signal(signal.SIGHUP)
        until(lambda: "repair begins" in service.log, say=lambda: service.log)
    finally:
        service.stop()
        users.stop()


def test_a_start_that_the_engine_refuses(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    """Docker emits no event of it.  A program that is not there is no matter of permissions."""
    data = lab.directory(UID, UID)
    service = Service(tmp_path / "service", engine.host).start()
    options = ("-u", f"{UID}:{UID}", "-v", f"{data}:/data")
    try:
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        box = engine.create(*options, command=("/etc/passwd",), name="refused")
        assert engine.docker_process("start", box.id).returncode
        typo = engine.create(*options, command=("/nosuch",), name="typo")
        assert engine.docker_process("start", typo.id).returncode
        until(lambda: service.findings() == {("refused", "PD115")}, say=lambda: service.log)
        box.rm()
        typo.rm()
        box = engine.run(*options, name="refused")
        until(lambda: service.findings() == set(), say=lambda: service.log)
        box.rm()
    finally:
        service.stop()


BURSTS = [pytest.param(10, id="10"), pytest.param(100, id="100", marks=pytest.mark.slow)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", BURSTS)
def test_started_at_once_all_are_judged(
    count: int, engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    data = lab.directory()
    made = [engine.create(*AS_USER, "-v", f"{data}:/data") for _ in range(count)]
    service = Service(tmp_path / "service", engine.host).start()
    try:
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda box: engine.docker("start", box.id), made))
        wanted = {(box.name, REFUSED) for box in made}
        until(lambda: wanted <= service.findings(), seconds=60, say=lambda: service.log[-3000:])
        all_judged = {"running": count, "down": 0, "unjudged": 0, "failing": 0, "left_out": 0}
        until(lambda: service.get("/v1/status")["containers"] == all_judged)
    finally:
        service.stop()
        engine.docker("rm", "-f", *(box.id for box in made))
