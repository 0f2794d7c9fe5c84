"""The outbox with its threads, its file, and its second process."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from permdoctor.alerts.alert import Alert
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.sink import RetryError, Sink
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import CannotCheckError, UsageError
from tests.lab.patience import until, within

from .build import Taker, alert, resolved


def outbox(file: Path, *sinks: Sink, log: list[str] | None = None) -> Outbox:
    def write(_level: str, event: str, _fields: Mapping[str, str]) -> None:
        if log is not None:
            log.append(event)

    return Outbox(str(file), sinks, host="gpu-1", log=write)


class Stuck(Taker):
    """Answers when it is let."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.go = threading.Event()
        self.entered = threading.Event()

    def send(self, alerts: object) -> None:
        self.entered.set()
        self.go.wait(90)
        super().send(alerts)  # type: ignore[arg-type]


def test_a_dead_sink_delays_no_other(tmp_path: Path) -> None:
    dead, well = Stuck("dead"), Taker(name="well")
    box = outbox(tmp_path / "o", dead, well)
    box.start()
    for number in range(50):
        box.tell(alert(number))
    until(lambda: len(well.ids) == 50, every=0.01)
    assert box.waiting() == {"dead": 50, "well": 0}
    assert box.counters()["well"].sent == 50
    with within(30):
        box.close(0.1)
    dead.go.set()


@pytest.mark.parametrize(
    ("severities", "least"),
    [
        ((), None),
        ((Severity.ERROR,), Severity.ERROR),
        ((Severity.ERROR, Severity.WARNING), Severity.WARNING),
    ],
)
def test_from_which_severity_on_anybody_is_told(
    tmp_path: Path, severities: tuple[Severity, ...], least: Severity | None
) -> None:
    sinks = [Taker(name=str(s), min_severity=s) for s in severities]
    box = outbox(tmp_path / "o", *sinks)
    assert box.tells_from == least
    box.close(0)


def test_what_waits_survives(tmp_path: Path) -> None:
    away = Taker(failures=[RetryError("away")])
    box = outbox(tmp_path / "o", away)
    box.start()
    box.tell(alert(1))
    until(lambda: bool(away.calls))
    box.tell(alert(2))
    box.close(0.1)
    sink = Taker()
    box = outbox(tmp_path / "o", sink)
    assert box.firing() == (alert(1), alert(2))
    box.start()
    until(lambda: len(sink.ids) == 2)
    box.tell(resolved(alert(1)))
    box.close(5)
    assert sink.ids[-1] == resolved(alert(1)).id
    box = outbox(tmp_path / "o", Taker())
    assert box.firing() == (alert(2),)
    assert box.waiting() == {"taker": 0}
    box.close(0)


