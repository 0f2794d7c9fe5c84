"""Pausing: really frozen, really resumed, and no error for what is already so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.container.container import State
from permdoctor.engines.docker import DockerEngine
from permdoctor.engines.endpoints import find_endpoints
from permdoctor.errors import CannotCheckError
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab

pytestmark = pytest.mark.engine


@pytest.fixture
def writer(lab: Lab, dockerd: Engine) -> Iterator[tuple[Box, Path]]:
    """A container that appends to a file as fast as it can."""
    source = lab.directory()
    script = "while :; do echo x >> /data/log; done"
    box = dockerd.run("-v", f"{source}:/data", command=("sh", "-c", script))
    yield box, source / "log"
    dockerd.docker_process("unpause", box.id)
    box.rm()


def grows(log: Path, seconds: float = 30.0) -> bool:
    before = log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if log.exists() and log.stat().st_size > before:
            return True
        time.sleep(0.01)
    return False


def test_a_paused_container_does_nothing(docker: DockerEngine, writer: tuple[Box, Path]) -> None:
    box, log = writer
    assert grows(log)
    assert docker.pause(box.id)
    assert not grows(log, 0.3)
    assert docker.inspect(box.id).state is State.PAUSED
    assert not docker.pause(box.id), "it is paused already"
    assert docker.unpause(box.id)
    assert grows(log)
    assert not docker.unpause(box.id), "it runs already"


def test_what_does_not_run_cannot_be_paused(docker: DockerEngine, dockerd: Engine) -> None:
    box = dockerd.create()
    try:
        assert not docker.pause(box.id)
        assert not docker.unpause(box.id)
    finally:
        box.rm()
    assert not docker.unpause(box.id), "it is gone"


def test_an_engine_that_is_gone(tmp_path: Path) -> None:
    lost = DockerEngine(find_endpoints([f"unix://{tmp_path}/none.sock"], {})[0])
    with pytest.raises(CannotCheckError):
        lost.unpause("0" * 64)
