"""A real journald, in mounts of its own: what journalctl reads of an alert."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from permdoctor.alerts.journald import MESSAGE_ID, JournaldSink, entry
from permdoctor.alerts.sink import RetryError

from .build import alert

JOURNALD = "/lib/systemd/systemd-journald"
ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/log/journal || exit 99
"$1" & journald=$!
n=0
until [ -S /run/systemd/journal/socket ]; do
    n=$((n+1)); [ $n -lt 100 ] || exit 99; sleep 0.05
done
"$2" -c 'from tests.alerts.build import *
from permdoctor.alerts.journald import JournaldSink
JournaldSink(name="j").send([alert(1, title="bad \\udc80 name"), resolved(alert(1))])' || exit 98
n=0
until journalctl -q -D /run/log/journal -o json SYSLOG_IDENTIFIER=permdoctor > "$3" &&
        [ "$(wc -l < "$3")" = 2 ]; do
    n=$((n+1)); [ $n -lt 60 ] || break; sleep 0.05
done
kill $journald
"""


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not Path(JOURNALD).exists():
        pytest.skip("needs systemd-journald: apt-get install systemd")
    out = tmp_path_factory.mktemp("journal") / "entries"
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]
    done = subprocess.run(
        [*command, JOURNALD, sys.executable, str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode == 99:
        pytest.skip(f"journald does not run here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_what_the_journal_holds(entries: list[dict[str, Any]]) -> None:
    firing, over = entries
    assert firing["MESSAGE"] == "trainer-1: bad \\udc80 name (PD101)"
    assert (firing["PRIORITY"], over["PRIORITY"]) == ("3", "5")
    assert firing["MESSAGE_ID"] == over["MESSAGE_ID"] == MESSAGE_ID
    assert firing["PERMDOCTOR_ALERT_ID"] == alert(1).id
    assert firing["PERMDOCTOR_DETAIL"] == "\n".join(alert().detail)
    assert firing["PERMDOCTOR_CONTAINER"] == "trainer-1"
    assert over["PERMDOCTOR_STATUS"] == "resolved"
    assert over["MESSAGE"].startswith("trainer-1: resolved: ")


def test_a_value_cannot_begin_a_field() -> None:
    data = entry([("MESSAGE", "a\nPRIORITY=0\n"), ("PRIORITY", "6")])
    assert data == b"MESSAGE\n" + (13).to_bytes(8, "little") + b"a\nPRIORITY=0\n\nPRIORITY=6\n"


def test_no_journald(tmp_path: Path) -> None:
    with pytest.raises(RetryError, match="No such file"):
        JournaldSink(name="j", path=str(tmp_path / "none")).send([alert()])


@pytest.mark.timeout(20)
def test_journald_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("permdoctor.alerts.journald._TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
        silent.bind(str(tmp_path / "socket"))
        with pytest.raises(RetryError, match="does not read"):
            JournaldSink(name="j", path=str(tmp_path / "socket")).send([alert()] * 1000)
