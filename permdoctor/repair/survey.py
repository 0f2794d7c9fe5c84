"""The plan of a repair: a walk over the tree that writes down what is to be changed, and how.

Nothing is changed here.  The walk is the scan's (``host/scan.py``, two processes); each entry is
looked at by name below a held directory with one statx, so that its links are counted at the
moment at which the name led to it.  Recipes are asked once for each kind of entry.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.diagnosis.plan import SAMPLES, Job, Reason, Summary, TreePlan
from permdoctor.diagnosis.recipes import Scope
from permdoctor.host import syscalls
from permdoctor.host.deadline import Giveup
from permdoctor.host.dirs import Mountpoints
from permdoctor.host.entries import Counters, Facts, Kind, Node, path_of, to_inode
from permdoctor.host.scan import Budget, Lease, Scanner, always
from permdoctor.host.scan import Job as ScanJob
from permdoctor.host.sharing import Caller
from permdoctor.host.syscalls import STATX_ATTR_MOUNT_ROOT
from permdoctor.repair.journal import Journal
from permdoctor.repair.look import (
    FRESH_NS,
    Looker,
    Row,
    bare_state,
    fresh_ones,
    look_at,
    with_xattrs,
)
from permdoctor.repair.options import Asked, Limits
from permdoctor.repair.planfile import ENTRY, NO_DIR, Dir, Writer
from permdoctor.repair.root import OpenRoot, open_root
from permdoctor.repair.rules import Decided, Rules, tree_plan
from permdoctor.repair.state import State
from permdoctor.repair.syscalls import list_sizes

MOST_KINDS = 1 << 15
ROOT_NAME = b"."
ROOT_CLASS = 0xFFFFFFFF
"""The class of the root itself, which no entry below it has."""


class Output(Struct, frozen=True):
    """Where the plan goes: a descriptor open for appending, and how long it may get."""

    fd: int
    most: int


class PlanKind(Kind):
    """Entries of one kind: ``number`` is their class in the plan, -1 where nothing changes;
    ``after`` is what they will be.
    """

    __slots__ = ("after", "number")

    def __init__(self, parent: Facts, facts: State) -> None:
        super().__init__(parent, facts)
        self.number = -1
        self.after: State = facts


class Sort(Struct):
    """What one statx result means in a directory of one kind.

    ``kind`` is that of entries without extended attributes, ``xattrs`` whether these matter.
    """

    state: State
    kind: PlanKind
    xattrs: bool


class Surveyor(Scanner):
    """One worker's share of the walk, and of the plan."""

    def __init__(
        self,
        job: ScanJob,
        root: Node,
        lease: Lease | None,
        rules: Rules,
        writer: Writer,
        output: Output,
    ) -> None:
        super().__init__(job, root, lease)
        self.rules = rules
        self.writer = writer
        self.looker = Looker()
        self._output = output
        self._sorts: dict[Facts, dict[tuple[int, int, bytes], Sort]] = {}
        self._depths: list[int] = []
        self._blocks: dict[bool, tuple[list[bytes], list[bytes]]] = {}

    def twin(self) -> Surveyor:
        root = Node.root_of(self.job.root_fd, self.root.facts)
        writer = Writer(self._output.fd, self.writer.segment + 1)
        return Surveyor(self.job, root, None, self.rules, writer, self._output)

    def finish(self) -> None:
        self.writer.flush()

    # --- entries ---

    def _stat_all(self, node: Node, fd: int, names: list[bytes]) -> None:
        if node.number < 0:
            self._number(node, fd)
        rows = self.looker.rows(fd, names)
        fresh = set(fresh_ones(rows))
        sorts = self._sorts.setdefault(node.facts, {})
        if len(sorts) > MOST_KINDS:
            sorts.clear()
        keys = [None if r is None else r[:3] for r in rows]
        for key in set(keys):
            if key is not None and key not in sorts:
                self._new_sort(node, key, sorts)
        sizes: Iterable[int] = [0] * len(names)
        if any(k is not None and sorts[k].xattrs for k in keys):
            os.fchdir(fd)
            sizes = list_sizes(names)
        self._blocks = {False: ([], []), True: ([], [])}
        for i, (name, row, key, size) in enumerate(zip(names, rows, keys, sizes, strict=True)):
            if row is None or key is None:
                self._missing(fd, name)
                continue
            if row[0] & STATX_ATTR_MOUNT_ROOT:
                self.counters.foreign_mounts += 1
                continue
            sort = sorts[key]
            kind = sort.kind
            if i in fresh or (size and sort.xattrs):
                kind = self._special(node, sort, name, i in fresh)
            self._take(kind, node, name, row)
        self._emit(node)

    def _take(self, kind: PlanKind, node: Node, name: bytes, row: Row) -> None:
        self.counters.entries += 1
        kind.count += 1
        if len(kind.samples) < SAMPLES:
            kind.samples.append(path_of(node, name))
        if kind.number >= 0:
            packed, names = self._blocks[kind.is_dir]
            packed.append(ENTRY.pack(kind.number, *row[3:]))
            names.append(name)
        if kind.is_dir:
            node.pending += 1
            self.stack.append(Node(node, name, kind.after))

    def _missing(self, fd: int, name: bytes) -> None:
        try:
            syscalls.statx(fd, name)
        except OSError as e:
            self._failed(e)
        else:
            self.counters.vanished += 1

    def _emit(self, node: Node) -> None:
        for dirs, (packed, names) in self._blocks.items():
            if packed:
                depth = self._depths[node.number]
                self.writer.block(node.number, depth, dirs, packed, b"\0".join(names))
        if os.fstat(self._output.fd).st_size > self._output.most:
            self.counters.stopped = f"stopped at a plan of {self._output.most:,} bytes"

    # --- kinds ---

    def _new_sort(
        self, node: Node, key: tuple[int, int, bytes], sorts: dict[tuple[int, int, bytes], Sort]
    ) -> None:
        state = bare_state((*key, 0, 0, 0, 0, 0))
        kind = self._kind_of(node.facts, state)
        plain = stat.S_ISREG(state.mode) or state.is_dir
        sorts[key] = Sort(state, kind, plain and (kind.number >= 0 or self.rules.need_xattrs))

    def _special(self, node: Node, sort: Sort, name: bytes, fresh: bool) -> PlanKind:
        """The kind of an entry with extended attributes, or of one that is just being changed."""
        state = sort.state
        try:
            state = with_xattrs(state, name) if sort.xattrs else state
        except OSError:
            fresh = True
        if fresh:
            state = replace(state, unsteady=True)
        return self._kind_of(node.facts, state)

    def _kind_of(self, parent: Facts, state: State) -> PlanKind:
        kind = self.classes.get((parent, state))
        if kind is None:
            kind = self.classes[parent, state] = PlanKind(parent, state)
            after = self.rules.decide(to_inode(parent, self.job.mount), state)
            if isinstance(after, State):
                kind.number, kind.after = len(self.classes) - 1, after
                self.writer.cls(kind.number, state, after)
            if len(self.classes) > MOST_KINDS:
                self.counters.stopped = f"stopped at {MOST_KINDS:,} kinds of entries"
        assert isinstance(kind, PlanKind)
        return kind

    # --- directories ---

    def _number(self, node: Node, fd: int) -> None:
        """The directory's record, after that of its parent."""
        st = syscalls.statx(fd)
        node.number = len(self._depths)
        parent = node if node.parent is None else node.parent
        if parent.number < 0:
            self._number(parent, parent.fd)
            node.number = len(self._depths)
        name = b"" if node is parent else node.name
        parts = name.count(b"/") + 1 if name and name != b"." else 0
        depth = 0 if node is parent else self._depths[parent.number] + parts
        self._depths.append(depth)
        self.writer.dir(Dir(node.number, parent.number, depth, name, st.ino, st.btime))


