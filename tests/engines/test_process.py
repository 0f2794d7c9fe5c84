"""``--pid``: any process as a container."""

from __future__ import annotations

import subprocess
import sys

import pytest

from permdoctor.container.container import State
from permdoctor.engines.process import cgroup_container_id, container_of_process
from permdoctor.errors import UsageError
from tests.lab.engine import Engine

ID = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        pytest.param(f"0::/system.slice/docker-{ID}.scope\n", ID, id="systemd"),
        pytest.param(f"12:pids:/docker/{ID}\n0::/\n", ID, id="cgroupfs, v1"),
        pytest.param(f"0::/machine.slice/libpod-{ID}.scope/container\n", ID, id="podman"),
        pytest.param(f"0::/k.slice/cri-containerd-{ID}.scope\n", ID, id="containerd CRI"),
        pytest.param(f"0::/k.slice/crio-{ID}.scope\n", ID, id="CRI-O"),
        pytest.param(f"0::/kubepods/besteffort/pod1/{ID}\n", ID, id="kubepods"),
        pytest.param(f"0::/k.slice:cri-containerd:{ID}\n", ID, id="containerd's systemd form"),
        pytest.param(f"0::/docker/{OTHER}/docker/{ID}\n", ID, id="the innermost"),
        pytest.param("0::/user.slice/session-1.scope\n", "", id="none"),
        pytest.param(f"0::/docker/{ID}0\n", "", id="too long"),
        pytest.param("", "", id="empty"),
    ],
)
def test_container_id(cgroup: str, expected: str) -> None:
    assert cgroup_container_id(cgroup.encode()) == expected


def test_a_process() -> None:
    argv = [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"]
    env = {"HOME": "/h", "ODD": "a\udcffb"}
    with subprocess.Popen(argv, env=env, stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = container_of_process(process.pid)
        process.kill()
    assert (found.name, found.pid, found.state) == (
        f"pid {process.pid}", process.pid, State.RUNNING
    )  # fmt: skip
    assert found.running
    assert found.engine.product == "process"
    assert found.env_value("HOME") == "/h"
    assert found.env_value("ODD") == "a\udcffb"
    assert found.command == tuple(argv)


@pytest.mark.parametrize("pid", [0, -1, 1 << 30, 4194303])
def test_no_process(pid: int) -> None:
    with pytest.raises(UsageError, match="no process"):
        container_of_process(pid)


@pytest.mark.engine
def test_a_container_is_recognised(dockerd: Engine) -> None:
    box = dockerd.run("-e", "HF_HOME=/models")
    try:
        found = container_of_process(box.pid())
        assert found.id == box.id
        assert found.env_value("HF_HOME") == "/models"
    finally:
        box.rm()
