"""The plan of a repair: a walk over the tree that writes down what is to be changed, and how.

Nothing is changed here.  The walk is the scan's (``host/scan.py``, two processes); each entry is
looked at by name below a held directory with one statx, so that its links are counted at the
moment at which the name led to it.  Recipes are asked once for each kind of entry.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence

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
from permdoctor.kernel.text import printable
from permdoctor.repair.journal import Journal
from permdoctor.repair.look import (
    Looker,
    bare_state,
    look_at,
    with_xattrs,
)
from permdoctor.repair.options import Asked, CannotRepairError, Limits
from permdoctor.repair.planfile import NO_DIR, Dir, Entries, Writer, entries_of
from permdoctor.repair.root import OpenRoot, answering, open_root
from permdoctor.repair.rules import Decided, Rules, tree_plan
from permdoctor.repair.state import State
from permdoctor.repair.syscalls import Row, list_sizes

MOST_KINDS = 1 << 15
MOST_ACL_BYTES = 1 << 22
"""Of all kinds together; entries with further ACLs are left."""
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

    ``kind`` is that of entries without extended attributes, ``xattrs`` whether these matter,
    ``foreign`` whether it is another mount's root.
    """

    state: State
    kind: PlanKind
    xattrs: bool
    foreign: bool


Key = tuple[int, int, bytes]
Sorts = dict[Key, Sort]


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
        self._sorts: dict[Facts, Sorts] = {}
        self._depths: list[int] = []
        self._acl_bytes = 0

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
        self.looker.look(fd, names)
        sorts = self._sorts.setdefault(node.facts, {})
        if len(sorts) > MOST_KINDS:
            sorts.clear()
        if not self._take_all(node, fd, names, sorts):
            self._take_each(node, fd, names, sorts)
        if os.fstat(self._output.fd).st_size > self._output.most:
            self.counters.stopped = f"stopped at a plan of {self._output.most:,} bytes"

    def _take_all(self, node: Node, fd: int, names: list[bytes], sorts: Sorts) -> bool:
        """All entries of the batch at once, if they are of one kind that is known already and
        need nothing but to be counted and written down.
        """
        statx, count = self.looker.statx, len(names)
        if self.looker.failed or self.looker.fresh or not statx.alike(count):
            return False
        sort = sorts.get(statx.row(0)[:3])
        if sort is None or sort.foreign or not sort.kind.simple:
            return False
        if sort.xattrs:
            os.fchdir(fd)
            if any(list_sizes(names)):
                return False
        self.counters.entries += count
        sort.kind.count += count
        if sort.kind.number >= 0:
            entries = Entries((sort.kind.number,), statx.columns(count), tuple(names))
            self.writer.block(node.number, self._depths[node.number], False, entries)
        return True

    def _take_each(self, node: Node, fd: int, names: list[bytes], sorts: Sorts) -> None:
        rows = self.looker.statx.rows(len(names))
        os.fchdir(fd)
        planned: dict[bool, list[tuple[int, Sequence[int], bytes]]] = {False: [], True: []}
        for i, (name, row) in enumerate(zip(names, rows, strict=True)):
            if i in self.looker.failed:
                self._missing(fd, name)
                continue
            sort = sorts.get(row[:3]) or self._new_sort(node, row[:3], sorts)
            if sort.foreign:
                self.counters.foreign_mounts += 1
                continue
            kind = self._exactly(node, sort, name, i in self.looker.fresh)
            self._take(kind, node, name)
            if kind.number >= 0:
                planned[kind.is_dir].append((kind.number, row[3:], name))
        for dirs, found in planned.items():
            if found:
                depth = self._depths[node.number]
                self.writer.block(node.number, depth, dirs, entries_of(found))

    def _take(self, kind: PlanKind, node: Node, name: bytes) -> None:
        self.counters.entries += 1
        kind.count += 1
        if len(kind.samples) < SAMPLES:
            kind.samples.append(path_of(node, name))
            kind.simple = len(kind.samples) == SAMPLES and not kind.is_dir
        if kind.is_dir and not kind.after.for_fsck:
            node.pending += 1
            self.stack.append(Node(node, name, kind.after))

    def _missing(self, fd: int, name: bytes) -> None:
        try:
            syscalls.statx(fd, name)
        except OSError as e:
            self._failed(e)
        else:
            self.counters.vanished += 1

    # --- kinds ---

    def _new_sort(self, node: Node, key: Key, sorts: Sorts) -> Sort:
        state = bare_state((*key, 0, 0, 0, 0, 0))
        kind = self._kind_of(node.facts, state)
        plain = stat.S_ISREG(state.mode) or state.is_dir
        sorts[key] = Sort(
            state=state,
            kind=kind,
            xattrs=plain and (kind.number >= 0 or self.rules.need_xattrs),
            foreign=bool(key[0] & STATX_ATTR_MOUNT_ROOT),
        )
        return sorts[key]

    def _exactly(self, node: Node, sort: Sort, name: bytes, fresh: bool) -> PlanKind:
        """The kind of an entry, with its extended attributes if it has any that matter."""
        state = sort.state
        if sort.xattrs and list_sizes([name])[0]:
            try:
                state = with_xattrs(state, name)
            except OSError:
                fresh = True
        if name == b"lost+found" and not state.uid and node.name in (b"", b"."):
            state = replace(state, for_fsck=True)
        known = (node.facts, state) in self.classes
        if not known and self._acl_bytes + _acl_bytes(state) > MOST_ACL_BYTES:
            state = replace(sort.state, oversized=True)
        if fresh:
            state = replace(state, unsteady=True)
        return sort.kind if state is sort.state else self._kind_of(node.facts, state)

    def _kind_of(self, parent: Facts, state: State) -> PlanKind:
        kind = self.classes.get((parent, state))
        if kind is None:
            kind = self.classes[parent, state] = PlanKind(parent, state)
            after = self.rules.decide(to_inode(parent, self.job.mount), state)
            if isinstance(after, State):
                kind.number, kind.after = len(self.classes) - 1, after
                self.writer.cls(kind.number, state, after)
            self._acl_bytes += _acl_bytes(state)
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