def test_what_was_told_is_on_disk(tmp_path: Path) -> None:
    """Between the call and its return the log was synced."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    code = (
        "import os\n"
        "from tests.alerts.build import alert, Taker\n"
        "from permdoctor.alerts.outbox import Outbox\n"
        f"box = Outbox({str(tmp_path / 'o')!r}, (Taker(),), host='h')\n"
        "for n in range(3):\n"
        "    os.write(2, b'before'); box.tell(alert(n)); os.write(2, b'after')\n"
    )
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=write,fsync,fdatasync",
         sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent.parent, check=True, capture_output=True,
    )  # fmt: skip
    said = trace.read_text().split('"before"')[1:]
    assert len(said) == 3
    for one in said:
        assert "o-wal>) = 0" in one.split('"after"')[0]


def test_close_tells_what_it_can(tmp_path: Path) -> None:
    sink = Taker()
    box = outbox(tmp_path / "o", sink)
    box.start()
    for number in range(100):
        box.tell(alert(number))
    box.close(5)
    assert len(sink.ids) == 100


def test_an_alert_keeps_its_fingerprint(tmp_path: Path) -> None:
    """Names that are no UTF-8 are part of it."""
    of = replace(alert(), problem=replace(alert().problem, host="h\udc80\u00e9\0"))
    box = outbox(tmp_path / "o")
    box.tell(of)
    box.close(0)
    box = outbox(tmp_path / "o")
    assert box.firing() == (of,)
    assert box.firing()[0].id == of.id
    box.close(0)


def test_the_file_is_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        box = outbox(tmp_path / "o", Taker())
        box.tell(alert())
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
        box.close(0)
    finally:
        os.umask(before)
    assert set(modes) == {"o", "o-wal", "o-shm", "o.lock"}
    assert set(modes.values()) == {0o600}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """Even while a child of a killed one lives on."""
    code = (
        "import os, sys, time\n"
        "from permdoctor.alerts.outbox import Outbox\n"
        f"box = Outbox({str(tmp_path / 'o')!r}, (), host='h')\n"
        "os.fork() or time.sleep(60)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          start_new_session=True) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        try:
            with pytest.raises(UsageError, match="in use by another process"):
                outbox(tmp_path / "o")
            other.kill()
            other.wait()
            outbox(tmp_path / "o").close(0)
        finally:
            os.killpg(other.pid, 9)


@pytest.mark.parametrize("data", [b"not a database at all" * 100, None], ids=["other", "broken"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, data: bytes | None) -> None:
    file, lines = tmp_path / "o", list[str]()
    box = outbox(file)
    for number in range(50):
        box.tell(alert(number))
    box.close(0)
    whole = file.read_bytes()
    file.write_bytes(data or whole[:4096] + b"\xff" * 8192 + whole[12288:])
    box = outbox(file, log=lines)
    assert lines == ["the outbox was damaged: set aside, begun anew"]
    box.tell(alert())
    assert box.firing() == (alert(),)
    box.close(0)
    assert (tmp_path / "o.damaged").exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE alert SET text = '{}'", id="no alert"),
        pytest.param("UPDATE delivery SET text = '[[['", id="no JSON"),
        pytest.param("UPDATE delivery SET told = 'soon'", id="no time"),
        pytest.param("UPDATE alert SET text = CAST(x'ff' AS TEXT)", id="no UTF-8"),
    ],
)
def test_values_that_sqlite_does_not_look_at_are_looked_at(tmp_path: Path, damage: str) -> None:
    file, lines = tmp_path / "o", list[str]()
    box = outbox(file, Taker())
    box.tell(alert())
    box.close(0)
    with sqlite3.connect(file) as db:
        db.execute(damage)
    db.close()
    box = outbox(file, Taker(), log=lines)
    assert lines == ["the outbox was damaged: set aside, begun anew"]
    assert box.firing() == ()
    box.close(0)


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    outbox(tmp_path / "o").close(0)
    with sqlite3.connect(tmp_path / "o") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for _ in range(2):
        with pytest.raises(UsageError, match="newer permdoctor"):
            outbox(tmp_path / "o")


def test_nowhere_to_keep_it(tmp_path: Path) -> None:
    with pytest.raises(CannotCheckError, match="No such file or directory"):
        outbox(tmp_path / "none" / "o")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_no_room(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=True)
    try:
        box = outbox(small / "o", Taker())
        told = _tell_until_full(box)
        assert 10 < len(told) < 1000
        assert box.firing() == tuple(told)
        assert box.waiting() == {"taker": len(told)}
        box.close(0)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def _tell_until_full(box: Outbox) -> list[Alert]:
    told: list[Alert] = []
    with contextlib.suppress(CannotCheckError):
        for number in range(1000):
            box.tell(alert(number))
            told.append(alert(number))
    return told


def test_a_reload_while_a_sink_is_told(tmp_path: Path) -> None:
    """A person hears once of what was under way; the same one is told what comes after it."""
    slow = Stuck("mail")
    box = outbox(tmp_path / "o", slow)
    box.start()
    box.tell(alert(1))
    assert slow.entered.wait(60)
    new = Taker(name="mail")
    box.change_sinks((new,))
    box.tell(alert(2))
    time.sleep(0.1)
    assert new.ids == []
    slow.go.set()
    until(lambda: new.ids == [alert(2).id])
    assert slow.ids == [alert(1).id]
    until(lambda: box.counters()["mail"].sent == 2)
    box.close(1)


def test_a_reload_with_other_sinks(tmp_path: Path) -> None:
    """Who is new hears what fires, who is gone is forgotten, who stays hears nothing twice."""
    stays, goes = Taker(name="stays"), Taker(name="goes", failures=[RetryError("away")] * 99)
    log = list[str]()
    box = outbox(tmp_path / "o", stays, goes, log=log)
    box.start()
    box.tell(alert(1))
    until(lambda: bool(stays.ids and goes.calls))
    again, new = Taker(name="stays"), Taker(name="new")
    box.change_sinks((again, new))
    until(lambda: bool(new.ids))
    box.tell(resolved(alert(1)))
    until(lambda: len(new.ids) == 2 and len(again.ids) == 1)
    assert box.waiting() == {"stays": 0, "new": 0}
    assert set(box.counters()) == {"stays", "new"}
    assert len(goes.calls) == 1
    assert "alerts for a sink that is gone are forgotten" in log
    box.close(1)
    assert again.ids == [resolved(alert(1)).id]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_reload_that_cannot_be_kept(tmp_path: Path) -> None:
    """Those from before go on."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=True)
    try:
        old = Taker(name="old")
        box = outbox(small / "o", old)
        told = _tell_until_full(box)
        with pytest.raises(CannotCheckError, match="cannot keep"):
            box.change_sinks((Taker(name="new"),))
        assert box.waiting() == {"old": len(told)}
        box.start()
        until(lambda: len(old.calls) > 0)
        box.close(0)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_what_waits_does_not_make_telling_slower(tmp_path: Path) -> None:
    """By sqlite's own steps, not by a clock."""
    box = outbox(tmp_path / "o", Taker(name="a"), Taker(name="b"))
    steps: list[int] = []
    box._store._durable.set_progress_handler(lambda: steps.append(1), 10)

    def cost(number: int) -> int:
        steps.clear()
        box.tell(alert(number, started=1000.0 + number))
        box.tell(resolved(alert(number, started=1000.0 + number), 2000.0 + number))
        return len(steps)

    costs = [cost(number) for number in range(1, 401)]
    box.close(0)
    assert sum(costs[-50:]) < 2 * sum(costs[:50])
