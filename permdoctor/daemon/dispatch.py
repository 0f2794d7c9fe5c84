"""Who does what the reconciler wants done: worker processes, a bounded number of them.

At most ``workers`` checks that are young are under way.  One that has taken longer than ``SLOW``
seconds waits for something, most likely a filesystem that does not answer: it no longer counts, and
the next begins beside it.  A container whose last check was slow is remembered, and only so many of
those are checked at once, so that they delay each other and nobody else.  A job that is late is
given up with its worker.  One repair at a time has a worker of its own.

One thread, the loop's; nothing here waits for a worker.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from permdoctor.daemon.channel import Channel, Closed
from permdoctor.daemon.events import Check, Checked, ContainerRef, Event, Repair, Repaired
from permdoctor.daemon.nursery import CHECKER, Child, Nursery
from permdoctor.daemon.work import Answer, Job
from permdoctor.errors import PermdoctorError

SLOW: Final = 1.0
SPARE: Final = 8
"""Slow checks under way at once."""

AHEAD: Final = 64
"""Checks that the reconciler may have begun beside those that are under way."""

_IDLE_SECONDS: Final = 20.0
_SEND_SECONDS: Final = 2.0
_REPAIR_PATIENCE: Final = 10.0
"""Seconds that a repair has to end in order."""


class Deadlines(Struct, frozen=True, kw_only=True):
    """Seconds; shorter than the reconciler's, so that its places are free when it takes them."""

    check: float = 280.0
    repair: float = 7100.0


class Worker(Struct, kw_only=True, eq=False):
    """A process.  ``job`` is what it does, since ``begun``; idle since then without one."""

    child: Child
    channel: Channel[Answer]
    begun: float
    job: Job | None = None
    slow: bool = False


