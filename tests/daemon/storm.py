"""Ten thousand container events within a minute, with disconnects and slow answers.

``python -m tests.daemon.storm`` says how long an event takes and how much memory is kept.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from types import FunctionType, ModuleType

from permdoctor.daemon.events import Event, Swept
from permdoctor.daemon.limits import Limits
from tests.daemon.world import Box, History

EVENTS = 10_000
NAMES = 300


class Storm(History):
    """``slowest`` and ``busy`` are the CPU seconds of one event and of all of them; ``handled``
    counts them.  ``most`` is the most memory that was kept, in bytes.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed, names=NAMES, limits=Limits(checks=4))
        self.loss, self.late = 0.02, 0.05
        self.slowest = self.busy = 0.0
        self.handled = self.most = self.happened = 0
        self.boxes: list[Box] = []

    def run(self) -> None:
        self.engines = self.engines[:1]
        (engine,) = self.engines
        for _ in range(NAMES // 2):
            self.start_box(engine)
        self.connect(engine)
        some: list[Callable[[], None]] = [self.start, self.stop, self.restart, self.recreate]
        some += [self.restart, self.poke, self.problem, self.rename]
        for n in range(EVENTS):
            self.random.choice(some)()
            self.advance(0.006)
            if n in (EVENTS // 3, EVENTS // 3 + 500, 2 * EVENTS // 3, 2 * EVENTS // 3 + 500):
                self.drop_stream()
            if n % 2000 == 0:
                self.most = max(self.most, kept(self.reconciler))
        self.make_peace()
        self.most = max(self.most, kept(self.reconciler))

    def give(self, event: Event) -> None:
        begun = time.thread_time()
        commands = self.reconciler.handle(event, self.now, self.now + self.offset)
        seconds = time.thread_time() - begun
        self.busy += seconds
        self.slowest = max(self.slowest, seconds)
        self.handled += 1
        for command in commands:
            self.watcher.see(command, self.now)
            self.obey(command)

    def leave(self) -> None:
        """Everything ends, and two hours pass."""
        (engine,) = self.engines
        self.truth.boxes.clear()
        self.give(Swept(engine=engine, containers=()))
        self.advance(7200)


def kept(top: object) -> int:
    """Bytes of everything that can be reached from there, but for code."""
    seen: set[int] = set()
    todo = [top]
    size = 0
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, ModuleType | FunctionType | type):
            continue
        seen.add(id(one))
        size += sys.getsizeof(one)
        todo.extend(gc.get_referents(one))
    return size


def main() -> int:
    storm = Storm(1)
    storm.run()
    wrong = storm.differences()
    most, there = storm.most, len(storm.truth.boxes)
    storm.leave()
    print(
        f"{EVENTS:,} events, {storm.handled:,} handled, {storm.watcher.checks:,} checks, "
        f"{storm.watcher.tells:,} alerts, {there} containers at the end: {len(wrong)} wrong\n"
        f"{storm.busy / storm.handled * 1e6:.0f} us an event, {storm.slowest * 1e3:.1f} ms the "
        f"slowest; kept: {most / 1024:,.0f} KiB at most, "
        f"{kept(storm.reconciler) / 1024:,.0f} KiB when all are gone"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
