"""One block of a plan carried out: open again, compare, change by descriptor, look again.

The entries of a block are held open together; what was seen is compared with the plan before
anything is changed, and again by name afterwards: an entry whose name, links or directory changed
in between is put back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct, field

from permdoctor.diagnosis.plan import SAMPLES, Reason
from permdoctor.host import acl as acl_xattr
from permdoctor.repair import syscalls
from permdoctor.repair.journal import Stamp
from permdoctor.repair.look import FRESH_NS, is_fresh, state_of_fd
from permdoctor.repair.planfile import NO_DIR, Block, Class, Reader
from permdoctor.repair.reach import Elsewhere, PlannedDirs
from permdoctor.repair.state import CAPS, Act, State, Step, loses, same, steps, without_set_id
from permdoctor.repair.syscalls import OWNER, Row, Statx

FATAL = (errno.EROFS, errno.EIO)
FEW = (errno.ENOSPC, errno.EDQUOT, errno.ESTALE)
_WAITS = 25
"""So often one worker waits for what is being changed."""
_FEW = 3
"""So many of these stop the run."""
_LEASES = 32
"""Files that are held from being written to at once."""
_OPENING = 0.02
"""Seconds, much longer than an open(2) takes from the check of the mode to the lease."""


class Mark(IntEnum):
    """What became of an entry; one byte each in the journal.  0 is never written."""

    APPLIED = 1
    ALREADY = 2
    CHANGED = 3
    GONE = 4
    RACED = 5
    FAILED = 6
    HARD_LINKS = 7
    FRESH = 8
    NOT_REACHED = 9


REASONS = {
    Mark.CHANGED: Reason.CHANGED,
    Mark.GONE: Reason.GONE,
    Mark.RACED: Reason.RACED,
    Mark.FAILED: Reason.FAILED,
    Mark.HARD_LINKS: Reason.HARD_LINKS,
    Mark.FRESH: Reason.FRESH,
    Mark.NOT_REACHED: Reason.NOT_REACHED,
}


class LeftHere(Struct, array_like=True):
    """Entries of a block that were left, for one reason."""

    mark: int
    detail: str
    count: int
    samples: list[bytes]


class Done(Struct, array_like=True):
    """What became of a block: a mark for each entry.  ``stop`` says why nothing more is tried."""

    where: int
    marks: bytes
    left: list[LeftHere]
    stop: str = ""
    stamps: list[Stamp] = field(default_factory=list)


class Changer:
    """Carries out blocks; one in each worker."""

    def __init__(self, reader: Reader, dirs: PlannedDirs) -> None:
        self._reader = reader
        self._dirs = dirs
        self._statx = Statx(syscalls.BATCH)
        self._few = 0
        self._waits = _WAITS
        self._at_once = syscalls.most_open()

    def block(self, block: Block) -> Done:
        """Never raises for what happens to entries; ``PermdoctorError`` for a root that is not
        there any more.
        """
        work = _Work(self._reader, block)
        done = b""
        while work.begin < block.count and not work.stop:
            work.take(self._at_once)
            self._part(work)
            done += bytes(work.marks)
            work.begin += len(work.names)
        rest = block.count - len(done)
        if rest:
            work.leave_rest(rest)
        marks = done + bytes([Mark.NOT_REACHED]) * rest
        return Done(block.where, marks, work.left, work.stop, work.stamps)

    def _part(self, work: _Work) -> None:
        block, names = work.block, work.names
        try:
            fd = self._dirs.open(block.segment, block.dir)
        except Elsewhere as e:
            for i in range(len(names)):
                self._leave(work, i, Mark.GONE, str(e))
            return
        work.dirfd = fd
        work.names = names = tuple(self._dirs.names(block, names))
        fds = [os.dup(fd)] if work.is_root_dir else syscalls.open_names(fd, names)
        try:
            self._compare(work, fds)
            self._change(work, fds)
        finally:
            syscalls.close_all([f for f in fds if f >= 0])

    # --- before ---

    def _compare(self, work: _Work, fds: list[int]) -> None:
        """Marks what is not as planned; what is stays without a mark."""
        count, dirs = len(fds), work.block.dirs
        if min(fds) >= 0:
            failed = self._statx.fds(fds)
            same_words = self._statx.columns(count) == work.entries.columns
            if not failed and same_words and (dirs or self._statx.all_single(count)):
                return
        for i, fd in enumerate(fds):
            if fd < 0 or self._statx.fds([fd]):
                self._leave(work, i, Mark.GONE, self._why_not_open(work, i))
                continue
            row, planned = self._statx.row(0), work.entries.words(i)
            if row[3:6] != planned[:3]:
                self._leave(work, i, Mark.CHANGED, "another file has its name")
            elif row[6:] != planned[3:]:
                self._look_again(work, i, fd)
            elif row[1] != 1 and not dirs:
                self._leave(work, i, Mark.HARD_LINKS)

    def _why_not_open(self, work: _Work, i: int) -> str:
        try:
            os.close(syscalls.open_name(work.dirfd, work.names[i]))
        except OSError as e:
            return "" if e.errno == errno.ENOENT else f"openat2: {errno.errorcode[e.errno or 0]}"
        return ""

    def _look_again(self, work: _Work, i: int, fd: int) -> None:
        """Its change time moved: is owner, mode, ACL or capability another one?

        Again by name, so that it is seen that the name still leads to it; and not waiting for
        each of very many that somebody keeps fresh.
        """
        try:
            while True:
                now = time.time_ns()
                if self._named(work, [i], [fd]):
                    self._leave(work, i, Mark.GONE)
                    return
                row = self._statx.row(0)
                state = state_of_fd(fd, row)
                fresh = is_fresh(row, now)
                if not fresh or not self._waits:
                    break
                self._waits -= 1
                time.sleep(FRESH_NS / 1e9)
        except OSError as e:
            self._leave(work, i, Mark.FAILED, f"getxattr: {_code(e)}")
            return
        cls = work.cls(i)
        if row[3:6] != work.entries.words(i)[:3]:
            self._leave(work, i, Mark.CHANGED, "another file has its name")
        elif state.linked:
            self._leave(work, i, Mark.HARD_LINKS)
        elif same(state, cls.after):
            work.marks[i] = Mark.ALREADY
        elif not same(state, cls.before):
            self._leave(work, i, Mark.CHANGED)
        elif fresh:
            self._leave(work, i, Mark.FRESH)

    def _named(self, work: _Work, group: list[int], fds: list[int]) -> list[int]:
        """statx by name; of a root that is a directory, by descriptor.  Those that failed."""
        if work.is_root_dir:
            return self._statx.fds([fds[0]])
        return self._statx.names(work.dirfd, [work.names[i] for i in group])

    # --- the change ---

    def _change(self, work: _Work, fds: list[int]) -> None:
        groups: dict[int, list[int]] = {}
        if work.block.alike and not any(work.marks):
            groups[work.entries.cls(0)] = list(range(len(fds)))
        else:
            for i, mark in enumerate(work.marks):
                if not mark:
                    groups.setdefault(work.entries.cls(i), []).append(i)
        if not groups or not self._dirs.still_there(work.block.segment, work.block.dir):
            for i in (i for group in groups.values() for i in group):
                self._leave(work, i, Mark.GONE, "its directory was moved")
            return
        for group in groups.values():
            cls = work.cls(group[0])
            if loses(cls.after, cls.before):
                self._give_set_id(work, cls, group, fds)
                continue
            for n, step in enumerate(steps(cls.before, cls.after)):
                still = [i for i in group if not work.marks[i]]
                self._step(work, cls, step, still, fds, begun=n > 0)
        self._verify(work, [i for g in groups.values() for i in g if not work.marks[i]], fds)

    def _give_set_id(self, work: _Work, cls: Class, group: list[int], fds: list[int]) -> None:
        """An undo: to what nobody has open for writing, and is as it was when it was planned.

        Owner and mode first, the bits a moment later: an open(2) that was allowed before has come
        to the lease by then, and is seen to wait for it.
        """
        plain = without_set_id(cls.after)
        for begin in range(0, len(group), _LEASES):
            with contextlib.ExitStack() as leases:
                held: dict[int, int] = {}
                for i in group[begin : begin + _LEASES]:
                    with self._giving(work, i, cls, fds[i]):
                        held[i] = leases.enter_context(nobody_writes(fds[i]))
                        if self._statx.fds([fds[i]]) or (
                            self._statx.row(0)[3:] != work.entries.words(i)
                        ):
                            self._leave(work, i, Mark.CHANGED)
                            continue
                        for step in steps(cls.before, plain):
                            do(step, fds[i])
                time.sleep(_OPENING)
                for i in (i for i in held if not work.marks[i]):
                    with self._giving(work, i, cls, fds[i]):
                        must_hold(held[i])
                        for step in steps(plain, cls.after):
                            do(step, fds[i])
                        must_hold(held[i])

    @contextlib.contextmanager
    def _giving(self, work: _Work, i: int, cls: Class, fd: int) -> Iterator[None]:
        """What fails is put back, without the bits, while the lease is still held."""
        try:
            yield
        except OSError as e:
            busy = e.errno in (errno.EAGAIN, errno.EBUSY)
            detail = "somebody has it open for writing" if busy else f"set-id: {_code(e)}"
            self._put_back(fd, cls.before)
            self._leave(work, i, Mark.FAILED, detail)

    def _step(
        self, work: _Work, cls: Class, step: Step, group: list[int], fds: list[int], *, begun: bool
    ) -> None:
        """One step on all of them; ``begun``: it is not their first."""
        if work.stop:
            for i in group:
                self._unreached(work, i, cls, fds[i], begun=begun)
            return
        retry = group
        if step.act is Act.CHOWN:
            held = [fds[i] for i in group]
            failed = syscalls.chown_all(held, step.state.uid, step.state.gid)
            retry = [i for i, f in zip(group, failed, strict=True) if f] if any(failed) else []
        for n, i in enumerate(retry):
            try:
                do(step, fds[i])
            except OSError as e:
                if self._failed(work, i, cls, step, fds[i], e):
                    for rest in retry[n + 1 :]:
                        self._unreached(work, rest, cls, fds[rest], begun=begun)
                    return

    def _unreached(self, work: _Work, i: int, cls: Class, fd: int, *, begun: bool) -> None:
        """The run ends before this one was done.  What was begun is put back."""
        if not begun:
            self._leave(work, i, Mark.NOT_REACHED)
            return
        back = "put back" if self._put_back(fd, cls.before) else "could not be put back"
        self._leave(work, i, Mark.FAILED, f"the run ended in the middle of it; {back}")

    def _failed(self, work: _Work, i: int, cls: Class, step: Step, fd: int, e: OSError) -> bool:
        """Puts the entry back.  Whether the whole run is to end."""
        detail = f"{CALLS[step.act]}: {_code(e)}"
        if not self._put_back(fd, cls.before):
            detail += ", and could not be put back"
        self._leave(work, i, Mark.FAILED, detail)
        if e.errno in FATAL:
            work.stop = f"{CALLS[step.act]}: {os.strerror(e.errno or 0)}"
        elif e.errno in FEW:
            self._few += 1
            if self._few >= _FEW:
                work.stop = f"{CALLS[step.act]}: {os.strerror(e.errno)}, {self._few} times"
        return bool(work.stop)

    def _put_back(self, fd: int, before: State) -> bool:
        """The state as it was before, whatever of the steps was done; but nothing is made set-id
        that somebody else may have written to meanwhile.
        """
        before = without_set_id(before)
        try:
            for _ in range(2):
                self._statx.fds([fd])
                state = state_of_fd(fd, self._statx.row(0))
                for step in steps(state, before):
                    do(step, fd)
            return same(state, before)
        except OSError:
            return False

    # --- after ---

    def _verify(self, work: _Work, group: list[int], fds: list[int]) -> None:
        """By name: so that also the names, and the directory's place, are seen to be the same."""
        if not self._dirs.still_there(work.block.segment, work.block.dir):
            for i in group:
                self._raced(work, i, fds[i], "its directory was moved")
            return
        count = len(group)
        failed = set(self._named(work, group, fds))
        if not failed and count == len(fds) and self._all_changed(work, count):
            work.marks[:] = bytes([Mark.APPLIED]) * count
            return
        for n, (i, row) in enumerate(zip(group, self._statx.rows(count), strict=True)):
            cls = work.cls(i)
            if n in failed:
                self._raced(work, i, fds[i], "removed or renamed")
            elif row[3:6] != work.entries.words(i)[:3] or (row[1] != 1 and not work.block.dirs):
                self._raced(work, i, fds[i], "renamed or linked")
            elif row[2] != OWNER.pack(cls.after.uid, cls.after.gid, cls.after.mode):
                self._leave(work, i, Mark.RACED, "somebody else changed it, too")
            elif cls.xattrs and not self._has(fds[i], row, cls.after):
                self._leave(work, i, Mark.RACED, "somebody else changed its ACL, too")
            else:
                work.marks[i] = Mark.APPLIED
                if loses(cls.before, cls.after):
                    work.stamps.append((work.begin + i, row[6], row[7]))

    def _all_changed(self, work: _Work, count: int) -> bool:
        """The same questions for all at once, where they are of one class without ACLs."""
        cls = work.cls(0)
        if (
            cls.xattrs
            or loses(cls.before, cls.after)
            or not work.block.alike
            or work.block.dirs
            or not self._statx.alike(count)
        ):
            return False
        row = self._statx.row(0)
        return (
            row[1] == 1
            and row[2] == OWNER.pack(cls.after.uid, cls.after.gid, cls.after.mode)
            and self._statx.columns(count)[:3] == work.entries.columns[:3]
        )

    def _has(self, fd: int, row: Row, after: State) -> bool:
        try:
            return same(state_of_fd(fd, row), after)
        except OSError:
            return False

    def _raced(self, work: _Work, i: int, fd: int, why: str) -> None:
        back = self._put_back(fd, work.cls(i).before)
        self._leave(work, i, Mark.RACED, f"{why}; {'put back' if back else 'not put back'}")

    def _leave(self, work: _Work, i: int, mark: Mark, detail: str = "") -> None:
        work.marks[i] = mark
        samples = work.note(mark, detail)
        if len(samples) < SAMPLES:
            samples.append(self._dirs.sample(work.block.segment, work.block.dir, work.names[i]))