def survey(
    journal: Journal,
    jobs: tuple[Job, ...],
    limits: Limits,
    asked: Asked,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write the plan of these jobs into the journal; ``progress`` is told the entries looked at.

    A plan that a limit cut short has ``stopped`` set and is never applied.  Raises ``UsageError``
    for a place where nothing is repaired, ``CannotRepairError`` where something cannot be.
    """
    journal.begin_plan()
    trees: list[TreePlan] = []
    stopped = ""
    with Giveup() as worker:
        for n, job in enumerate(jobs):
            if stopped:
                break
            before = sum(t.entries for t in trees)
            told = (lambda n, before=before: progress(before + n)) if progress else _untold
            tree, stopped = worker.call(
                survey_tree,
                journal.plan,
                2 * n,
                job,
                replace(limits, entries=limits.entries - before),
                asked,
                seconds=limits.deadline,
                progress=told,
            )
            trees.append(tree)
    summary = Summary(trees=tuple(trees), stopped=stopped)
    journal.end_plan(summary, asked)
    return summary


def _untold(_: int) -> None:
    """Nobody wants to know; the sign of life is wanted all the same."""


def survey_tree(
    plan: str,
    segment: int,
    job: Job,
    limits: Limits,
    asked: Asked,
    progress: Callable[[int], None] | None = None,
) -> tuple[TreePlan, str]:
    """Append one job's part to the plan; for a worker.  With it, why it is not complete.

    Takes the segments ``segment`` and the one after it.  Raises ``UsageError`` and
    ``CannotRepairError`` as ``open_root`` does.
    """
    root = open_root(job.path, expected=(job.dev, job.ino), asked=asked)
    plan_fd = os.open(plan, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        writer = Writer(plan_fd, segment)
        for each in (writer, Writer(plan_fd, segment + 1)):
            each.root(root.root)
            each.flush()
        own, after = _own_state(root, job, asked, writer)
        counters, found = Counters(), own
        if root.is_dir:
            surveyor = _surveyor(root, after, job, limits, asked, writer, plan_fd)
            try:
                Caller(surveyor, limits.workers, progress).run()
            finally:
                surveyor.dirs.close()
            counters, found = surveyor.counters, [*own, *_summed(surveyor)]
        writer.flush()
        return tree_plan(job.path, root.mount, found, counters), counters.stopped
    finally:
        os.close(plan_fd)
        os.close(root.fd)


def _own_state(
    root: OpenRoot, job: Job, asked: Asked, writer: Writer
) -> tuple[list[Decided], State]:
    """The root itself: what is done with it, and its state afterwards."""
    row, state = look_at(root.fd)
    if fresh_ones([row]):
        time.sleep(2 * FRESH_NS / 1e9)
        row, state = look_at(root.fd)
        state = replace(state, unsteady=bool(fresh_ones([row])))
    recipes = tuple(r for r in job.recipes if r.scope is not Scope.BELOW)
    after = Rules(recipes=recipes, asked=asked, mount=root.mount).decide(None, state)
    if after is None:
        return [], state
    found = [Decided(state, after, 1, (ROOT_NAME,))]
    if isinstance(after, Reason):
        return found, state
    writer.cls(ROOT_CLASS, state, after)
    writer.block(NO_DIR, -1, root.is_dir, [ENTRY.pack(ROOT_CLASS, *row[3:])], ROOT_NAME)
    return found, after


def _surveyor(
    root: OpenRoot, own: State, job: Job, limits: Limits, asked: Asked, writer: Writer, fd: int
) -> Surveyor:
    budget = Budget(entries=limits.entries, seconds=limits.seconds)
    scan_job = ScanJob(
        root_fd=root.fd,
        mount=root.mount,
        budget=budget,
        acl_matters=always,
        deadline=time.monotonic() + limits.seconds,
        mountpoints=Mountpoints(root.mountpoints),
    )
    rules = Rules(
        recipes=tuple(r for r in job.recipes if r.scope is not Scope.ROOT),
        asked=asked,
        mount=root.mount,
    )
    node = Node.root_of(root.fd, own)
    surveyor = Surveyor(
        scan_job, node, Lease(limits.entries), rules, writer, Output(fd, limits.plan_bytes)
    )
    surveyor.stack.append(node)
    return surveyor


def _summed(surveyor: Surveyor) -> list[Decided]:
    """What both workers found, decided once more: it is the same answer."""
    mount, found = surveyor.job.mount, []
    for (parent, facts), kind in surveyor.classes.items():
        assert isinstance(facts, State)
        after = surveyor.rules.decide(to_inode(parent, mount), facts)
        if after is not None and kind.count:
            found.append(Decided(facts, after, kind.count, tuple(kind.samples)))
    return found
