"""All journals of this host: a new one with its locks, one by its id, the interrupted ones."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.diagnosis.plan import Outcome
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.host.deadline import Giveup
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable
from permdoctor.repair.files import flock, load, must_be_ours, store, sync_dir, writing
from permdoctor.repair.journal import (
    About,
    Journal,
    Marks,
    PausedContainer,
    Ready,
    Record,
    Status,
    open_plan,
    read_marks,
)
from permdoctor.repair.options import Asked, CannotRepairError
from permdoctor.repair.planfile import Reader
from permdoctor.repair.root import Identity, answering, lineage

_SECOND = "%Y%m%d-%H%M%S"
"""With what a journal's id begins, in UTC."""

_LOOK_SECONDS = 5.0
_CUT_OFF_NS = 5_000_000_000
"""How far from the last mark that was written the death of its writer may be."""


class Busy(CannotRepairError):  # noqa: N818 - it is a state of the tree
    """Somebody repairs this tree, or one that overlaps it."""


class Store:
    """All journals of this host, below one directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def _at(self, *parts: str) -> str:
        return os.path.join(self.directory, *parts)

    def begin(self, about: About) -> Journal:
        """A new journal, with the locks of its roots.

        Raises :class:`Busy` naming the holder; ``CannotRepairError`` where nothing can be written
        or a root cannot be looked at.
        """
        held: list[int] = []
        own = os.fsencode(os.path.realpath(self.directory))
        for root in about.roots:
            if is_beneath(own, root):
                raise UsageError(
                    f"the journals themselves lie in {printable(root)} ({printable(own)})",
                    hint="repair what is needed below it, or set repair.state elsewhere",
                )
        try:
            with writing(self.directory):
                for each in ("", "locks", "active", "journal"):
                    os.makedirs(self._at(each), 0o700, exist_ok=True)
                must_be_ours(self.directory)
            held += self._lock(about.roots)
            with writing(self.directory):
                self._sweep()
                id_ = self._new_directory(about.started)
                directory = self._at("journal", id_)
                store(directory, "about", about)
                held.append(flock(os.path.join(directory, "about"), fcntl.LOCK_EX, wait=True))
                sync_dir(self._at("journal"))
        except BaseException:
            for fd in held:
                os.close(fd)
            raise
        return Journal(directory, id_, about, held, self._at("active", id_))

    def _new_directory(self, started: float) -> str:
        """Makes it; its name is the id."""
        second = time.strftime(_SECOND, time.gmtime(started))
        while True:
            id_ = f"{second}-{secrets.token_hex(2)}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._at("journal", id_), 0o700)
                return id_

    @staticmethod
    def scratch(about: About) -> Journal:
        """A plan that is only to be shown; needs no rights here."""
        return Journal.scratch(about)

    def _lock(self, roots: tuple[bytes, ...]) -> list[int]:
        """Exclusive on each root, shared on everything above: overlapping trees exclude each
        other, others do not.
        """
        exclusive: set[Identity] = set()
        shared: set[Identity] = set()
        with Giveup() as worker:
            for root in roots:
                with answering(root):
                    own, above = worker.call(lineage, root, seconds=_LOOK_SECONDS)
                exclusive.add(own)
                shared.update(above)
        held: list[int] = []
        try:
            for dev, ino in sorted(exclusive | shared):
                path = self._at("locks", f"{dev}-{ino}")
                kind = fcntl.LOCK_EX if (dev, ino) in exclusive else fcntl.LOCK_SH
                with writing(self.directory):
                    fd = flock(path, kind)
                if fd < 0:
                    raise self._busy(roots)
                held.append(fd)
        except BaseException:
            for fd in held:
                os.close(fd)
            raise
        return held

    def _busy(self, roots: tuple[bytes, ...]) -> Busy:
        who = "somebody"
        for record in self.records():
            overlap = any(
                is_beneath(a, b) or is_beneath(b, a) for a in roots for b in record.about.roots
            )
            if overlap and self._alive(record.id):
                who = f"{record.about.kind} {record.id}"
        shown = ", ".join(printable(r) for r in roots)
        return Busy(f"{shown} is being repaired by {who}", hint="try again when it has ended")

    def _alive(self, id_: str) -> bool:
        """Whether somebody holds this journal."""
        try:
            fd = flock(self._at("journal", id_, "about"), fcntl.LOCK_EX, create=False)
        except OSError:
            return False
        if fd >= 0:
            os.close(fd)
        return fd < 0

    def _sweep(self) -> None:
        """Plans of those who died before they changed anything."""
        for id_ in os.listdir(self._at("journal")):
            directory = self._at("journal", id_)
            begun = os.path.lexists(os.path.join(directory, "marks"))
            try:
                old = os.stat(directory).st_mtime < time.time() - 60
            except FileNotFoundError:
                continue  # somebody else was quicker, or was only planning
            if begun or os.path.lexists(self._at("active", id_)) or not old or self._alive(id_):
                continue
            shutil.rmtree(directory, ignore_errors=True)

    # --- looking back ---

    def records(self, since: float = 0.0) -> tuple[Record, ...]:
        """The newest last: all of them, or those since then (seconds since the epoch)."""
        first = time.strftime(_SECOND, time.gmtime(since)) if since > 0 else ""
        try:
            ids = sorted(i for i in os.listdir(self._at("journal")) if i >= first)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as e:
            raise CannotRepairError(
                f"cannot read the journals in {printable(self.directory)}: {e.strerror}"
            ) from e
        begun = [i for i in ids if os.path.lexists(self._at("journal", i, "about"))]
        found = sorted((self._record(i) for i in begun), key=lambda r: (r.about.started, r.id))
        undone = {r.about.of: r.id for r in found if r.about.of and r.status is Status.DONE}
        return tuple(replace(r, undone_by=undone.get(r.id, "")) for r in found)

    def _record(self, id_: str) -> Record:
        directory = self._at("journal", id_)
        try:
            about = load(directory, "about", About)
            if about is None:
                raise CannotRepairError("it has no beginning")
            ready = load(directory, "summary", Ready)
            outcome = load(directory, "outcome", Outcome)
            paused = load(directory, "paused", tuple[PausedContainer, ...])
        except PermdoctorError as e:
            nobody = About(kind="repair", host="", started=0.0, roots=())
            return Record(id=id_, about=nobody, status=Status.STOPPED, damaged=e.message)
        return Record(
            id=id_,
            about=about,
            status=self._status(id_, outcome),
            summary=None if ready is None else ready.summary,
            outcome=outcome,
            paused=paused or (),
        )

    def _status(self, id_: str, outcome: Outcome | None) -> Status:
        if outcome is not None:
            return Status.STOPPED if outcome.stopped else Status.DONE
        if not os.path.lexists(self._at("journal", id_, "marks")):
            return Status.PLANNED
        return Status.APPLYING if self._alive(id_) else Status.INTERRUPTED

    def find(self, name: str) -> Record:
        """By id, or its beginning or end where only one has it.  Raises ``UsageError``."""
        records = self.records()
        found = [r for r in records if r.id == name] or [
            r for r in records if name and (r.id.startswith(name) or r.id.endswith(name))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(r.id for r in found[-3:])
            raise UsageError(f"{printable(name)} fits {len(found)} repairs: {ids}")
        near = difflib.get_close_matches(name, [r.id for r in records], 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "`permdoctor history` lists them"
        raise UsageError(f"there is no repair {printable(name)}", hint=hint)

    def interrupted(self) -> tuple[Record, ...]:
        """Those whose holder died while something may have been half done, or paused."""
        try:
            ids = sorted(os.listdir(self._at("active")))
        except OSError:
            return ()
        return tuple(self._record(i) for i in ids if not self._alive(i))

    def mark_interrupted(self, id_: str) -> None:
        """It was told, and its containers run again."""
        with writing(self.directory), contextlib.suppress(FileNotFoundError):
            os.unlink(self._at("active", id_))

    def notice(self, id_: str) -> None:
        """Whoever was at it has died, and its containers are about to run again: from now on a
        change may be theirs.  Needs no room on the disk.
        """
        path = self._at("journal", id_, "noticed")
        with contextlib.suppress(OSError):
            if not os.stat(path).st_mtime_ns:
                os.utime(path)

    def undos(self, record: Record) -> tuple[Record, ...]:
        """What was begun to undo it, whatever came of it."""
        return tuple(r for r in self.records() if r.about.of == record.id and not r.damaged)

    def cut_off(self, record: Record) -> tuple[int, int] | None:
        """Between which times (ns since the epoch) it did what it has no mark for: it was cut off,
        or lost a worker.  Before the second one nobody who was paused went on.
        """
        directory = self._at("journal", record.id)
        try:
            last = os.stat(os.path.join(directory, "marks")).st_mtime_ns
            match record.status:
                case Status.INTERRUPTED:
                    noticed = os.stat(os.path.join(directory, "noticed")).st_mtime_ns
                    end = min(last + _CUT_OFF_NS, noticed or last + _CUT_OFF_NS)
                case Status.STOPPED:
                    end = os.stat(os.path.join(directory, "outcome")).st_mtime_ns
                case _:
                    return None
        except OSError:
            return None
        return last - _CUT_OFF_NS, end

    @contextlib.contextmanager
    def reading(self, record: Record) -> Iterator[tuple[Reader, Marks, Asked]]:
        """A journal's plan and marks.  Raises ``Damaged``."""
        directory = self._at("journal", record.id)
        ready = load(directory, "summary", Ready)
        if ready is None:
            raise CannotRepairError(f"repair {record.id} changed nothing: its plan has no end")
        with open_plan(directory, record.id) as reader:
            yield reader, read_marks(directory), ready.asked