def _acl_bytes(state: State) -> int:
    return len(state.acl or b"") + len(state.default or b"")


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
    until = time.monotonic() + limits.seconds
    with Giveup() as worker:
        for n, job in enumerate(jobs):
            before = sum(t.entries for t in trees)
            if n and before >= limits.entries:
                stopped = f"stopped at {limits.entries:,} entries"
            if stopped:
                break
            told = (lambda n, before=before: progress(before + n)) if progress else _untold
            with answering(job.path):
                tree, stopped = worker.call(
                    survey_tree,
                    journal.plan,
                    2 * n,
                    job,
                    limits,
                    asked,
                    (before, until),
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
    spent: tuple[int, float],
    progress: Callable[[int], None] | None = None,
) -> tuple[TreePlan, str]:
    """Append one job's part to the plan; for a worker.  With it, why it is not complete.

    ``spent`` are the entries looked at for other jobs, and when (monotonic) the time is over.
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
            surveyor = _surveyor(root, after, job, limits, asked, spent, writer, plan_fd)
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
    row, state = _look_at_root(root)
    recipes = tuple(r for r in job.recipes if r.scope is not Scope.BELOW)
    after = Rules(recipes=recipes, asked=asked, mount=root.mount).decide(None, state)
    if after is None:
        return [], state
    found = [Decided(state, after, 1, (ROOT_NAME,))]
    if isinstance(after, Reason):
        return found, state
    writer.cls(ROOT_CLASS, state, after)
    writer.block(NO_DIR, -1, root.is_dir, entries_of([(ROOT_CLASS, row[3:], ROOT_NAME)]))
    return found, after


def _look_at_root(root: OpenRoot) -> tuple[Row, State]:
    """A file is looked at by its name, as those below a directory."""
    if root.is_dir:
        return look_at(root.fd)
    looker = Looker()
    looker.look(root.fd, [root.name])
    row = looker.statx.row(0)
    if looker.failed or row[3] != root.root.ino:
        raise CannotRepairError(
            f"{printable(root.root.path)} was just replaced", hint="try again when it is quiet"
        )
    os.fchdir(root.fd)
    return row, with_xattrs(bare_state(row, unsteady=bool(looker.fresh)), root.name)


def _surveyor(
    root: OpenRoot,
    own: State,
    job: Job,
    limits: Limits,
    asked: Asked,
    spent: tuple[int, float],
    writer: Writer,
    fd: int,
) -> Surveyor:
    before, until = spent
    budget = Budget(entries=limits.entries, seconds=limits.seconds)
    scan_job = ScanJob(
        root_fd=root.fd,
        mount=root.mount,
        budget=budget,
        acl_matters=always,
        deadline=until,
        mountpoints=Mountpoints(root.mountpoints),
    )
    rules = Rules(
        recipes=tuple(r for r in job.recipes if r.scope is not Scope.ROOT),
        asked=asked,
        mount=root.mount,
    )
    node = Node.root_of(root.fd, own)
    lease = Lease(limits.entries - before)
    surveyor = Surveyor(scan_job, node, lease, rules, writer, Output(fd, limits.plan_bytes))
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
