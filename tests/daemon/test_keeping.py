"""The state directory: whose it is, and what is said when nothing can be kept in it."""

from __future__ import annotations

import http.client
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.config import Config
from permdoctor.config import Repair as RepairConfig
from permdoctor.daemon.parts import opened
from permdoctor.errors import PermdoctorError
from tests.alerts.receiver import Receiver, answer
from tests.daemon.engine import StandIn
from tests.daemon.scene import REFUSED, actor
from tests.daemon.service import Service
from tests.engines.test_tcp import free_port
from tests.lab.lab import Lab
from tests.lab.patience import until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize(
    ("mode", "uid"),
    [
        pytest.param(0o777, 0, id="everybody's"),
        pytest.param(0o770, 0, id="a group's"),
        pytest.param(0o700, 1000, id="somebody else's"),
    ],
)
@as_root
def test_a_place_where_others_can_write_is_refused(tmp_path: Path, mode: int, uid: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    os.chown(state, uid, uid)
    with pytest.raises(PermdoctorError, match="is not ours alone") as raised:
        opened(Config(repair=RepairConfig(state=str(state))), ())
    assert raised.value.hint
    assert os.listdir(state) == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of a megabyte, where the service's state will be."""
    place = tmp_path / "service" / "state"
    place.mkdir(parents=True)
    place.parent.chmod(0o755)
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)]
    if subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("tmpfs cannot be mounted")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "full").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"\0" * 512)
            except OSError:
                return


def asked(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    got = connection.getresponse()
    return got.status, got.read().decode()


def ready(port: int) -> tuple[int, str]:
    return asked(port, "/readyz")


@as_root
def test_a_full_disk_is_said_and_nothing_is_forgotten(
    lab: Lab, tmp_path: Path, small: Path
) -> None:
    port, receiver = free_port(), Receiver(answer(200))
    with actor(lab, 0) as bad, StandIn(tmp_path / "engine.sock") as engine:
        hook = f'[[alerts.webhook]]\nurl = "{receiver.url}/"'
        listen = f"127.0.0.1:{port}"
        service = Service(tmp_path / "service", engine.host, more=hook, listen=listen).start()
        try:
            until(lambda: (small / "alerts.db").exists() and service.get("/v1/status"))
            until(lambda: ready(port) == (200, "ok\n"), say=lambda: service.log)
            fill(small)
            engine.start(engine.add("one", bad.pid, mounts=bad.mounts))
            until(lambda: service.findings() == {("one", REFUSED)}, say=lambda: service.log)
            until(lambda: service.get("/v1/status")["troubles"], say=lambda: service.log)
            (trouble,) = service.get("/v1/status")["troubles"]
            assert trouble.startswith("1 alert cannot be kept: ")
            assert ready(port) == (503, trouble + "\n")
            assert "permdoctor_alerts_untold 1.0" in asked(port, "/metrics")[1]
            assert receiver.requests == []
            (small / "full").unlink()
            until(lambda: receiver.requests, say=lambda: service.log)
            until(lambda: service.get("/v1/status")["troubles"] == [])
            assert ready(port) == (200, "ok\n")
        finally:
            service.stop()
            receiver.close()
