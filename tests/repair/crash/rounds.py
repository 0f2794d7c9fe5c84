"""Kill, undo, compare: one round, and many of them on one filesystem.

A round repairs one of a few trees, is killed somewhere, and undoes, which makes the tree what it
was, so the next round can use it again.  Where and whom the kill hits is drawn from (seed, number
of the round): before one of the run's system calls (evenly over all of them), or at any time.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from permdoctor.errors import PermdoctorError
from permdoctor.repair.journal import Status
from permdoctor.repair.store import Store
from tests.lab.filesystems import mounted_fs
from tests.repair.crash import snapshot, supervise, trees, work
from tests.repair.crash.supervise import Answer, Call, Run

ENTRIES = (40, 50, 60, 90, 140)
MEMORY = 2 << 30
"""Images lie on a tmpfs of at most so many bytes, where an fsync costs nothing."""
VICTIMS = ("all", "all", "main", "worker")

Broken = Callable[[], None]
"""Breaks the repair in its process, to see whether the rounds notice."""


@dataclass
class Tally:
    """What the rounds met."""

    rounds: int = 0
    kills: int = 0
    """Of repairs and of undos."""
    undo_kills: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    """Before which call the kill came; "time" for one at any time."""
    victims: Counter[str] = field(default_factory=Counter)
    tenths: Counter[int] = field(default_factory=Counter)
    """How much of the tree was changed at the kill: -1 nothing, 0..9 tenths, 10 everything."""
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.rounds += other.rounds
        self.kills += other.kills
        self.undo_kills += other.undo_kills
        for name in ("calls", "victims", "tenths"):
            getattr(self, name).update(getattr(other, name))
        self.failures += other.failures


@dataclass
class Tree:
    """One tree, what it is before a repair, and what an undisturbed repair of it takes."""

    root: str
    before: snapshot.Snapshot
    after: snapshot.Snapshot
    calls: int
    seconds: float
    undo_calls: int


class FailedError(Exception):
    """A promise was not kept; the text says which."""


class Lab:
    """The trees on one filesystem, and where the journals lie: there too, or on tmpfs."""

    def __init__(self, kind: str, base: str, elsewhere: str, broken: Broken | None = None) -> None:
        self.kind, self.broken = kind, broken
        self.stores = (os.path.join(base, "state"), os.path.join(elsewhere, "state"))
        self.trees = [self._tree(os.path.join(base, f"tree{n}"), n) for n in range(len(ENTRIES))]

    def _tree(self, root: str, n: int) -> Tree:
        trees.make(root, ENTRIES[n], n)
        before = snapshot.take(root)
        store = self.stores[0]
        with Run(lambda: work.repair(store, root), supervise.EVERYTHING) as run:
            ended = run.end()
        done = ended.get()
        after = snapshot.take(root)
        with Run(lambda: work.undo(store, done.id), supervise.EVERYTHING) as run:
            undone = run.end()
        undone.get()
        check(not snapshot.diff(before, snapshot.take(root)), "an undisturbed undo differs")
        return Tree(root, before, after, ended.calls, ended.seconds, undone.calls)

    def round(self, seed: int, number: int) -> Tally:
        """One round.  Failures are in the tally, with how to repeat them."""
        rng = random.Random(f"{seed} {self.kind} {number}")
        tally = Tally(rounds=1)
        tree = self.trees[number % len(self.trees)]
        try:
            self._round(rng, number, tree, tally)
        except (FailedError, TimeoutError, PermdoctorError) as e:
            tally.failures.append(f"{self.kind}, seed {seed}, round {number}: {e}")
            self._mend(tree)
        return tally

    def _round(self, rng: random.Random, number: int, tree: Tree, tally: Tally) -> None:
        store = f"{rng.choice(self.stores)}{number // 8}"
        known = {r.id for r in Store(store).records()}
        killer = Killer(rng, tree.calls, tree.seconds)

        killer.run(self._broken(lambda: work.repair(store, tree.root)))
        killer.count(tally)
        now = snapshot.take(tree.root)
        changed = snapshot.differing(tree.before, now)
        wanted = snapshot.differing(tree.before, tree.after)
        tally.tenths[_tenth(len(changed), len(wanted))] += 1
        check(changed <= wanted, f"changed beyond the plan:\n{snapshot.diff(tree.before, now)}")
        id_ = self._found(store, known, killer, bool(changed))
        if id_ is None:
            return
        story = [str(killer)]
        for _ in range(rng.choice((0, 0, 1, 2))):
            again = Killer(rng, tree.undo_calls, tree.seconds)
            again.run(self._broken(lambda: work.undo(store, id_)))
            tally.undo_kills += again.killed
            tally.kills += again.killed
            story.append(f"undo: {again}")
        done = supervise.run(self._broken(lambda: work.undo(store, id_)))
        tell_once(Store(store))
        said = f"{'; '.join(story)}; at last the undo said: {work.everything(done) or 'done'}"
        left = snapshot.diff(tree.before, snapshot.take(tree.root))
        check(not left, f"{said}\n{left}")
        check(not work.everything(done), said)
        restored = 0 if done.outcome is None else done.outcome.applied
        check(len(story) > 1 or restored == len(changed), f"{said}, and restored {restored}")
        if rng.random() < 0.3:
            self._idempotent(store, id_, tree, said)

    def _broken(self, what: Callable[[], work.Done]) -> Callable[[], work.Done]:
        """The same, by a repair that is broken as asked."""

        def doing() -> work.Done:
            if self.broken is not None:
                self.broken()
            return what()

        return doing

    def _found(self, store: str, known: set[str], killer: Killer, changed: bool) -> str | None:
        """The id of the run's journal, which is found as interrupted if anything was changed."""
        held = Store(store)
        new = [r for r in held.records() if r.id not in known]
        interrupted = tell_once(held)
        check(len(new) <= 1, f"{killer}: {len(new)} journals of one run")
        if not new:
            check(not changed, f"{killer}: entries were changed, and no journal says so")
            return None
        (record,) = new
        if changed and record.status not in (Status.DONE, Status.STOPPED, Status.PLANNED):
            check(record.id in interrupted, f"{killer}: changed, not found: {record.status}")
        if record.damaged or record.status is Status.PLANNED:
            check(not changed, f"{killer}: {record.damaged or 'planned'}, and something is changed")
            return None
        return record.id

    def _idempotent(self, store: str, id_: str, tree: Tree, said: str) -> None:
        before = snapshot.take(tree.root)
        done = supervise.run(lambda: work.undo(store, id_))
        check(
            done.outcome is None and not done.summary.count,
            f"{said}; the second undo changes {done.summary.count} entries",
        )
        diff = snapshot.diff(before, snapshot.take(tree.root), times=True)
        check(not diff, f"{said}; the second undo touched:\n{diff}")

    def _mend(self, tree: Tree) -> None:
        """After a failure: the tree as it was, by force."""
        for path, meta in tree.before.items():
            below = os.path.join(os.fsencode(tree.root), path)
            with contextlib.suppress(OSError):
                _force(below, meta)


