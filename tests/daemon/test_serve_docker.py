"""The service with a real dockerd, a real webhook receiver and a real Alertmanager."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.receiver import Receiver, answer
from tests.daemon.scene import REFUSED, UID
from tests.daemon.service import Service, until
from tests.lab import engine as engines
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab
from tests.lab.needs import MissingError

pytestmark = pytest.mark.engine

AS_USER = ("-u", f"{UID}:{UID}")


@pytest.fixture(scope="module")
def mortal(lab: Lab) -> Iterator[Engine]:
    """A dockerd of our own, for it is killed."""
    try:
        engine = engines.start_docker(lab.root / "mortal", lab.image)
    except MissingError as e:
        pytest.skip(str(e))
    yield engine
    engine.stop()


def kill(engine: Engine, box: Box) -> list[str]:
    """-9 for the engine, its shims and its container, as when memory is short; the line that
    begins it anew.
    """
    process, first = engine._process, box.pid()
    assert process is not None
    process.kill()
    process.wait(10)
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            line = (entry / "cmdline").read_bytes()
            if b"shim" in line and os.fsencode(engine.base) in line:
                os.kill(int(entry.name), signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    shutil.rmtree(engine.base / "exec", ignore_errors=True)
    (engine.base / "pid").unlink(missing_ok=True)
    argv = process.args
    assert isinstance(argv, list)
    return argv


def begin_anew(engine: Engine, argv: list[str]) -> None:
    with engine.log.open("ab") as log:
        engine._process = subprocess.Popen(argv, stdout=log, stderr=log)
    engine._await_ready()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(answer(200))
    yield made
    made.close()


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL; empty where it is not installed."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        yield ""
        return
    base = tmp_path_factory.mktemp("alertmanager")
    config = base / "config.yml"
    config.write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [program, f"--config.file={config}", f"--storage.path={base / 'data'}"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(f"{url}/-/ready"), seconds=10)
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def at_alertmanager(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts?active=true", timeout=5) as response:
        found: list[dict[str, Any]] = json.load(response)
    return found


def sinks(receiver: Receiver, alertmanager: str) -> str:
    text = f'[[alerts.webhook]]\nurl = "{receiver.url}/"\nper_minute = 6000\n'
    if alertmanager:
        text += f'[[alerts.alertmanager]]\nurls = ["{alertmanager}"]\nresend_seconds = 1\n'
    return text


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    """Once each, in the order in which they came."""
    by_id = {r.json["data"]["id"]: r.json["data"] for r in list(receiver.requests)}
    return [(a["container"], a["code"], a["status"]) for a in by_id.values()]


def test_from_the_start_of_a_container_to_the_fix(
    mortal: Engine, lab: Lab, tmp_path: Path, receiver: Receiver, alertmanager: str
) -> None:
    """Found and told; dockerd is killed and comes back, which is no second alert; it is repaired,
    which is told, too.
    """
    data = lab.directory()
    name = f"trainer-{tmp_path.name}"
    service = Service(tmp_path / "service", mortal.host, more=sinks(receiver, alertmanager)).start()
    box = None
    try:
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        box = mortal.run(*AS_USER, "-v", f"{data}:/data", name=name)
        until(lambda: told(receiver) == [(name, REFUSED, "firing")], say=lambda: service.log)
        if alertmanager:
            until(lambda: at_alertmanager(alertmanager))
            labels = at_alertmanager(alertmanager)[0]["labels"]
            assert labels["container"] == name

        argv = kill(mortal, box)
        until(lambda: "engine disconnected" in service.log)
        begin_anew(mortal, argv)
        mortal.docker("start", box.id)
        until(lambda: service.log.count("engine connected") == 2, say=lambda: service.log)
        until(lambda: service.findings() == {(name, REFUSED)}, say=lambda: service.log)
        assert told(receiver) == [(name, REFUSED, "firing")], "it is the same problem"

        os.chown(data, UID, UID)
        until(lambda: told(receiver)[1:] == [(name, REFUSED, "resolved")], say=lambda: service.log)
        if alertmanager:
            until(lambda: not at_alertmanager(alertmanager))
    finally:
        service.stop()
        if box is not None:
            box.rm()
    assert not service.processes()


def test_a_policy_repairs_what_it_names_and_nothing_else(
    mortal: Engine, lab: Lab, tmp_path: Path, boxes: list[Box]
) -> None:
    named, other = lab.directory(), lab.directory()
    repair = f"""
roots = ["{named}", "{other}"]
[[repair.unasked]]
container = "mend-*"
remedy = "chown-directory"
roots = ["{named}"]
"""
    service = Service(tmp_path / "service", mortal.host, repair=repair).start()
    try:
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        boxes.append(mortal.run(*AS_USER, "-v", f"{named}:/data", name="mend-this"))
        boxes.append(mortal.run(*AS_USER, "-v", f"{other}:/data", name="mend-not"))
        boxes.append(mortal.run(*AS_USER, "-v", f"{named}:/data:ro", name="reader"))
        until(lambda: named.stat().st_uid == UID, say=lambda: service.log)
        until(lambda: service.findings() == {("mend-not", REFUSED)}, say=lambda: service.log)
        assert other.stat().st_uid == 0
        assert boxes[0].inspect()["State"]["Status"] == "running", "it goes on"
        journals = list((service.base / "state" / "journal").iterdir())
        assert len(journals) == 1, "as a person's repair: it can be taken back"
    finally:
        service.stop()
    undone = subprocess.run(
        [*_permdoctor(), "undo", "--last", "--yes", "--config", str(service.config)],
        capture_output=True,
        text=True,
        env={**os.environ, "DOCKER_HOST": mortal.host},
    )
    assert named.stat().st_uid == 0, undone.stdout + undone.stderr


def _permdoctor() -> list[str]:
    import sys

    return [sys.executable, "-m", "permdoctor"]


BURSTS = [pytest.param(10, id="10"), pytest.param(100, id="100", marks=pytest.mark.slow)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", BURSTS)
def test_started_at_once_all_are_judged(
    count: int, mortal: Engine, lab: Lab, tmp_path: Path
) -> None:
    data = lab.directory()
    made = [mortal.create(*AS_USER, "-v", f"{data}:/data") for _ in range(count)]
    service = Service(tmp_path / "service", mortal.host).start()
    try:
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda box: mortal.docker("start", box.id), made))
        wanted = {(box.name, REFUSED) for box in made}
        until(lambda: wanted <= service.findings(), seconds=60, say=lambda: service.log[-3000:])
        time.sleep(1)
        containers = service.get("/v1/status")["containers"]
        assert (containers["running"], containers["unjudged"]) == (count, 0)
    finally:
        service.stop()
        mortal.docker("rm", "-f", *(box.id for box in made))
