"""Who is let in at the service's doors, when many want to be."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.daemon.http import Answer, Server
from permdoctor.daemon.places import HEAD_SECONDS, Places

TCP, ROOT, ANNA, BERT, CARL = None, 0, 5000, 5001, 5002
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Door:
    """Eight places, two of them root's.  Clients by name; ``now`` is the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.places = Places(8, 10.0, lambda: self.now)
        self.ends: dict[str, tuple[socket.socket, socket.socket]] = {}

    def comes(self, name: str, uid: int | None) -> bool:
        self.now += 0.001
        self.ends[name] = socket.socketpair()
        inside = self.places.enter(self.ends[name][0], uid)
        self.places.waits(self.ends[name][0], True)
        return inside

    def speaks(self, name: str) -> None:
        """And we have not read it yet."""
        self.ends[name][1].send(b"GET")

    def asks(self, name: str, uid: int | None) -> bool:
        """And waits for its answer."""
        inside = self.comes(name, uid)
        self.places.asked(self.ends[name][0])
        return inside

    def takes(self, name: str) -> None:
        self.places.answered(self.ends[name][0])

    def leaves(self, name: str) -> None:
        self.places.leave(self.ends[name][0])

    def cut(self) -> list[str]:
        """Those that have been cut off."""
        found = []
        for name, (_, theirs) in self.ends.items():
            theirs.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                theirs.recv(1)
                found.append(name)
        return found

    def close(self) -> None:
        for pair in self.ends.values():
            for end in pair:
                end.close()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@pytest.mark.parametrize("uid", [TCP, ROOT])
def test_the_oldest_that_has_not_asked_makes_room(door: Door, uid: int | None) -> None:
    assert door.asks("asked", uid)
    assert all(door.comes(f"mute{n}", uid) for n in range(7))
    assert door.comes("new", uid)
    assert door.cut() == ["mute0"]


def test_who_has_spoken_does_not_make_room(door: Door) -> None:
    """However many come, before its thread has even begun."""
    for n in range(8):
        door.comes(f"c{n}", TCP)
    door.speaks("c0")
    door.places.waits(door.ends["c1"][0], False)
    assert door.comes("new", TCP)
    assert door.cut() == ["c2"]


@pytest.mark.parametrize("uid", [TCP, ROOT])
def test_who_waits_for_us_stays(door: Door, uid: int | None) -> None:
    assert all(door.asks(f"asked{n}", uid) for n in range(8))
    assert not door.comes("new", uid)
    door.leaves("asked3")
    assert door.comes("newer", uid)
    assert door.cut() == []


def test_who_takes_its_answer_slowly_makes_room(door: Door) -> None:
    for n in range(8):
        door.asks(f"asked{n}", TCP)
    door.takes("asked5")
    assert not door.comes("at once", TCP), "it has a moment"
    door.now += HEAD_SECONDS + 0.1
    assert door.comes("later", TCP)
    assert door.cut() == ["asked5"]


def test_a_user_has_a_quarter(door: Door) -> None:
    assert door.asks("a1", ANNA)
    assert door.asks("a2", ANNA)
    assert not door.asks("a3", ANNA)
    assert door.comes("b1", BERT)
    assert door.comes("b2", BERT)
    assert door.comes("b3", BERT)
    assert door.cut() == ["b1"], "its own, nobody else's"


def test_the_last_quarter_is_roots(door: Door) -> None:
    for n, uid in enumerate([ANNA, ANNA, BERT, BERT, CARL, CARL]):
        assert door.asks(f"u{n}", uid)
    assert not door.comes("another", 5003)
    assert door.asks("r1", ROOT)
    assert door.asks("r2", ROOT)
    assert door.cut() == []


def test_a_user_makes_no_room_at_roots_cost(door: Door) -> None:
    for n in range(8):
        door.comes(f"r{n}", ROOT)
    assert not door.comes("new", ANNA)
    assert door.cut() == []


def test_who_is_late_is_cut_off(door: Door) -> None:
    door.comes("mute", ANNA)
    door.asks("asked", ANNA)
    door.asks("takes", BERT)
    door.takes("takes")
    for now, gone in ((1.9, []), (2.1, ["mute"]), (9.0, ["mute"]), (10.1, ["mute", "takes"])):
        door.now = now
        door.places.cut_late()
        assert door.cut() == gone


def test_those_that_are_being_cut_off_are_bounded(door: Door) -> None:
    """Each is a thread until it is gone."""
    let_in = [door.comes(f"mute{n}", TCP) for n in range(100)]
    assert let_in == [True] * 16 + [False] * 84
    door.leaves("mute0")
    assert door.comes("new", TCP)


# --- for real ---


def _half_a_question(family: int, address: object, uid: int) -> int:
    """A process that has thirty of them, and another as soon as it can; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        held: list[socket.socket] = []
        while True:
            with contextlib.suppress(OSError):
                client = socket.socket(family)
                client.settimeout(1)
                client.connect(address)
                client.sendall(b"GET / HTTP/1.1\r\n")
                held.append(client)
            if len(held) > 30:
                held.pop(0).close()
    finally:
        os._exit(0)


def _asked(family: int, address: object) -> bytes:
    """It waits for its turn to connect, as a socket without a time-out does."""
    with socket.socket(family) as client, contextlib.suppress(OSError):
        client.connect(address)  # type: ignore[arg-type]
        client.settimeout(60)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return client.recv(15)
    return b"cut off"


@as_root
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_who_asks_for_nothing_keeps_nobody_out(family: int) -> None:
    with tempfile.TemporaryDirectory(prefix="pd-") as base:
        Path(base).chmod(0o755)
        listener = socket.socket(family)
        listener.bind(base + "/s" if family == socket.AF_UNIX else ("127.0.0.1", 0))
        if family == socket.AF_UNIX:
            os.chmod(base + "/s", 0o777)
        listener.listen(16)
        address = listener.getsockname()
        server = Server(listener, lambda _: Answer(body=b"ok"), name="t", clients=8)
        server.start()
        pid = _half_a_question(family, address, ANNA)
        try:
            time.sleep(0.5)
            answers = [_asked(family, address) for _ in range(40)]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            server.close()
    assert answers.count(b"HTTP/1.1 200 OK") >= 38, answers
