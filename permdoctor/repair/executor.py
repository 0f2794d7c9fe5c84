"""A plan carried out: blocks handed to workers, marks written, silence noticed.

Files first, then directories, the deepest first, so that a directory that lets somebody in does
so after everything below it is as it should be; an undo goes the other way.  All directories of
one depth are done before the next depth begins.

The parent touches the journal's filesystem only.  A worker that says nothing for longer than the
deadline is killed, if it can be, and never waited for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import msgspec

from permdoctor.diagnosis.plan import SAMPLES, Left, Outcome, Reason
from permdoctor.errors import PermdoctorError
from permdoctor.host import syscalls
from permdoctor.repair.change import REASONS, Changer, Done, Mark
from permdoctor.repair.journal import MARK_BYTES, STAMP_BYTES, Journal
from permdoctor.repair.options import Asked, CannotRepairError, Limits
from permdoctor.repair.planfile import Block, Reader
from permdoctor.repair.reach import PlannedDirs

_NUMBER = struct.Struct("=I")
_UNDER_WAY = 2
"""Blocks that one worker has been given and has not answered for."""
_LARGEST = 1 << 20
ALONE = 2048
"""So few entries are not worth a second process."""

Progress = Callable[[int], None]


def apply(journal: Journal, limits: Limits, progress: Progress | None = None) -> Outcome:
    """Carry out the journal's plan.  Never raises for what happens to entries.

    Raises ``CannotRepairError`` where the plan is not complete or cannot be read: nothing was
    changed then.  Ctrl-C ends it after the blocks that are under way.
    """
    with journal.reading() as reader:
        if not journal.ready:
            raise CannotRepairError("the plan is not complete", hint="make it again")
        each = 1 + (STAMP_BYTES if journal.asked.set_id else 0)
        journal.start(sum(MARK_BYTES + each * b.count for b in reader.blocks))
        run = _Run(journal, reader, limits, progress)
        try:
            run.all()
        finally:
            run.close()
            journal.finish(run.outcome())
        return run.outcome()


class _Worker:
    """A forked process that carries out blocks."""

    def __init__(
        self, reader: Reader, asked: Asked, at: bytes | None, others: list[_Worker]
    ) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (self.sock, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
        self.given: dict[int, Block] = {}
        self.since = time.monotonic()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            for each in (self, *others):
                each.sock.close()
            _serve(theirs, reader, asked, at, parent)
        theirs.close()

    def give(self, block: Block) -> None:
        if not self.given:
            self.since = time.monotonic()
        self.given[block.where] = block
        with contextlib.suppress(OSError):  # its death is noticed when it is listened to
            self.sock.send(_NUMBER.pack(block.where))

    def take(self) -> Done | None:
        """The next answer; ``None`` if it has died."""
        try:
            data = self.sock.recv(_LARGEST)
        except OSError:
            data = b""
        if not data:
            return None
        self.since = time.monotonic()
        done = msgspec.msgpack.decode(data, type=Done)
        self.given.pop(done.where)
        return done

    def end(self, *, kill: bool) -> None:
        """Never waits for one that does not go."""
        self.sock.close()
        if kill:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored here
            for _ in range(200):
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.001)


def _serve(
    sock: socket.socket, reader: Reader, asked: Asked, at: bytes | None, parent: int
) -> None:
    """A worker's whole life.  Does not return."""
    try:
        gc.disable()
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)  # the parent ends us
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody wants a file that we have leased
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        changer = Changer(reader, PlannedDirs(reader, asked, at))
        while os.getppid() == parent and (data := sock.recv(_NUMBER.size)):
            block = reader.blocks[_NUMBER.unpack(data)[0]]
            try:
                done = changer.block(block)
            except PermdoctorError as e:
                done = Done(block.where, b"", [], e.message)
            except OSError as e:
                done = Done(block.where, b"", [], f"{e.strerror}")
            sock.send(msgspec.msgpack.encode(done))
    except OSError:
        pass
    finally:
        os._exit(0)


