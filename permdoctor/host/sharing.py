"""One scan by two processes: the caller and a forked helper, joined by a socket.

Threads do not help (a statx is shorter than handing over the interpreter lock), and trees are
lopsided, so work is given away while it is being done: whoever has some gives when the other has
fewer than two parcels left, either the older half of its pending directories or the next names of
the directory that it is just listing.  So one directory of 500,000 files is shared as evenly as
1,000 of 1,000.

A shared page tells each side how the other one does.  Parcels are small and at most two are under
way in each direction, so that no send blocks.  A side reads its socket only when it has nothing
else to do; the caller, then, asks, and the helper's "nothing left" ends the scan.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from permdoctor.diagnosis.facts import Tree
from permdoctor.host import syscalls
from permdoctor.host.entries import (
    SAMPLES,
    Counters,
    Facts,
    Kind,
    Node,
    facts_of_fd,
    path_of,
    tree_of,
)
from permdoctor.host.scan import (
    DEFAULT_BUDGET,
    AclMatters,
    Budget,
    Job,
    Lease,
    Progress,
    Scanner,
    always,
)
from permdoctor.kernel.mount import Mount

ALONE = 4096
"""So many entries are read before a second process is worth its fork."""
_PARCEL_BYTES = 40_000
_PARCEL_NAMES = 1024
_GIVE_PATH = 2048
_LEASE = 4096
_UNDER_WAY = 2
_GRACE = 1.0
_LENGTH = struct.Struct("=I")
OTHER_STOPPED = "stopped with the other worker"
HELPER_DIED = "stopped: the second worker died"
HELPER_STUCK = "stopped: the second worker does not answer"


@dataclass(frozen=True, slots=True)
class Parcel:
    """Work for the other: directories (``names`` is ``None``), or names in the one directory."""

    dirs: tuple[tuple[bytes, Facts], ...]
    names: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """The caller has nothing left; ``number`` tells its questions apart."""

    number: int


@dataclass(frozen=True, slots=True)
class Empty:
    """The answer to ``Ask``: neither has the helper."""

    number: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The caller wants the result."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the helper found."""

    kinds: tuple[tuple[Facts, Facts, int, tuple[bytes, ...]], ...]
    counters: Counters


Message = Parcel | Ask | Empty | Finish | Result


class Word(IntEnum):
    """What each side writes for the other to read."""

    DONE = 0
    """Parcels worked off."""
    ENTRIES = 1
    """Entries read since there are two."""
    OWN = 2
    """1 while it works on what it did not get from the other."""
    STOPPED = 3


