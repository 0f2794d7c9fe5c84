"""The process that forks the workers: whose pidfd it gives, and what it says at the end."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from permdoctor.daemon import nursery as module
from permdoctor.daemon.nursery import Child, Nursery, Work
from permdoctor.errors import CannotCheckError

SAYS, BREAKS = b"s", b"b"


def _says() -> Work:
    def work(sock: socket.socket) -> None:
        sock.send(str(os.getpid()).encode())
        time.sleep(60)

    return work


def _breaks() -> Work:
    def work(sock: socket.socket) -> None:
        raise ValueError("two\nlines \x1b[31m")

    return work


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery({SAYS: _says, BREAKS: _breaks})
    yield made
    made.close()


def spoken_to(child: Child) -> int:
    return int(child.sock.recv(20))


def held(child: Child) -> int:
    with open(f"/proc/self/fdinfo/{child._pidfd}") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def test_an_answer_that_is_late_is_not_that_of_the_next(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else from then on who is killed is somebody else."""
    nursery.child(SAYS).kill()
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.1)
    os.kill(nursery._pid, signal.SIGSTOP)
    for _ in range(2):
        with pytest.raises(CannotCheckError, match="no answer"):
            nursery.child(SAYS)
    os.kill(nursery._pid, signal.SIGCONT)
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 10.0)
    for _ in range(2):
        child = nursery.child(SAYS)
        assert held(child) == spoken_to(child)
        child.kill()
    assert len(os.listdir("/proc/self/fd")) == before, "nothing stays open"


def test_one_that_died_is_said_by_name(nursery: Nursery) -> None:
    os.kill(nursery._pid, signal.SIGKILL)
    with pytest.raises(CannotCheckError, match="cannot start a worker"):
        nursery.child(SAYS)


def test_last_words_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    nursery = Nursery({BREAKS: _breaks})
    child = nursery.child(BREAKS)
    assert select.select([child._pidfd], [], [], 10)[0], "it ends"
    child.release()
    nursery.close()
    said = capfd.readouterr().err
    assert said == "permdoctor: a worker ended: ValueError: two\\x0alines \\x1b[31m\n"
