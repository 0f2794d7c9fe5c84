"""The way back: the plan that undoes what a journal says was done.

Each entry is looked for where it was.  In the state that the repair left (after a crash: in any
state on the way there) it is put into the new plan, back to what it was; in the state from before
there is nothing to do; in any other state somebody has changed it since, and it is left.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from permdoctor.diagnosis.plan import SAMPLES, Left, Outcome, Reason, Summary, TreePlan
from permdoctor.host.deadline import Giveup
from permdoctor.host.entries import Counters
from permdoctor.host.scan import BATCH
from permdoctor.kernel.mount import Mount
from permdoctor.repair.change import Mark
from permdoctor.repair.journal import Journal, Marks, Record
from permdoctor.repair.look import Looker, bare_state, look_at, with_xattrs
from permdoctor.repair.options import CannotRepairError, Limits
from permdoctor.repair.planfile import NO_DIR, Block, Class, Entries, Reader, Writer, entries_of
from permdoctor.repair.reach import Elsewhere, PlannedDirs
from permdoctor.repair.root import answering
from permdoctor.repair.rules import Decided, tree_plan
from permdoctor.repair.state import State, loses, passed, same, without_set_id
from permdoctor.repair.store import Store
from permdoctor.repair.syscalls import Row, list_sizes
from permdoctor.repair.vouching import Cut, cuts, untouched

_UNTOUCHED = frozenset(
    {Mark.ALREADY, Mark.CHANGED, Mark.GONE, Mark.HARD_LINKS, Mark.FRESH, Mark.NOT_REACHED}
)
"""Marks of entries that the repair did not change."""


def survey_undo(
    journal: Journal,
    of: Record,
    store: Store,
    limits: Limits,
    at: bytes | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Summary, Outcome]:
    """Write the plan that undoes ``of``; with it, what is not in it: entries that are as they were
    (``already``), and those that were changed since (``left``).

    ``at`` is where the tree is now, if it was moved (one root only).  Raises ``CannotRepairError``.
    """
    if of.damaged:
        raise CannotRepairError(f"repair {of.id} cannot be undone: {of.damaged}")
    if at is not None and len(of.about.roots) > 1:
        raise CannotRepairError(
            f"repair {of.id} has {len(of.about.roots)} roots: --at is for those with one"
        )
    journal.begin_plan()
    with store.reading(of) as (reader, _, asked), Giveup() as worker:
        planned = reader.count
        with answering(b", ".join(of.about.roots)):
            trees, left, already = worker.call(
                undo_plan,
                store,
                of,
                journal.plan,
                at,
                seconds=limits.deadline,
                progress=progress or (lambda _: None),
            )
    summary = Summary(trees=trees)
    journal.at = at
    journal.end_plan(summary, asked)
    return summary, Outcome(planned=planned, applied=0, already=already, left=left)


def undo_plan(
    store: Store,
    of: Record,
    plan: str,
    at: bytes | None,
    progress: Callable[[int], None] | None = None,
) -> tuple[tuple[TreePlan, ...], tuple[Left, ...], int]:
    """For a worker: append the inverse of a journal to ``plan``."""
    fd = os.open(plan, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        with store.reading(of) as (reader, marks, asked):
            inverse = Inverse(reader, marks, PlannedDirs(reader, asked, at), fd, cuts(store, of))
            for n, block in enumerate(reader.blocks):
                inverse.block(block)
                if progress is not None and n % 8 == 0:
                    progress(inverse.seen)
            return inverse.result()
    finally:
        os.close(fd)


class Inverse:
    """Looks at the entries of a plan, and writes the one that leads back."""

    def __init__(
        self,
        reader: Reader,
        marks: Marks,
        dirs: PlannedDirs,
        fd: int,
        cut_off: tuple[Cut, ...],
    ) -> None:
        self.seen = 0
        self._reader = reader
        self._marks = marks
        self._dirs = dirs
        self._looker = Looker()
        self._writers: dict[int, Writer] = {}
        self._fd = fd
        self._cut_off = cut_off
        self._classes: dict[tuple[int, State, State], int] = {}
        self._found: dict[bytes, Counter[tuple[State, State]]] = {}
        self._samples: dict[tuple[bytes, State, State], list[bytes]] = {}
        self._mounts: dict[bytes, Mount] = {}
        self._left: dict[tuple[Reason, str], list[bytes]] = {}
        self._left_counts: Counter[tuple[Reason, str]] = Counter()
        self._already = 0

    def block(self, block: Block) -> None:
        """Looks at its entries, ``BATCH`` at a time."""
        entries = self._reader.entries(block)
        marks = self._marks.by_block.get(block.where, bytes(block.count))
        self.seen += block.count
        wanted = [i for i, m in enumerate(marks) if m not in _UNTOUCHED]
        for begin in range(0, len(wanted), BATCH):
            self._part(block, entries, marks, wanted[begin : begin + BATCH])

    def _part(self, block: Block, entries: Entries, marks: bytes, wanted: list[int]) -> None:
        names = [entries.names[i] for i in wanted]
        try:
            seen = self._look(block, names)
        except Elsewhere as e:
            for name in names:
                self._leave(block, name, Reason.GONE, str(e))
            return
        chosen: list[tuple[int, Sequence[int], bytes]] = []
        for i, found in zip(wanted, seen, strict=True):
            name = entries.names[i]
            if found is None:
                self._leave(block, name, Reason.GONE)
                continue
            row, state = found
            if row[3:6] != entries.words(i)[:3]:
                self._leave(block, name, Reason.GONE, "another file has its name")
                continue
            cls = self._reader.cls(block.segment, entries.cls(i))
            ours = partial(untouched, self._marks, self._cut_off, block, i, name, row)
            target = self._judge(block, cls, name, ours, state)
            if target is not None:
                chosen.append((self._class(block, name, state, target), row[3:], name))
        if chosen:
            writer = self._writer(block.segment)
            writer.block(block.dir, block.depth, block.dirs, entries_of(chosen))

    def _look(self, block: Block, names: Sequence[bytes]) -> list[tuple[Row, State] | None]:
        """Row and whole state of each name, ``None`` where there is none.  Raises ``Elsewhere``,
        and as ``open_root`` does.
        """
        fd = self._dirs.open(block.segment, block.dir)
        if block.dir == NO_DIR and block.dirs:
            return [look_at(fd)]
        names = self._dirs.names(block, names)
        self._looker.look(fd, names)
        os.fchdir(fd)
        seen: list[tuple[Row, State] | None] = []
        rows = self._looker.statx.rows(len(names))
        for i, (name, row, size) in enumerate(zip(names, rows, list_sizes(names), strict=True)):
            if i in self._looker.failed:
                seen.append(None)
                continue
            state = bare_state(row, unsteady=i in self._looker.fresh)
            if size:
                try:
                    state = with_xattrs(state, name)
                except OSError:
                    state = replace(state, unsteady=True)
            seen.append((row, state))
        return seen

    def _judge(
        self, block: Block, cls: Class, name: bytes, ours: Callable[[], bool], state: State
    ) -> State | None:
        """The state to go back to; ``None`` where there is nothing to do, or it is left.

        ``ours`` says whether nobody else changed the entry since.
        """
        if same(state, cls.before):
            self._already += 1
            return None
        there, back = cls.after, cls.before
        ways = ((back, there), (there, back), (there, without_set_id(back)))
        if not any(passed(state, *way) for way in ways):
            self._leave(block, name, Reason.CHANGED)
            return None
        if state.flags:
            self._leave(block, name, Reason.FLAGS)
            return None
        if state.linked or state.unsteady:
            self._leave(block, name, Reason.HARD_LINKS if state.linked else Reason.FRESH)
            return None
        target = cls.before
        if loses(target, state) and not ours():
            reason = Reason.SET_ID if target.has_set_id else Reason.FILE_CAPS
            self._leave(block, name, reason, "somebody may have written to it since")
            target = without_set_id(target)
            if same(state, target):
                return None
        return replace(
            state,
            uid=target.uid,
            gid=target.gid,
            mode=target.mode,
            acl=target.acl,
            default=target.default,
            caps=target.caps,
        )

    def _class(self, block: Block, name: bytes, state: State, target: State) -> int:
        key = (block.segment, state, target)
        number = self._classes.get(key)
        if number is None:
            number = self._classes[key] = len(self._classes)
            self._writer(block.segment).cls(number, state, target)
        root = self._dirs.root(block.segment)
        path = root.root.path
        self._mounts[path] = root.mount
        self._found.setdefault(path, Counter())[state, target] += 1
        samples = self._samples.setdefault((path, state, target), [])
        if len(samples) < SAMPLES:
            samples.append(self._dirs.path(block.segment, block.dir, name))
        return number

    def _leave(self, block: Block, name: bytes, reason: Reason, detail: str = "") -> None:
        self._left_counts[reason, detail] += 1
        samples = self._left.setdefault((reason, detail), [])
        if len(samples) < SAMPLES:
            samples.append(self._dirs.path(block.segment, block.dir, name))

    def _writer(self, segment: int) -> Writer:
        """Of the same segment as in the old plan; it begins with its root and its directories."""
        if segment not in self._writers:
            writer = self._writers[segment] = Writer(self._fd, segment)
            writer.root(self._dirs.root(segment).root)
            for entry in self._reader.dirs(segment):
                writer.dir(entry)
        return self._writers[segment]

    def result(self) -> tuple[tuple[TreePlan, ...], tuple[Left, ...], int]:
        for writer in self._writers.values():
            writer.flush()
        trees = []
        for path, counts in self._found.items():
            found = [
                Decided(a, b, n, tuple(self._samples[path, a, b])) for (a, b), n in counts.items()
            ]
            entries = Counters(entries=self.seen - 1)
            trees.append(tree_plan(path, self._mounts[path], found, entries))
        left = tuple(
            Left(reason=reason, detail=detail, count=n, samples=tuple(self._left[reason, detail]))
            for (reason, detail), n in self._left_counts.items()
        )
        return tuple(trees), left, self._already