def _force(path: bytes, meta: snapshot.Meta) -> None:
    os.chown(path, meta.uid, meta.gid, follow_symlinks=False)
    if os.path.islink(path):
        return
    os.chmod(path, meta.mode & 0o7777)
    for name, _ in snapshot.meta(path).xattrs:
        os.removexattr(path, name)
    for name, value in meta.xattrs:
        os.setxattr(path, name, value)


class Killer:
    """kill -9 of one run at a moment of its own."""

    def __init__(self, rng: random.Random, calls: int, seconds: float) -> None:
        self.victim = rng.choice(VICTIMS)
        self.by_call = rng.random() < 0.75
        self.number = rng.randrange(calls)
        self.after = rng.random() * seconds
        self.killed = False
        self.call = ""

    def run(self, what: Callable[[], object]) -> object:
        """What the run returned, or ``None``."""
        with Run(what, supervise.EVERYTHING) as run:

            def at(call: Call) -> Answer:
                if self.by_call and call.number == self.number:
                    self.call = call.name
                    self._kill(run)
                return None

            if self.by_call:
                ended = run.end(at)
            else:
                ended = run.end(at, after=self.after, late=lambda: self._kill(run))
            if isinstance(ended.error, PermdoctorError) and self.victim == "worker":
                return None
            return ended.get()

    def _kill(self, run: Run) -> None:
        members = run.members()
        workers = [pid for pid in members if pid != run.pid]
        match self.victim:
            case "main":
                run.kill(run.pid)
            case "worker" if workers:
                run.kill(workers[self.number % len(workers)])
            case _:
                run.kill()
        self.killed = bool(members)

    def count(self, tally: Tally) -> None:
        tally.kills += self.killed
        if self.killed:
            tally.calls[self.call or "time"] += 1
            tally.victims[self.victim] += 1

    def __str__(self) -> str:
        if not self.killed:
            return "not killed"
        when = f"before call {self.number} ({self.call})" if self.by_call else f"{self.after:.4f} s"
        return f"kill -9 of {self.victim} {when}"


def tell_once(store: Store) -> set[str]:
    """The interrupted ones, which are not interrupted any more."""
    found = {r.id for r in store.interrupted()}
    for id_ in found:
        store.mark_interrupted(id_)
    again = {r.id for r in store.interrupted()}
    check(not again, f"{again} is told again")
    return found


def check(holds: bool, what: str) -> None:
    if not holds:
        raise FailedError(what)


def _tenth(changed: int, wanted: int) -> int:
    return -1 if not changed else changed * 10 // wanted


@contextlib.contextmanager
def lab(kind: str, broken: Broken | None = None) -> Iterator[Lab]:
    """Raises ``MissingError``."""
    with mounted_fs("tmpfs", MEMORY) as memory, mounted_fs(kind, parent=memory) as base:
        elsewhere = os.path.join(memory, "elsewhere")
        os.mkdir(elsewhere)
        yield Lab(kind, base, elsewhere, broken)


def many(
    kind: str,
    seed: int,
    kills: int,
    only: int | None = None,
    progress: Callable[[str, Tally], None] | None = None,
    broken: Broken | None = None,
    until_failure: bool = False,
) -> Tally:
    """Rounds on one filesystem until so many were killed; or only the round ``only``."""
    total = Tally()
    gc.freeze()  # the many processes forked from here need not copy it
    with lab(kind, broken) as here:
        number = 0 if only is None else only
        while total.kills < kills:
            total.add(here.round(seed, number))
            number += 1
            if progress is not None:
                progress(kind, total)
            if only is not None or (until_failure and total.failures):
                break
    return total