class _Work:
    """A block while it is worked on: the part of it that is held open now begins at ``begin``."""

    def __init__(self, reader: Reader, block: Block) -> None:
        self._reader = reader
        self._all = reader.entries(block)
        self.block = block
        self.begin = 0
        self.entries = self._all
        self.names = self._all.names
        self.marks = bytearray()
        self.dirfd = -1
        self.left: list[LeftHere] = []
        self.stamps: list[Stamp] = []
        self.stop = ""

    def take(self, count: int) -> None:
        """The next part."""
        self.entries = self._all.part(self.begin, self.begin + count)
        self.names = self.entries.names
        self.marks = bytearray(len(self.names))

    @property
    def is_root_dir(self) -> bool:
        return self.block.dir == NO_DIR and self.block.dirs

    def cls(self, i: int) -> Class:
        return self._reader.cls(self.block.segment, self.entries.cls(i))

    def note(self, mark: Mark, detail: str) -> list[bytes]:
        """Counts it; the samples so far."""
        found = next((x for x in self.left if (x.mark, x.detail) == (mark, detail)), None)
        if found is None:
            found = LeftHere(mark, detail, 0, [])
            self.left.append(found)
        found.count += 1
        return found.samples

    def leave_rest(self, count: int) -> None:
        self.left.append(LeftHere(Mark.NOT_REACHED, "", count, []))


