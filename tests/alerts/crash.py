"""kill -9 at any moment: no alert is lost, and none is two for a receiver that counts by id.

``python -m tests.alerts.crash [ROUNDS]`` does it as often as you like.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from permdoctor.alerts.http import parse_url
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.webhook import WebhookSink

from .receiver import Receiver, answer, hang_up, receiving

ROOT = Path(__file__).parent.parent.parent


class Counting:
    """Ids in the order in which they were taken.  ``trouble``: how often it takes nothing, or
    takes it and hangs up without an answer.
    """

    def __init__(self, trouble: float) -> None:
        self.taken: list[str] = []
        self.unanswered = 0
        self._trouble, self._chance = trouble, random.Random(11)
        self.receiver: Receiver

    def behave(self, sock: socket.socket) -> None:
        id_ = self._id(sock)
        chance = self._chance.random()
        if chance < self._trouble / 2:
            answer(503)(sock)
            return
        self.taken.append(id_)
        if chance < self._trouble:
            self.unanswered += 1
            hang_up(sock)
            return
        answer(202)(sock)

    def _id(self, sock: socket.socket) -> str:
        peer = sock.getpeername()
        return self.receiver.by_peer.pop(peer).json["id"]  # type: ignore[no-any-return]


@contextlib.contextmanager
def counting(trouble: float) -> Iterator[Counting]:
    made = Counting(trouble)
    with receiving(made.behave) as made.receiver:
        yield made


def killed(directory: Path, urls: list[str], after: float) -> None:
    """Run the teller, and kill it so many seconds after it began to tell."""
    told = directory / "told"
    size = told.stat().st_size if told.exists() else 0
    argv = [sys.executable, "-m", "tests.alerts.teller", str(directory), *urls]
    with subprocess.Popen(argv, cwd=ROOT, start_new_session=True) as process:
        deadline = time.monotonic() + 20
        while not told.exists() or told.stat().st_size == size:
            assert process.poll() is None, "the teller ended"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)


def drain(directory: Path, urls: list[str]) -> None:
    sinks = tuple(
        WebhookSink(name=f"hook-{n}", url=parse_url(url, ""), per_minute=10**6)
        for n, url in enumerate(urls)
    )
    box = Outbox(str(directory / "outbox"), sinks, host="h", log=lambda *_: None,
                 chance=lambda: 0.0)  # fmt: skip
    box.start()
    deadline = time.monotonic() + 120
    while any(box.waiting().values()):
        assert time.monotonic() < deadline, box.waiting()
        time.sleep(0.01)
    box.close(1)


def rounds(directory: Path, number: int, seed: int, trouble: float) -> int:
    """Returns how many alerts were told."""
    chance = random.Random(seed)
    with counting(0.0) as well, counting(trouble) as ill:
        urls = [well.receiver.url, ill.receiver.url]
        for _ in range(number):
            killed(directory, urls, chance.random() * 0.15)
        drain(directory, urls)
        lines = [line.split() for line in (directory / "told").read_text().splitlines()]
        will = {i for word, i in lines if word == "will"}
        told = {i for word, i in lines if word == "told"}
        assert len(told) > number
        for receiver in (well, ill):
            taken = Counter(receiver.taken)
            assert _lost(told, taken) == set(), "lost"
            assert set(taken) - will == set(), "two ids for one"
            again = sum(taken.values()) - len(taken)
            assert again <= number + receiver.unanswered, "sent again without need"
            _in_order(dict.fromkeys(receiver.taken))
        return len(told)


def _lost(told: Iterable[str], taken: Iterable[str]) -> set[str]:
    """What was told and did not arrive, nor did a later revision of it."""
    newest: dict[str, int] = {}
    for id_ in taken:
        what, _, revision = id_.rpartition("-")
        newest[what] = max(newest.get(what, 0), int(revision))
    return {i for i in told if newest.get(i.rpartition("-")[0], -1) < int(i.rpartition("-")[2])}


def _in_order(ids: Iterable[str]) -> None:
    """Revisions of an episode as they are, a resolve last and not alone."""
    last: dict[str, tuple[bool, int]] = {}
    for id_ in ids:
        episode, status, revision = id_.rsplit("-", 2)
        step = (status == "resolved", int(revision))
        assert last.get(episode, (False, -1)) < step, id_
        assert episode in last or status == "firing", id_
        last[episode] = step


if __name__ == "__main__":
    wanted, start = int((sys.argv[1:] or ["100"])[0]), int(time.time())
    with tempfile.TemporaryDirectory() as at:
        print(f"{wanted} kills, seed {start}: {rounds(Path(at), wanted, start, 0.0)} alerts told")
