"""Workers that answer, hang and die: what becomes of their checks, and how long that took."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from permdoctor.daemon.channel import Channel
from permdoctor.daemon.dispatch import Deadlines, Dispatch
from permdoctor.daemon.events import Check, Checked, ContainerRef, Event, Repair
from permdoctor.daemon.metrics import Metrics
from permdoctor.daemon.nursery import CHECKER, Nursery
from permdoctor.daemon.work import Answer, Job

DEADLINE = 8.0
"""Seconds in which a new process answers, on a busy machine too."""

SHORT = 0.6
"""Seconds; less than what makes a check a slow one, beside which others may begin."""


def work(sock: socket.socket) -> None:
    """What a check is about is its reason."""
    channel: Channel[Job] = Channel(sock, Job)
    while True:
        check = channel.wait().check
        assert check is not None
        if check.why == "hangs":
            time.sleep(60)
        if check.why == "dies":
            os._exit(1)
        number = check.number + (check.why == "lies")
        checked = Checked(number=number, ref=check.ref, seconds=0.01)
        channel.send(Answer(checked=checked), 5)


class Desk:
    """The loop's part: it listens to workers, and counts what comes back."""

    def __init__(self, workers: int, deadline: float) -> None:
        self.nursery = Nursery({CHECKER: lambda: work})
        self.fds: dict[int, object] = {}
        self.metrics = Metrics()
        self.dispatch = Dispatch(
            self.nursery,
            workers,
            self.job,
            self.fds.__setitem__,
            self.forget,
            Deadlines(check=deadline),
        )

    def forget(self, fd: int) -> None:
        self.fds.pop(fd, None)

    def job(self, command: Check | Repair) -> Job | None:
        return Job(config=b"", check=command if isinstance(command, Check) else None)

    def check(self, *whys: str) -> list[str]:
        """Why each failed, in their order; empty: it did not."""
        refs = [ContainerRef(engine="e", id=str(n)) for n, _ in enumerate(whys)]
        for n, ref in enumerate(refs):
            self.dispatch.check(Check(number=10 * n, ref=ref, why=whys[n]), time.monotonic())
        found: dict[str, str] = {}
        end = time.monotonic() + 60
        while len(found) < len(refs):
            assert time.monotonic() < end, found
            for event in self.round():
                assert isinstance(event, Checked)
                self.metrics.checked(event.seconds, not event.failed)
                found[event.ref.id] = event.failed
        return [found[ref.id] for ref in refs]

    def round(self) -> list[Event]:
        events = self.dispatch.advance(time.monotonic())
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(20):
            if fd in self.fds:
                events += self.dispatch.answered(self.fds[fd], time.monotonic())
        return events

    def value(self, name: str) -> float:
        self.metrics.workers_lost(self.dispatch.late, self.dispatch.died)
        lines = (line.rsplit(" ", 1) for line in self.metrics.text().decode().splitlines())
        return next(float(v) for n, v in lines if n == f"permdoctor_{name}")


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(workers=2, deadline=getattr(request, "param", DEADLINE))
    yield made
    made.dispatch.close()
    made.nursery.close()


def test_whatever_becomes_of_a_check_is_counted(desk: Desk) -> None:
    assert desk.check("well", "hangs", "dies", "lies") == [
        "",
        "given up after 8 s",
        "its worker died",
        "its worker gave another answer",
    ]
    assert desk.value("checks_total") == 4
    assert desk.value("check_failures_total") == 3
    assert desk.value('workers_lost_total{reason="late"}') == 1
    assert desk.value('workers_lost_total{reason="died"}') == 1
    assert desk.value("check_duration_seconds_sum") >= DEADLINE, "what was given up took its time"
    assert len(desk.fds) <= 2, "no process is left over"


@pytest.mark.parametrize("desk", [SHORT], indirect=True)
def test_what_nobody_had_time_for_is_counted_too(desk: Desk) -> None:
    """All places hang: who waited for one in vain is told so, and does not wait for ever."""
    late = "given up after 1 s"
    found = desk.check("hangs", "hangs", "well")
    assert found == [late, late, "no worker was free in time"]
    assert desk.value("check_failures_total") == 3
    assert desk.value("check_duration_seconds_sum") >= 3 * SHORT
