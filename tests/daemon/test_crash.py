"""Containers that crash as soon as they start: real ones, and the engine starts them again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.alerts.receiver import Receiver, answer
from tests.daemon.scene import REFUSED, UID
from tests.daemon.service import Service
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab
from tests.lab.patience import until

pytestmark = pytest.mark.engine

REFUSES = ("sh", "-c", "echo x > /data/x && sleep 600")
"""Ends within milliseconds where it cannot write."""


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    found = [r.json["data"] for r in list(receiver.requests)]
    return [(a["container"], a["code"], a["status"]) for a in found]


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        pytest.param("dockerd", False, id="it begins"),
        pytest.param("dockerd", True, id="it went on before us", marks=pytest.mark.slow),
        pytest.param("podman", False, id="under Podman"),
    ],
)
def test_a_crash_loop_is_told_once_and_its_repair_too(
    kind: str,
    before: bool,
    lab: Lab,
    tmp_path: Path,
    boxes: list[Box],
    request: pytest.FixtureRequest,
) -> None:
    engine: Engine = request.getfixturevalue(kind)
    data = lab.directory()
    receiver = Receiver(answer(200))
    sink = f'[[alerts.webhook]]\nurl = "{receiver.url}/"\nper_minute = 6000'
    service = Service(tmp_path / "service", engine.host, more=sink)
    name = f"crash-{kind}-{before}".lower()
    options = ("-u", f"{UID}:{UID}", "-v", f"{data}:/data", "--restart=always")

    def run() -> None:
        boxes.append(engine.run(*options, command=REFUSES, name=name))

    def restarts() -> int:
        return int(boxes[0].inspect()["RestartCount"])

    try:
        if before:
            run()
            until(lambda: restarts() >= 2, say="the engine does not restart it")
        service.start()
        until(lambda: "engine connected" in service.log, say=lambda: service.log)
        if not before:
            run()
        until(lambda: told(receiver) == [(name, REFUSED, "firing")], say=lambda: service.log)
        first = restarts()
        until(lambda: restarts() > first)
        assert service.findings() == {(name, REFUSED)}, "between two runs, too"
        assert told(receiver) == [(name, REFUSED, "firing")]
        os.chown(data, UID, UID)
        until(lambda: told(receiver)[1:] == [(name, REFUSED, "resolved")], say=lambda: service.log)
        until(lambda: boxes[0].pid() and service.get("/v1/status")["containers"]["unjudged"] == 0)
        time.sleep(1)
        assert len(told(receiver)) == 2
    finally:
        service.stop()
        receiver.close()
