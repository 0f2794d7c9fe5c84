"""What a repair leaves behind, and finds again after a crash: one directory a repair.

    STATE/locks/DEV-INO         flock: exclusive on a root, shared on every directory above it
    STATE/active/ID             there while something may be half done or paused
    STATE/journal/ID/about      what, where, by whom; its holder keeps it locked
                    /plan       every entry to be changed, before and after (planfile.py)
                    /summary    the plan is complete and on the disk
                    /paused     the containers that are to be resumed
                    /marks      what became of each block; preallocated
                    /noticed    its time says when it was seen that its holder had died; 0: not yet
                    /outcome    the end

Small files are written aside and renamed, and directories are synced, so each is there as a whole
or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.diagnosis.plan import Outcome, Summary
from permdoctor.kernel.text import printable
from permdoctor.repair.files import flock, reserve, store, sync_dir, writing
from permdoctor.repair.options import Asked, CannotRepairError
from permdoctor.repair.planfile import MAGIC, Reader, Writer

_MARK = struct.Struct("<IIII")
"""Block + 1 (so that a preallocated zero is none), counts of marks and stamps, CRC-32 of both."""
_STAMP = struct.Struct("<IQQ")
MARK_BYTES, STAMP_BYTES = _MARK.size, _STAMP.size
_OUTCOME_BYTES = 1 << 14

Stamp = tuple[int, int, int]
"""An entry's number in its block, and the ctime (s, ns) that its change gave it."""


class Marks(Struct, frozen=True):
    """What a journal's marks say: a byte an entry by block, and stamps by block and entry."""

    by_block: dict[int, bytes]
    stamps: dict[tuple[int, int], tuple[int, int]]


class PausedContainer(Struct, frozen=True, kw_only=True):
    """``engine`` is an endpoint as ``--host`` takes it."""

    engine: str
    id: str
    name: str


class Unasked(Struct, frozen=True, kw_only=True):
    """What the service repaired by itself: which problem (a code, at a container's path as it is
    shown) of a container of which engine.
    """

    engine: str
    code: str
    target: str


class About(Struct, frozen=True, kw_only=True):
    """``started`` is in seconds since the epoch; ``of`` is the id that an undo undoes.  ``unasked``
    is of a repair that nobody asked for (``None``: somebody did).
    """

    kind: Literal["repair", "undo"]
    host: str
    started: float
    roots: tuple[bytes, ...]
    command: str = ""
    container: str = ""
    remedies: tuple[str, ...] = ()
    of: str = ""
    unasked: Unasked | None = None


class Status(StrEnum):
    """PLANNED: nothing was changed.  APPLYING: somebody is at it.  INTERRUPTED: whoever was at it
    has died.  STOPPED: it ended before its end.
    """

    PLANNED = "planned"
    APPLYING = "applying"
    INTERRUPTED = "interrupted"
    DONE = "done"
    STOPPED = "stopped"


class Record(Struct, frozen=True, kw_only=True):
    """A journal as ``history`` shows it.  ``damaged`` says why it cannot be read."""

    id: str
    about: About
    status: Status
    summary: Summary | None = None
    outcome: Outcome | None = None
    paused: tuple[PausedContainer, ...] = ()
    undone_by: str = ""
    damaged: str = ""


class Ready(Struct, frozen=True, kw_only=True):
    """What is stored beside a plan that is complete."""

    summary: Summary
    asked: Asked