class Dispatch:
    """``job_of`` makes a job of a command; ``watch`` and ``forget`` tell the loop which workers it
    should listen to.
    """

    def __init__(
        self,
        nursery: Nursery,
        workers: int,
        job_of: Callable[[Check | Repair], Job | None],
        watch: Callable[[int, object], None],
        forget: Callable[[int], None],
        deadlines: Deadlines | None = None,
    ) -> None:
        self._nursery, self._limit, self._job_of = nursery, workers, job_of
        self._watch, self._forget = watch, forget
        self._deadlines = deadlines or Deadlines()
        self._quick: deque[tuple[float, Check]] = deque()
        self._slow: deque[tuple[float, Check]] = deque()
        self._repairs: deque[tuple[float, Repair]] = deque()
        self._busy: list[Worker] = []
        self._idle: list[Worker] = []
        self._sluggish: dict[ContainerRef, None] = {}
        self._events: list[Event] = []
        self.late = self.died = 0
        """Workers that were given up with what they did, and that died of it."""

    def resize(self, workers: int) -> None:
        self._limit = workers

    @property
    def checking(self) -> int:
        """Checks that a worker makes now, slow ones too."""
        return len(self._checks())

    @property
    def repairing(self) -> bool:
        return any(w.job is not None and w.job.repair is not None for w in self._busy)

    # -- work --------------------------------------------------------------------------------

    def check(self, command: Check, now: float) -> None:
        lane = self._slow if command.ref in self._sluggish else self._quick
        lane.append((now, command))

    def repair(self, command: Repair, now: float) -> None:
        self._repairs.append((now, command))

    def advance(self, now: float) -> list[Event]:
        """Give up what is late, begin what may begin; what came of both."""
        for worker in tuple(self._busy):
            self._look_at(worker, now)
        for worker in [w for w in self._idle if now - w.begun >= _IDLE_SECONDS]:
            self._end(worker)
        self._begin(now)
        events, self._events = self._events, []
        return events

    def answered(self, worker: object, now: float) -> list[Event]:
        """Something came from a worker, or it died."""
        assert isinstance(worker, Worker)
        try:
            for answer in worker.channel.received():
                self._back(worker, answer, now)
        except Closed:
            self._died(worker, now)
        events, self._events = self._events, []
        return events

    def due(self) -> float | None:
        """When :meth:`advance` would do something of itself."""
        times = [self._next_look(w) for w in self._busy]
        times += [w.begun + _IDLE_SECONDS for w in self._idle]
        return min(times, default=None)

    # -- beginning ---------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        while self._quick and self._young() < self._limit:
            since, command = self._quick.popleft()
            self._start(command, now, since, slow=False)
        while self._slow and self._slow_ones() < max(1, SPARE // 2):
            since, command = self._slow.popleft()
            self._start(command, now, since, slow=True)
        while self._repairs and not self.repairing:
            since, repair = self._repairs.popleft()
            self._start(repair, now, since, slow=True)

    def _young(self) -> int:
        """Those that count.  Beyond ``SPARE`` even the slow ones do."""
        slow = self._slow_ones()
        return len(self._checks()) - min(slow, SPARE)

    def _slow_ones(self) -> int:
        return sum(w.slow for w in self._checks())

    def _checks(self) -> list[Worker]:
        return [w for w in self._busy if w.job is not None and w.job.check is not None]

    def _start(self, command: Check | Repair, now: float, since: float, *, slow: bool) -> None:
        if isinstance(command, Check) and now - since >= self._deadlines.check:
            self._events.append(_failed(command, "no worker was free in time", now - since))
            return
        job = self._job_of(command)
        if job is None:
            self._events.append(_failed(command, "its engine is not watched any more"))
            return
        try:
            worker = self._idle.pop() if self._idle else self._hired(now)
        except PermdoctorError as e:
            self._events.append(_failed(command, e.message))
            return
        worker.job, worker.begun, worker.slow = job, now, slow
        self._busy.append(worker)
        try:
            worker.channel.send(job, _SEND_SECONDS)
        except Closed:
            self._died(worker, now)
        except (ValueError, TypeError) as e:
            self._drop(worker, now, f"it cannot be asked for: {e}")

    def _hired(self, now: float) -> Worker:
        child = self._nursery.child(CHECKER)
        worker = Worker(child=child, channel=Channel(child.sock, Answer), begun=now)
        self._watch(worker.channel.fileno(), worker)
        return worker

    # -- ending ------------------------------------------------------------------------------

    def _back(self, worker: Worker, answer: Answer, now: float) -> None:
        job, worker.job = worker.job, None
        if job is None:
            raise Closed("nothing was asked")
        self._busy.remove(worker)
        event = answer.checked or answer.repaired
        command = job.check or job.repair
        if event is None or command is None or event.number != command.number:
            self._end(worker)
            if command is not None:
                self._events.append(_failed(command, "its worker gave another answer"))
            return
        self._events.append(event)
        if isinstance(event, Checked):
            self._remember(event.ref, slow=now - worker.begun > SLOW)
        if answer.clean and len(self._idle) < self._limit:
            worker.begun, worker.slow = now, False
            self._idle.append(worker)
        else:
            self._end(worker)

    def _died(self, worker: Worker, now: float, why: str = "its worker died") -> None:
        self.died += worker.job is not None
        self._drop(worker, now, why)

    def _drop(self, worker: Worker, now: float, why: str) -> None:
        """With what it did, if it did anything."""
        job, worker.job = worker.job, None
        self._end(worker)
        command = None if job is None else job.check or job.repair
        if command is not None:
            self._events.append(_failed(command, why, now - worker.begun))

    def _look_at(self, worker: Worker, now: float) -> None:
        assert worker.job is not None
        took = now - worker.begun
        worker.slow = worker.slow or took >= SLOW
        repair = worker.job.repair is not None
        limit = self._deadlines.repair if repair else self._deadlines.check
        if took < limit:
            return
        if repair and took < limit + _REPAIR_PATIENCE:
            worker.child.signal(signal.SIGTERM)  # it resumes whom it paused
            return
        command = worker.job.check or worker.job.repair
        assert command is not None
        self._remember(command.ref, slow=True)
        self.late += 1
        self._drop(worker, now, f"given up after {limit:.0f} s")

    def _next_look(self, worker: Worker) -> float:
        assert worker.job is not None
        if worker.job.repair is not None:
            late = time.monotonic() >= worker.begun + self._deadlines.repair
            return worker.begun + self._deadlines.repair + (_REPAIR_PATIENCE if late else 0.0)
        return worker.begun + (self._deadlines.check if worker.slow else SLOW)

    def _remember(self, ref: ContainerRef, *, slow: bool) -> None:
        self._sluggish.pop(ref, None)
        if slow:
            self._sluggish[ref] = None
        while len(self._sluggish) > AHEAD * SPARE:
            del self._sluggish[next(iter(self._sluggish))]

    def _end(self, worker: Worker) -> None:
        self._forget(worker.channel.fileno())
        for group in (self._busy, self._idle):
            if worker in group:
                group.remove(worker)
        worker.child.kill()

    # -- stopping ----------------------------------------------------------------------------

    def interrupt(self) -> None:
        """No more work: checks are killed, for they only read; a repair is told to end."""
        self._quick.clear()
        self._slow.clear()
        self._repairs.clear()
        for worker in (*self._idle, *self._checks()):
            worker.job = None
            self._end(worker)
        for worker in self._busy:
            worker.child.signal(signal.SIGTERM)

    def close(self) -> None:
        for worker in (*self._idle, *self._busy):
            self._end(worker)


def _failed(command: Check | Repair, why: str, seconds: float = 0.0) -> Event:
    if isinstance(command, Check):
        return Checked(number=command.number, ref=command.ref, failed=why, seconds=seconds)
    return Repaired(number=command.number, ref=command.ref, path=command.root, failed=why)
