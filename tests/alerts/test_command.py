"""A command: what it gets, how long it may take, and what its exit status means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from permdoctor import config
from permdoctor.alerts.command import CommandSink
from permdoctor.alerts.sink import RetryError, UndeliverableError, sinks_of
from tests.lab.patience import until, within

from .build import alert


def sink(tmp_path: Path, script: str, *args: str, timeout: float = 5) -> CommandSink:
    file = tmp_path / "hook"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    (made,) = sinks_of([config.Command(argv=(str(file), *args), timeout_seconds=timeout)], {})
    assert isinstance(made, CommandSink)
    return made


def test_what_it_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTING_KEY", "s3cr3t")
    script = f'cat > {tmp_path}/in; env > {tmp_path}/env; echo "$1" > {tmp_path}/arg; pwd'
    sink(tmp_path, script, "$(touch /tmp/no); a b").send([alert()])
    text = (tmp_path / "in").read_text()
    assert text.count("\n") == 1
    assert json.loads(text)["id"] == alert().id
    assert (tmp_path / "arg").read_text() == "$(touch /tmp/no); a b\n"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH", "LC_ALL", "PERMDOCTOR_ALERT_ID", "PERMDOCTOR_ALERT_STATUS",
        "PERMDOCTOR_ALERT_SEVERITY",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("script", "says", "raised"),
    [
        pytest.param("exit 65", "status 65", UndeliverableError, id="never"),
        pytest.param("exit 1", "status 1", RetryError, id="not now"),
        pytest.param("kill -9 $$", "signal 9", RetryError, id="killed"),
        pytest.param("printf 'no\\033 way' >&2; exit 2", r"no\\x1b way", RetryError, id="says"),
        pytest.param("yes >&2; exit 2", "did not end within", RetryError, id="chatters"),
        pytest.param("head -c 9999999 /dev/zero >&2; exit 2", "status 2", RetryError, id="much"),
    ],
)
def test_how_it_ends(tmp_path: Path, script: str, says: str, raised: type[Exception]) -> None:
    with pytest.raises(raised, match=says) as error:
        sink(tmp_path, script, timeout=3).send([alert()])
    assert len(str(error.value)) < 1500


def test_it_need_not_read(tmp_path: Path) -> None:
    sink(tmp_path, "exit 0").send([alert(detail=("x" * 2000,) * 20, remedies=("y" * 2000,) * 20)])


def test_it_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    with within(30), pytest.raises(RetryError, match=r"did not end within 2 s and was killed"):
        sink(tmp_path, script, timeout=2).send([alert()])
    pid = (tmp_path / "pid").read_text().strip()
    until(lambda: not _runs(pid), every=0.02, seconds=30, say="the child's child lives on")


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_it_left_running_is_not_waited_for(tmp_path: Path) -> None:
    with within(30):
        sink(tmp_path, "sleep 60 & exit 0", timeout=50).send([alert()])


def test_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RetryError, match="No such file"):
        CommandSink(name="c", argv=(str(tmp_path / "none"),)).send([alert()])


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    quick = sink(tmp_path, "exit 0")
    quick.send([alert()])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        quick.send([alert()])
    assert len(os.listdir("/proc/self/fd")) <= before