class Journal:
    """One repair.  A context manager: leaving it lets the locks go, and removes it if nothing was
    changed.
    """

    def __init__(
        self, directory: str, id_: str, about: About, held: list[int], active: str
    ) -> None:
        self.directory = directory
        self.id = id_
        self.about = about
        self.asked = Asked()
        self.at: bytes | None = None
        self.ready = False
        self._held = held
        self._active = active
        self._started = False
        self._marks = -1
        self._marks_at = 0

    @classmethod
    def scratch(cls, about: About) -> Self:
        """A plan that is only to be shown: in a directory that goes away."""
        try:
            return cls(tempfile.mkdtemp(prefix="permdoctor-"), "", about, [], "")
        except OSError as e:
            raise CannotRepairError(f"no place for a plan: {e.strerror}") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._marks >= 0:
            os.close(self._marks)
            self._marks = -1
        if self._active:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._active)
        if not self._started:
            shutil.rmtree(self.directory, ignore_errors=True)
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    # --- the plan ---

    @property
    def plan(self) -> str:
        return os.path.join(self.directory, "plan")

    def begin_plan(self) -> None:
        """An empty plan file."""
        with writing(self.directory):
            fd = os.open(self.plan, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, MAGIC)
            finally:
                os.close(fd)

    def end_plan(self, summary: Summary, asked: Asked) -> None:
        """The plan is complete: everything of it is on the disk when this returns."""
        self.asked = asked
        with writing(self.directory):
            fd = os.open(self.plan, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                Writer(fd, 0).end()
                os.fsync(fd)
            finally:
                os.close(fd)
            if not summary.stopped:
                store(self.directory, "summary", Ready(summary=summary, asked=asked))
                self.ready = True

    def adopt(self, fd: int, begin: int, end: int, summary: Summary, asked: Asked) -> None:
        """A complete plan that lies in another file, from byte ``begin`` to ``end``."""
        self.asked = asked
        with writing(self.directory):
            out = os.open(self.plan, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                while begin < end and (data := os.pread(fd, min(1 << 20, end - begin), begin)):
                    begin += len(data)
                    while data:
                        data = data[os.write(out, data) :]
                os.fsync(out)
            finally:
                os.close(out)
            store(self.directory, "summary", Ready(summary=summary, asked=asked))
        self.ready = True

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """Raises ``Damaged``."""
        with open_plan(self.directory, self.id) as reader:
            yield reader

    # --- doing it ---

    def hold(self, containers: Sequence[tuple[str, str]]) -> None:
        """No other repair pauses or resumes these (id, name) until this one has ended.

        Raises ``CannotRepairError`` if one does.
        """
        locks = os.path.join(os.path.dirname(os.path.dirname(self.directory)), "locks")
        for id_, name in sorted(containers):
            with writing(self.directory):
                fd = flock(os.path.join(locks, f"container-{id_}"), fcntl.LOCK_EX)
            if fd < 0:
                raise CannotRepairError(
                    f"container {printable(name)} stands still for another repair",
                    hint="try again when that has ended",
                )
            self._held.append(fd)

    def pausing(self, containers: tuple[PausedContainer, ...]) -> None:
        """Written down before the first of them is paused."""
        with writing(self.directory):
            store(self.directory, "paused", containers)
            self._activate()

    def start(self, marks: int) -> None:
        """Room for so many bytes of marks; from here on something may be changed."""
        with writing(self.directory):
            path = os.path.join(self.directory, "marks")
            self._marks = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if marks:
                os.posix_fallocate(self._marks, 0, marks)
            os.fsync(self._marks)
            reserve(self.directory, "outcome", _OUTCOME_BYTES)
            noticed = os.path.join(self.directory, "noticed")
            os.close(os.open(noticed, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.utime(noticed, (0, 0))
            self._activate()

    def _activate(self) -> None:
        self._started = True
        if self._active:
            os.close(os.open(self._active, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_dir(os.path.dirname(self._active))
        sync_dir(self.directory)

    def mark(self, block: int, marks: bytes, stamps: Sequence[Stamp] = ()) -> None:
        """What became of a block.  Its room was made before; a failure loses only this mark."""
        data = marks + b"".join(_STAMP.pack(*s) for s in stamps)
        head = _MARK.pack(block + 1, len(marks), len(stamps), zlib.crc32(data, block))
        with contextlib.suppress(OSError):
            self._marks_at += os.pwrite(self._marks, head + data, self._marks_at)

    def finish(self, outcome: Outcome) -> None:
        """The end, on the disk.  On a full one there is room for it without its samples."""
        with contextlib.suppress(OSError):
            os.fdatasync(self._marks)
        bare = replace(outcome, left=tuple(replace(x, samples=()) for x in outcome.left))
        for each in (outcome, bare):
            with contextlib.suppress(OSError):
                store(self.directory, "outcome", each)
                return


@contextlib.contextmanager
def open_plan(directory: str, id_: str) -> Iterator[Reader]:
    path = os.path.join(directory, "plan")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise CannotRepairError(f"cannot read the plan of {id_ or path}: {e.strerror}") from e
    try:
        yield Reader(fd, f"the plan of {id_}" if id_ else "the plan")
    finally:
        os.close(fd)


def read_marks(directory: str) -> Marks:
    """Up to the first that is not whole."""
    try:
        with open(os.path.join(directory, "marks"), "rb") as f:
            data = f.read()
    except FileNotFoundError:
        data = b""
    found = Marks({}, {})
    at = 0
    while at + _MARK.size <= len(data):
        block, count, stamps, crc = _MARK.unpack_from(data, at)
        begin = at + _MARK.size
        at = begin + count + stamps * _STAMP.size
        if not block or len(data) < at or zlib.crc32(data[begin:at], block - 1) != crc:
            break
        found.by_block[block - 1] = data[begin : begin + count]
        for i, seconds, ns in _STAMP.iter_unpack(data[begin + count : at]):
            found.stamps[block - 1, i] = seconds, ns
    return found
