"""One of two processes at a scan: what it tells the other, and what it gives away.

A shared page tells each side how the other one does.  Parcels are small and at most two are under
way in each direction, so that no send blocks.  A side reads its socket only when it has nothing
else to do.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import socket
import struct
from collections.abc import Iterator
from enum import IntEnum
from itertools import islice

from msgspec import Struct

from permdoctor.host.entries import OTHER_STOPPED, Counters, Facts, Node, path_of
from permdoctor.host.scan import Lease, Scanner

PARCEL_BYTES = 40_000
_PARCEL_NAMES = 1024
_PARCEL_DIRS = 512
_GIVE_PATH = 2048
_UNDER_WAY = 2
_LENGTH = struct.Struct("=I")
HELPER_DIED = "stopped: the second worker died"


class Parcel(Struct, frozen=True):
    """Work for the other: directories (``names`` is ``None``), or names in the one directory."""

    dirs: tuple[tuple[bytes, Facts], ...]
    names: tuple[bytes, ...] | None = None


class Ask(Struct, frozen=True):
    """The caller has nothing left; ``number`` tells its questions apart."""

    number: int


class Empty(Struct, frozen=True):
    """The answer to ``Ask``: neither has the helper."""

    number: int


class Finish(Struct, frozen=True):
    """The caller wants the result."""


class Result(Struct, frozen=True):
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
    LOOKS = 4
    """How often it came to look here: it grows as long as its filesystem answers."""


class Page:
    """The shared numbers: those of each side, written by that side only, and the entries left.

    A memory file, so that the last can be guarded by a lock that dies with its holder.
    """

    _LEFT = 2 * len(Word)

    def __init__(self, entries_left: int) -> None:
        self._fd = os.memfd_create("permdoctor-scan", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, mmap.PAGESIZE)
        self._map = mmap.mmap(self._fd, mmap.PAGESIZE)
        self._words = memoryview(self._map).cast("Q")
        self._words[self._LEFT] = entries_left

    def get(self, side: int, word: Word) -> int:
        return self._words[len(Word) * side + word]

    def put(self, side: int, word: Word, value: int) -> None:
        self._words[len(Word) * side + word] = value

    def take(self, want: int) -> int:
        """Up to ``want`` entries of the budget."""
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
    """The budget of both, on the page.  Taken batch by batch, so nobody holds any in stock."""

    def __init__(self, page: Page) -> None:
        super().__init__(0)
        self._page = page

    def take(self, want: int) -> int:
        return self._page.take(want)


class Peer:
    """One side (0 the caller, 1 the helper): its scanner, the socket, and the page."""

    def __init__(self, scanner: Scanner, sock: socket.socket, page: Page, side: int) -> None:
        self.scanner = scanner
        self.sock = sock
        self.page = page
        self.side, self.other = side, 1 - side
        self.sent = 0
        self.received = 0
        self.looks = 0
        self.dead = False
        self._base = scanner.counters.entries
        if not scanner.job.budget.deep:
            scanner.lease = SharedLease(page)
        scanner.tick = self.tick

    @property
    def total(self) -> int:
        """Entries read by both."""
        theirs = self.page.get(self.other, Word.ENTRIES)
        return self._base + self.page.get(self.side, Word.ENTRIES) + theirs

    @property
    def their_looks(self) -> int:
        return self.page.get(self.other, Word.LOOKS)

    @property
    def other_is_hungry(self) -> bool:
        page, other = self.page, self.other
        under_way = self.sent - page.get(other, Word.DONE)
        return under_way < _UNDER_WAY and not page.get(other, Word.OWN) and not self.dead

    def mark(self) -> None:
        """Say how far we are, and hear whether the other one stopped."""
        counters = self.scanner.counters
        self.looks += 1
        self.page.put(self.side, Word.LOOKS, self.looks)
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
        if node.length > _GIVE_PATH:
            return False
        taken: list[bytes] = []
        size = 0
        while size < PARCEL_BYTES and len(taken) < _PARCEL_NAMES:
            name = next(names, None)
            if name is None:
                break
            taken.append(name)
            size += len(name) + 8
        if taken:
            self._give(Parcel(((path_of(node), node.facts),), tuple(taken)))
        return bool(taken)

    def _give_dirs(self) -> None:
        """Of the stack's older half, which stands for the larger subtrees, what fits."""
        stack = self.scanner.stack
        given: list[Node] = []
        kept: list[Node] = []
        size = 0
        for node in islice(stack, min(len(stack) // 2, _PARCEL_DIRS)):
            if node.length > _GIVE_PATH or size > PARCEL_BYTES:
                kept.append(node)
                continue
            given.append(node)
            size += node.length + 100
        if given:
            stack[: len(given) + len(kept)] = kept
            self._give(Parcel(tuple((path_of(n), n.facts) for n in given)))
            for node in given:
                self.scanner.dirs.leave(node)

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
        self.page.put(self.side, Word.OWN, 0)
        self.page.put(self.side, Word.DONE, self.received)