class _Run:
    """One application of one plan."""

    def __init__(
        self, journal: Journal, reader: Reader, limits: Limits, progress: Progress | None
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._limits = limits
        self._progress = progress
        self._workers: list[_Worker] = []
        self._counts = dict.fromkeys(Mark, 0)
        self._unknown = 0
        self._left: dict[tuple[Reason, str], Left] = {}
        self._stop = ""
        self._told = 0.0

    def all(self) -> None:
        """Everything, phase by phase, until something stops it."""
        try:
            self._hire()
            if not self._workers:
                return
            for phase in phases(self._reader.blocks, top_down=self._journal.about.kind == "undo"):
                blocks = list(phase)
                if len(blocks) == 1:
                    self._next(blocks[0])
                else:
                    self._phase(iter(blocks))
                if self._stop:
                    break
        except KeyboardInterrupt:
            self._stop = "interrupted"
        self._drain()

    def _hire(self) -> None:
        """One that cannot be had is done without."""
        journal = self._journal
        for _ in range(1 if self._reader.count <= ALONE else self._limits.workers):
            try:
                worker = _Worker(self._reader, journal.asked, journal.at, self._workers)
            except OSError as e:
                if not self._workers:
                    self._stop = f"cannot start a worker: {e.strerror}"
                return
            self._workers.append(worker)

    def _next(self, block: Block) -> None:
        """A phase of one block: behind those before it, in the worker that has them."""
        first = self._workers[0]
        while any(w.given for w in self._workers[1:]) or len(first.given) >= _UNDER_WAY:
            self._listen()
            if self._stop:
                return
        first.give(block)

    def _phase(self, blocks: Iterator[Block]) -> None:
        self._drain()
        while not self._stop:
            for worker in self._workers:
                while len(worker.given) < _UNDER_WAY and (block := next(blocks, None)):
                    worker.give(block)
            if not self._listen():
                return

    def _drain(self) -> None:
        """What is under way is waited for, within the deadline; a second Ctrl-C gives it up."""
        for _ in range(2):
            try:
                while self._listen():
                    pass
                return
            except KeyboardInterrupt:
                again, self._stop = bool(self._stop), self._stop or "interrupted"
                if again:
                    return

    def _listen(self) -> bool:
        """Wait for answers.  False if none is under way."""
        busy = [w for w in self._workers if w.given]
        if not busy:
            return False
        now = time.monotonic()
        left = min(w.since for w in busy) + self._limits.deadline - now
        ready = select.select([w.sock for w in busy], [], [], max(0.0, left))[0]
        for worker in busy:
            if worker.sock in ready:
                done = worker.take()
                if done is None:
                    self._lost(worker, "a worker died")
                else:
                    self._record(done)
            elif time.monotonic() > worker.since + self._limits.deadline:
                seconds = self._limits.deadline
                self._lost(worker, f"the filesystem did not answer within {seconds:g} seconds")
        return True

    def _lost(self, worker: _Worker, why: str) -> None:
        """Nobody knows what it did with its blocks: their entries have no mark."""
        self._unknown += sum(b.count for b in worker.given.values())
        self._stop = self._stop or why
        self._workers.remove(worker)
        worker.end(kill=True)

    def _record(self, done: Done) -> None:
        if done.marks:  # else nobody knows what became of them
            self._journal.mark(done.where, done.marks, done.stamps)
        for mark in Mark:
            self._counts[mark] += done.marks.count(mark)
        for each in done.left:
            reason = REASONS[Mark(each.mark)]
            old = self._left.get((reason, each.detail))
            samples = (*(old.samples if old else ()), *each.samples)[:SAMPLES]
            count = each.count + (old.count if old else 0)
            self._left[reason, each.detail] = Left(
                reason=reason, count=count, samples=samples, detail=each.detail
            )
        self._stop = self._stop or done.stop
        now = time.monotonic()
        if self._progress is not None and now - self._told > 0.1:
            self._told = now
            self._progress(sum(self._counts.values()))

    def close(self) -> None:
        for worker in tuple(self._workers):
            if worker.given:
                self._lost(worker, "interrupted")
            else:
                worker.end(kill=False)
        self._workers.clear()

    def outcome(self) -> Outcome:
        planned = self._reader.count
        done = self._counts[Mark.APPLIED] + self._counts[Mark.ALREADY]
        left = [x for x in self._left.values() if x.reason is not Reason.NOT_REACHED]
        missing = planned - done - sum(x.count for x in left)
        for reason, count in (
            (Reason.UNKNOWN, self._unknown),
            (Reason.NOT_REACHED, missing - self._unknown),
        ):
            if count:
                left.append(Left(reason=reason, count=count, samples=()))
        return Outcome(
            planned=planned,
            applied=self._counts[Mark.APPLIED],
            already=self._counts[Mark.ALREADY],
            left=tuple(left),
            stopped=self._stop,
        )


def phases(blocks: Iterable[Block], *, top_down: bool) -> Iterator[Iterable[Block]]:
    """Blocks in the order in which they may be done: those of one phase in any."""
    files = [b for b in blocks if not b.dirs]
    dirs = sorted((b for b in blocks if b.dirs), key=lambda b: b.depth if top_down else -b.depth)
    if not top_down:
        yield files
    for _, phase in groupby(dirs, key=lambda b: b.depth):
        yield phase
    if top_down:
        yield files