CALLS = {
    Act.CHOWN: "fchownat",
    Act.CHMOD: "fchmodat2",
    Act.ACL: "setxattr of the ACL",
    Act.DEFAULT: "setxattr of the default ACL",
    Act.CAPS: "setxattr of the capabilities",
}


@contextlib.contextmanager
def nobody_writes(fd: int) -> Iterator[int]:
    """A lease on a regular file: nobody has it open, or mapped, for writing, and who wants to has
    to wait (fcntl(2), F_SETLEASE).  Its descriptor is for :func:`must_hold`.  Raises ``OSError``:
    EAGAIN if somebody has.
    """
    held = os.open(
        b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    )
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        yield held
    finally:
        os.close(held)


def must_hold(lease: int) -> None:
    """Raises ``OSError``, EAGAIN, if somebody waits for it to end: who may write has been decided
    before (``do_dentry_open``), and will write whatever the file's owner and mode are then.
    """
    if fcntl.fcntl(lease, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def do(step: Step, fd: int) -> None:
    """One step on one inode.  Raises ``OSError``."""
    state = step.state
    match step.act:
        case Act.CHOWN:
            syscalls.chown(fd, state.uid, state.gid)
        case Act.CHMOD:
            syscalls.chmod(fd, stat.S_IMODE(state.mode))
        case Act.ACL:
            syscalls.set_xattr(fd, acl_xattr.ACCESS, state.acl)
        case Act.DEFAULT:
            syscalls.set_xattr(fd, acl_xattr.DEFAULT, state.default)
        case Act.CAPS:
            syscalls.set_xattr(fd, CAPS, state.caps)


def _code(e: OSError) -> str:
    return errno.errorcode.get(e.errno or 0, str(e.errno))