class Page:
    """The shared numbers: four of each side, written by that side only, and the entries left.

    A memory file, so that the last can be guarded by a lock that dies with its holder.
    """

    _LEFT = 8

    def __init__(self, entries_left: int) -> None:
        self._fd = os.memfd_create("permdoctor-scan", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, mmap.PAGESIZE)
        self._map = mmap.mmap(self._fd, mmap.PAGESIZE)
        self._words = memoryview(self._map).cast("Q")
        self._words[self._LEFT] = entries_left

    def get(self, side: int, word: Word) -> int:
        return self._words[4 * side + word]

    def put(self, side: int, word: Word, value: int) -> None:
        self._words[4 * side + word] = value

    def take(self, want: int) -> int:
        """Up to ``want`` entries of the budget; a negative number gives some back."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            got = min(want, self._words[self._LEFT])
            self._words[self._LEFT] -= got
            return got
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self._fd)


class SharedLease(Lease):
    """A part of the budget, taken from the page in pieces; what is left over is put back."""

    def __init__(self, page: Page) -> None:
        super().__init__(0)
        self._page = page

    def take(self, want: int) -> int:
        if self.left < want:
            self.left += self._page.take(max(_LEASE, want))
        return super().take(want)

    def put_back(self) -> None:
        self._page.take(-self.left)
        self.left = 0


class Peer:
    """One side (0 the caller, 1 the helper): its scanner, the socket, and the page."""

    def __init__(self, scanner: Scanner, sock: socket.socket, page: Page, side: int) -> None:
        self.scanner = scanner
        self.sock = sock
        self.page = page
        self.side, self.other = side, 1 - side
        self.sent = 0
        self.received = 0
        self.dead = False
        self._base = scanner.counters.entries
        self.lease = SharedLease(page)
        scanner.lease = self.lease
        scanner.tick = self.tick

    @property
    def total(self) -> int:
        """Entries read by both."""
        theirs = self.page.get(self.other, Word.ENTRIES)
        return self._base + self.page.get(self.side, Word.ENTRIES) + theirs

    @property
    def other_is_hungry(self) -> bool:
        page, other = self.page, self.other
        under_way = self.sent - page.get(other, Word.DONE)
        return under_way < _UNDER_WAY and not page.get(other, Word.OWN) and not self.dead

    def mark(self) -> None:
        """Say how far we are, and hear whether the other one stopped."""
        counters = self.scanner.counters
        self.page.put(self.side, Word.ENTRIES, counters.entries - self._base)
        if counters.stopped:
            self.page.put(self.side, Word.STOPPED, 1)
        elif self.page.get(self.other, Word.STOPPED):
            counters.stopped = OTHER_STOPPED

    # --- messages ---

    def send(self, message: Message) -> None:
        """A dead other side stops the scan: what it had been given is lost."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        try:
            self.sock.sendall(_LENGTH.pack(len(data)) + data)
        except OSError:
            self.died(HELPER_DIED)

    def died(self, why: str) -> None:
        self.dead = True
        self.scanner.counters.stopped = self.scanner.counters.stopped or why

    def receive(self) -> Message:
        """Raises ``EOFError`` if the other side has died."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        message: Message = pickle.loads(self._exactly(length))  # noqa: S301 - our own process's
        return message

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self.sock.recv(min(size - len(data), 1 << 20))
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    # --- giving ---

    def tick(self, node: Node, names: Iterator[bytes]) -> None:
        """Between two batches: give, if the other is hungry."""
        self.mark()
        if self.other_is_hungry and not self._give_names(node, names):
            self._give_dirs()

    def _give_names(self, node: Node, names: Iterator[bytes]) -> bool:
        """The next names of the directory being listed."""
        path = path_of(node)
        if len(path) > _GIVE_PATH:
            return False
        taken: list[bytes] = []
        size = 0
        while size < _PARCEL_BYTES and len(taken) < _PARCEL_NAMES:
            name = next(names, None)
            if name is None:
                break
            taken.append(name)
            size += len(name) + 8
        if taken:
            self._give(Parcel(((path, node.facts),), tuple(taken)))
        return bool(taken)

    def _give_dirs(self) -> None:
        """The older half of the stack, as far as it fits: those stand for the larger subtrees."""
        stack = self.scanner.stack
        dirs, size = [], 0
        kept: list[Node] = []
        for i, node in enumerate(stack):
            if 2 * i >= len(stack) - 1 or size > _PARCEL_BYTES:
                kept.extend(stack[i:])
                break
            path = path_of(node)
            if len(path) > _GIVE_PATH:
                kept.append(node)
                continue
            dirs.append((path, node.facts))
            size += len(path) + 100
            self.scanner.leave(node)
        if dirs:
            stack[:] = kept
            self._give(Parcel(tuple(dirs)))

    def _give(self, parcel: Parcel) -> None:
        self.sent += 1
        self.send(parcel)

    # --- working ---

    def work(self, parcel: Parcel) -> None:
        """Do a parcel, and whatever it leads to."""
        self.received += 1
        for path, facts in parcel.dirs:
            node = self.scanner.push(path, facts)
            if parcel.names is not None:
                self.scanner.stack.pop()
                self.scanner.read_given(node, iter(parcel.names))
        self.scanner.run()
        self.rest()

    def rest(self) -> None:
        """Nothing left here."""
        self.mark()
        self.lease.put_back()
        self.page.put(self.side, Word.OWN, 0)
        self.page.put(self.side, Word.DONE, self.received)


class Caller:
    """The scan as its caller runs it: alone, then with a helper once it is worth it."""

    def __init__(self, scanner: Scanner, workers: int, progress: Progress | None) -> None:
        self.scanner = scanner
        self.workers = workers
        self.progress = progress
        self.peer: Peer | None = None
        self.helper = 0
        self._told, self._told_at = -1, 0.0
        scanner.tick = self._tick

    def run(self) -> Tree:
        self.scanner.run()
        if self.peer is None:
            return tree_of(self.scanner.job.mount, self.scanner.classes, self.scanner.counters)
        try:
            self._until_both_are_done(self.peer)
            self._merge(self._result(self.peer))
        finally:
            self._end(self.peer)
        return tree_of(self.scanner.job.mount, self.scanner.classes, self.scanner.counters)

    def _tick(self, node: Node, names: Iterator[bytes]) -> None:
        if self.peer is None and self.workers > 1 and self.scanner.counters.entries >= ALONE:
            self.peer = self._fork()
            self.scanner.tick = self._tick
        if self.peer is not None:
            self.peer.tick(node, names)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if self.progress is None or now - self._told_at < 0.1:
            return
        total = self.scanner.counters.entries if self.peer is None else self.peer.total
        if total != self._told:
            self._told, self._told_at = total, now
            self.progress(total)

    def _fork(self) -> Peer | None:
        """The helper, or ``None`` (and no other try) where there cannot be one."""
        self.workers = 1
        page = Page(self.scanner.lease.left)
        page.put(0, Word.OWN, 1)
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * _PARCEL_BYTES)
        parent = os.getpid()
        try:
            self.helper = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            page.close()
            return None
        if not self.helper:
            ours.close()
            _help(self.scanner.job, self.scanner.root, theirs, page, parent)
        theirs.close()
        return Peer(self.scanner, ours, page, side=0)

    def _until_both_are_done(self, peer: Peer) -> None:
        peer.rest()
        number = 0
        while not self.scanner.counters.stopped:
            number += 1
            peer.send(Ask(number))
            message: Message | None = Empty(0)
            while isinstance(message, Empty) and message.number != number:
                message = self._await(peer)
            match message:
                case Parcel():
                    peer.work(message)
                case _:
                    return

    def _await(self, peer: Peer) -> Message | None:
        """The next message.  ``None``, and the scan is stopped, if there will be none."""
        limit = self.scanner.job.deadline + _GRACE
        while not select.select([peer.sock], [], [], 0.1)[0]:
            self._tell()
            if time.monotonic() > limit:
                peer.died(HELPER_STUCK)
                return None
        try:
            return peer.receive()
        except EOFError:
            peer.died(HELPER_DIED)
            return None

    def _result(self, peer: Peer) -> Result | None:
        peer.mark()
        peer.send(Finish())
        while not peer.dead:
            message = self._await(peer)
            if isinstance(message, Result):
                return message
        return None

    def _merge(self, result: Result | None) -> None:
        if result is None:
            return
        self.scanner.counters.add(result.counters)
        for parent, facts, count, samples in result.kinds:
            kind = self.scanner.classes.get((parent, facts))
            if kind is None:
                kind = self.scanner.classes[parent, facts] = Kind(parent, facts)
            kind.count += count
            kind.samples = [*kind.samples, *samples][:SAMPLES]

    def _end(self, peer: Peer) -> None:
        """Never waits for a helper that does not go: it may hang in the kernel."""
        if peer.dead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.helper, signal.SIGKILL)
        peer.sock.close()
        peer.page.close()
        for _ in range(200):
            if os.waitpid(self.helper, os.WNOHANG)[0]:
                return
            time.sleep(0.001)


def _help(job: Job, root: Node, sock: socket.socket, page: Page, parent: int) -> None:
    """The helper's whole life.  Does not return."""
    status = 1
    try:
        gc.disable()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _serve(Scanner(job, Node.root_of(job.root_fd, root.facts)), sock, page)
        status = 0
    except EOFError:
        pass
    finally:
        os._exit(status)


