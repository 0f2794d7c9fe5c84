"""Giving up: a worker that is late, dies, fails; a FUSE server that never answers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.host.deadline import Giveup, NotAnswering
from permdoctor.host.scan import Budget
from permdoctor.host.sharing import scan_tree
from permdoctor.host.view import View
from permdoctor.kernel.mount import Mount
from tests.host.cell import mount, unmount
from tests.lab.patience import until, within


@pytest.fixture
def worker() -> Iterator[Giveup]:
    with Giveup() as made:
        yield made


@pytest.fixture
def dead_fuse(tmp_path: Path) -> Iterator[Path]:
    """A FUSE mount whose server holds the device and says nothing."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        pytest.skip(f"needs /dev/fuse: {e.strerror}")
    path = tmp_path / "dead"
    path.mkdir()
    try:
        mount("nobody", str(path), "fuse", data=f"fd={device},rootmode=40000,user_id=0,group_id=0")
    except OSError as e:
        os.close(device)
        pytest.skip(f"cannot mount FUSE: {e}")
    yield path
    unmount(str(path))
    os.close(device)


def walk_there(path: bytes) -> int:
    with View.of_host() as view:
        return len(view.walk(path).hops)


def scan_there(path: bytes, workers: int = 1, progress: Callable[[int], None] | None = None) -> int:
    fd = os.open(path, os.O_PATH)
    tree = scan_tree(fd, Mount(), Budget(deep=True), workers=workers, progress=progress)
    return tree.coverage.entries


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(kind: str) -> None:
    match kind:
        case "usage":
            raise UsageError("no such thing", hint="try another")
        case "os":
            raise PermissionError(13, "Permission denied", "/x")
        case _:
            raise ValueError(lambda: None)


def slowly(pauses: int, progress: Callable[[int], None]) -> str:
    for i in range(pauses):
        time.sleep(0.5)
        progress(i)
    return "done"


def test_values_come_back_and_one_worker_serves_many(worker: Giveup) -> None:
    pids = {worker.call(os.getpid, seconds=30) for _ in range(5)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert worker.call(divmod, 7, 2, seconds=30) == (3, 1)
    assert len(worker.call(bytes, 5_000_000, seconds=30)) == 5_000_000


def test_a_filesystem_that_does_not_answer(worker: Giveup, dead_fuse: Path) -> None:
    first = worker.call(os.getpid, seconds=30)
    with within(30), pytest.raises(NotAnswering) as caught:
        worker.call(walk_there, os.fsencode(dead_fuse / "x"), seconds=0.3)
    assert caught.value.hint
    assert worker.call(walk_there, b"/etc", seconds=30) == 2
    assert worker.call(os.getpid, seconds=30) != first


def test_a_worker_is_given_up_with_its_helpers(worker: Giveup) -> None:
    """A scan forks one."""
    group = worker.call(os.getpgrp, seconds=30)
    with pytest.raises(NotAnswering):
        worker.call(sleep_with_a_child, seconds=0.3)
    until(lambda: not living(group), every=0.01)


def living(group: int) -> list[str]:
    """The processes of a group that are no zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(") ")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def sleep_with_a_child() -> None:
    os.fork()
    time.sleep(60)


@pytest.mark.parametrize(
    ("kind", "expected", "text"),
    [
        ("usage", UsageError, "no such thing"),
        ("os", PermissionError, "Permission denied"),
        ("unpicklable", TypeError, "cannot be sent"),
    ],
)
def test_errors_come_back(worker: Giveup, kind: str, expected: type[Exception], text: str) -> None:
    with pytest.raises(expected, match=text) as caught:
        worker.call(fail, kind, seconds=30)
    if isinstance(caught.value, UsageError):
        assert caught.value.hint == "try another"
    assert worker.call(abs, -1, seconds=30) == 1


def test_a_worker_that_dies_is_replaced(worker: Giveup) -> None:
    with pytest.raises(CannotCheckError, match="died"):
        worker.call(die, seconds=30)
    assert worker.call(abs, -1, seconds=30) == 1


def test_progress_is_a_sign_of_life(worker: Giveup) -> None:
    told: list[int] = []
    assert worker.call(slowly, 6, seconds=2.5, progress=told.append) == "done"
    assert told == list(range(6))


def test_an_error_of_the_progress_is_no_death(worker: Giveup) -> None:
    def full(_: int) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        worker.call(slowly, 3, seconds=30, progress=full)
    assert worker.call(abs, -1, seconds=30) == 1


def test_a_fork_that_fails_leaves_nothing(worker: Giveup, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", none_left)
        with pytest.raises(CannotCheckError, match="cannot start a worker"):
            worker.call(abs, -1, seconds=30)
    assert os.listdir("/proc/self/fd") == before
    assert worker.call(abs, -1, seconds=30) == 1


def test_a_scan_tells_its_progress_through_the_worker(worker: Giveup, tmpfs: Path) -> None:
    for i in range(5000):
        (tmpfs / str(i)).touch()
    told: list[int] = []
    found = worker.call(scan_there, os.fsencode(tmpfs), 2, seconds=10, progress=told.append)
    assert found == 5000
    assert told


def test_no_process_is_left(worker: Giveup) -> None:
    pid = worker.call(os.getpid, seconds=30)
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_worker_ends_with_its_parent() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if not parent:
        os.write(writer, b"%d" % Giveup().call(os.getpid, seconds=30))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    os.close(writer)
    worker = int(os.read(reader, 20))
    os.close(reader)
    until(lambda: not living(worker), every=0.01, say="it leads its group")
