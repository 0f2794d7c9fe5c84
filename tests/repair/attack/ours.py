"""The repair itself, as ``fix`` and ``undo`` call it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from typing import Literal

from msgspec.structs import replace

from permdoctor.diagnosis.plan import Job, Outcome
from permdoctor.diagnosis.recipes import Recipe, Scope, ToOwner
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.acl import Tag, from_mode
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import Inode
from permdoctor.repair.executor import apply
from permdoctor.repair.journal import About, Journal
from permdoctor.repair.options import Asked, Limits
from permdoctor.repair.store import Store
from permdoctor.repair.survey import survey
from permdoctor.repair.undo import survey_undo

LIMITS = Limits(deadline=20.0)


class Dressed(Recipe, frozen=True, kw_only=True):
    """Owner, mode and ACL, the same for every file and for every directory."""

    uid: int
    mode: int
    user: int | None

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        mode = self.mode | (0o111 if inode.is_dir else 0)
        acl = None
        if self.user is not None:
            acl = from_mode(mode).with_entry(Tag.USER, self.user, 7)
            mode = acl.mode
        wanted = replace(inode, uid=Kuid(self.uid), gid=Kgid(self.uid), mode=mode, acl=acl)
        return None if wanted == inode else wanted


DRESSES = ((0o644, None), (0o640, None), (0o640, 1234), (0o600, 1234))


class Ours:
    """A journal for each repair, in a store that is thrown away with it."""

    name = "ours"
    can_undo = True

    def __init__(
        self, target: str, scratch: str, notes: dict[str, int], *, known: bool = True
    ) -> None:
        """``known``: the job says which inode it means, as those for a container do."""
        self._scratch = scratch
        self._notes = notes
        status = os.lstat(target)
        self._identity = (status.st_dev, status.st_ino) if known else (0, 0)
        self._number = itertools.count()
        self._directory = ""
        self._journal: Journal | None = None

    def survey(self, tree: str, want: int) -> None:
        number = next(self._number)
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = os.path.join(self._scratch, str(number))
        self._store = Store(self._directory)
        self._roots = (os.fsencode(tree),)
        self._id = ""
        self._journal = None
        dev, ino = self._identity
        job = Job(path=self._roots[0], recipes=(self._recipe(number, want),), dev=dev, ino=ino)
        with self._refusals(), contextlib.ExitStack() as stack:
            journal = stack.enter_context(self._store.begin(self._about("repair")))
            summary = survey(journal, (job,), LIMITS, Asked())
            assert not summary.stopped, summary.stopped
            for tree_plan in summary.trees:
                self._note("planned", tree_plan.count)
                for left in tree_plan.left:
                    self._note(f"survey {left.reason}", left.count)
            if summary.count:
                stack.pop_all()
                self._journal = journal

    def apply(self) -> int:
        if self._journal is None:
            return 0
        with self._journal as journal:
            self._id = journal.id
            return self._carry_out(journal)

    def undo(self) -> int:
        if not self._id:
            return 0
        of = self._store.find(self._id)
        with self._refusals(), self._store.begin(self._about("undo", of.id)) as journal:
            summary, before = survey_undo(journal, of, self._store, LIMITS)
            self._count("undo", before)
            if summary.count:
                return self._carry_out(journal)
        return 0

    def _recipe(self, number: int, want: int) -> Recipe:
        if number % 2:
            return ToOwner(name="attacked", scope=Scope.ALL, uid=want, gid=want)
        mode, user = DRESSES[number // 2 % len(DRESSES)]
        return Dressed(name="attacked", scope=Scope.ALL, uid=want, mode=mode, user=user)

    def _about(self, kind: Literal["repair", "undo"], of: str = "") -> About:
        return About(kind=kind, host="attacked", started=time.time(), roots=self._roots, of=of)

    def _carry_out(self, journal: Journal) -> int:
        outcome = apply(journal, LIMITS)
        self._count("apply", outcome)
        return outcome.applied

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """An attacker may well bring a repair to a stop: with one of our errors."""
        try:
            yield
        except PermdoctorError as e:
            self._note(f"refused: {e.message.replace(os.fsdecode(self._roots[0]), 'ROOT')}", 1)

    def _count(self, what: str, outcome: Outcome) -> None:
        for left in outcome.left:
            self._note(f"{what} {left.reason}", left.count)
        if outcome.stopped:
            self._note(f"{what} stopped: {outcome.stopped[:60]}", 1)

    def _note(self, what: str, count: int) -> None:
        self._notes[what] = self._notes.get(what, 0) + count