def _serve(scanner: Scanner, sock: socket.socket, page: Page) -> None:
    peer = Peer(scanner, sock, page, side=1)
    while True:
        match peer.receive():
            case Parcel() as parcel:
                if not scanner.counters.stopped:
                    peer.work(parcel)
            case Ask(number):
                peer.send(Empty(number))
            case Finish():
                break
    kinds = tuple((k.parent, k.facts, k.count, tuple(k.samples)) for k in scanner.classes.values())
    peer.send(Result(kinds, scanner.counters))


def scan_tree(
    root_fd: int,
    mount: Mount,
    budget: Budget = DEFAULT_BUDGET,
    *,
    acl_matters: AclMatters = always,
    workers: int = 2,
    progress: Progress | None = None,
) -> Tree:
    """Everything below the directory ``root_fd`` (O_PATH will do), itself not counted.

    ``mount`` is the mount that ``root_fd`` is on, for its ACL support and id map.
    ``acl_matters`` is asked once for each kind of entry (an Inode without its ACL) whether an ACL
    could change anything; it is never asked where an ACL is switched off.  ``progress`` is given
    the number of entries so far, at most ten times a second, and only when there are more.

    Small trees are read in this process; with two workers a larger one is shared with a forked
    child.  Raises ``OSError`` if the root itself cannot be looked at; below it, what cannot be
    read is counted.
    """
    job = Job(
        root_fd=root_fd,
        mount=mount,
        budget=budget,
        acl_matters=acl_matters,
        deadline=float("inf") if budget.deep else time.monotonic() + budget.seconds,
    )
    root = Node.root_of(root_fd, facts_of_fd(root_fd))
    scanner = Scanner(job, root, Lease(1 << 62 if budget.deep else budget.entries))
    scanner.stack.append(root)
    try:
        return Caller(scanner, workers, progress).run()
    finally:
        scanner.close()
