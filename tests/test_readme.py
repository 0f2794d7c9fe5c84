"""The README is true: every screen is what comes, every command does something.

What it says about installing is run by ``test_install``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import readme
from tests.lab.engine import Engine
from tests.lab.lab import Lab

TEXT = readme.README.read_text()
ASKING = [c for c in readme.SHELL if c.startswith("permdoctor ")]


@pytest.fixture(scope="module")
def replace(lab: Lab, dockerd: Engine) -> Iterator[dict[str, str]]:
    with readme.scene(lab, dockerd) as replace:
        yield replace


def test_every_command_is_of_a_kind_that_is_run() -> None:
    assert sorted(readme.SHELL) == sorted([*ASKING, *readme.MAKING, *readme.INSTALLING])
    assert len(ASKING) > 5
    assert len(readme.MAKING) == 2


@pytest.mark.engine
@pytest.mark.parametrize("screen", list(readme.BLOCK.finditer(TEXT)), ids=lambda m: m["command"])
def test_screen(screen: re.Match[str], dockerd: Engine, replace: dict[str, str]) -> None:
    assert screen["output"] == readme.run(screen["command"], dockerd, replace)


@pytest.mark.engine
@pytest.mark.parametrize("command", ASKING)
def test_command_asks(
    command: str, dockerd: Engine, replace: dict[str, str], tmp_path: Path
) -> None:
    env = readme.environment(dockerd, tmp_path)
    for real, shown in replace.items():
        command = command.replace(shown, real)
    pid = dockerd.docker("inspect", "--format", "{{.State.Pid}}", "trainer")
    command = command.replace("--pid 4242", f"--pid {pid}")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout
    assert done.stderr == ""
