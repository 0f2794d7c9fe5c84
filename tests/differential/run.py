"""Many rounds on two workers: phases of epochs of rounds, and the sum.

An *epoch* has its own user namespaces and id maps; a *phase* is one epoch for each worker, under
one setting of ``fs.protected_*``.  What a round draws depends on (seed, filesystems, number)
alone, so a disagreement is repeated by its round.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from random import Random

from tests.differential import rounds, scene, syscalls, sysctls
from tests.differential.compare import Tally
from tests.differential.rounds import Round
from tests.differential.scene import Filesystem
from tests.lab.filesystems import mounted_fs
from tests.lab.needs import MissingError, need_root

ROUNDS_OF_EPOCH = 24
WORKERS = 2
MOST_DISAGREEMENTS = 20

Progress = Callable[[Tally], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.  ``only`` repeats one round."""

    cases: int
    seed: int
    kinds: tuple[str, ...] = scene.KINDS
    only: int | None = None


class Lab:
    """Filesystems of every kind in a mount namespace of our own; make it in a child process."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self.filesystems: dict[str, Filesystem] = {}

    def __enter__(self) -> Lab:
        need_root()
        _need_linux(6, 6)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.make_mounts_private()
        syscalls.keep_caps_when_ids_change()
        os.umask(0)
        with contextlib.ExitStack() as stack:
            ram = stack.enter_context(mounted_fs("tmpfs", 1 << 30))
            self._directory = stack.enter_context(tempfile.TemporaryDirectory(dir=ram))
            os.chmod(self._directory, 0o755)
            for kind in self.kinds:
                path = stack.enter_context(mounted_fs(kind, parent=self._directory))
                self.filesystems[kind] = fs = Filesystem(kind, os.fsencode(path))
                rounds.prepare(fs)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def epoch(self, seed: int, number: int) -> Iterator[rounds.Surroundings]:
        around = rounds.draw_surroundings(
            Random(f"{seed}/epoch {number}"), self.filesystems, os.fsencode(self._directory)
        )
        try:
            yield around
        finally:
            rounds.close(around)

    def round(self, around: rounds.Surroundings, seed: int, number: int) -> Tally:
        """Repeated where somebody else changed the sysctls in the middle of it."""
        kind = self.kinds[number % len(self.kinds)]
        where = f"--seed {seed} --fs {','.join(self.kinds)} --round {number} ({kind})"
        while True:
            before = sysctls.read()
            tally = Round(where, Random(f"{seed}/round {number}"), around, kind, before).run()
            if sysctls.read() == before:
                return tally


def _need_linux(*version: int) -> None:
    """6.6: fchmodat2, and a tmpfs with id maps and inode flags."""
    running = os.uname().release
    found = tuple(int(n) for n in running.split("-")[0].split(".")[:2])
    if found < version:
        raise MissingError(f"needs Linux {version[0]}.{version[1]}, this is {running}")


def run_epoch(lab: Lab, plan: Plan, epoch: int, numbers: Sequence[int]) -> Tally:
    total = Tally()
    with lab.epoch(plan.seed, epoch) as around:
        for number in numbers:
            total.add(lab.round(around, plan.seed, number))
            if len(total.disagreements) > MOST_DISAGREEMENTS:
                break
    return total


def run(plan: Plan, progress: Progress = lambda tally: None) -> Tally:
    """Raises ``MissingError`` where the machine lacks something."""
    need_root()
    total = Tally()
    with sysctls.varied() as set_sysctls, _workers(plan) as workers:
        if plan.only is not None:
            return _repeat(plan, plan.only, set_sysctls, workers[0])
        phase = 0
        while total.cases < plan.cases and len(total.disagreements) <= MOST_DISAGREEMENTS:
            set_sysctls(sysctls.draw(Random(f"{plan.seed}/phase {phase}")))
            for i, worker in enumerate(workers):
                epoch = phase * WORKERS + i
                worker.send((epoch, range(epoch * ROUNDS_OF_EPOCH, (epoch + 1) * ROUNDS_OF_EPOCH)))
            for worker in workers:
                total.add(_result(worker))
            progress(total)
            phase += 1
    return total


def _repeat(plan: Plan, number: int, set_sysctls: sysctls.Setter, worker: Connection) -> Tally:
    epoch = number // ROUNDS_OF_EPOCH
    set_sysctls(sysctls.draw(Random(f"{plan.seed}/phase {epoch // WORKERS}")))
    worker.send((epoch, [number]))
    return _result(worker)


def _result(worker: Connection) -> Tally:
    answer = worker.recv()
    if isinstance(answer, BaseException):
        raise answer
    assert isinstance(answer, Tally)
    return answer


@contextlib.contextmanager
def _workers(plan: Plan) -> Iterator[list[Connection]]:
    context = mp.get_context("fork")
    with contextlib.ExitStack() as stack:
        ends: list[Connection] = []
        for _ in range(WORKERS):
            ours, theirs = context.Pipe()
            args = (plan, theirs, [*ends, ours])
            process = context.Process(target=_work, args=args, daemon=True)
            process.start()
            stack.callback(process.join)
            theirs.close()
            stack.callback(ours.close)
            ends.append(ours)
        yield ends


def _work(plan: Plan, commands: Connection, not_ours: Sequence[Connection]) -> None:
    for end in not_ours:
        end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        with Lab(plan.kinds) as lab, contextlib.suppress(EOFError, ConnectionError):
            while True:
                epoch, numbers = commands.recv()
                commands.send(run_epoch(lab, plan, epoch, numbers))
    except Exception as e:
        commands.send(e)
