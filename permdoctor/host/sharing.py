"""One scan by two processes: the caller and a forked helper, joined by a socket.

Threads do not help (a statx is shorter than handing over the interpreter lock), and trees are
lopsided, so work is given away while it is being done: whoever has some gives when the other has
fewer than two parcels left, either the older half of its pending directories or the next names of
the directory that it is just listing.  So one directory of 500,000 files is shared as evenly as
1,000 of 1,000.

When the caller has nothing left it asks; the helper's "nothing left" ends the scan.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Iterator

from permdoctor.diagnosis.facts import Tree
from permdoctor.host import syscalls
from permdoctor.host.dirs import Mountpoints
from permdoctor.host.entries import (
    SAMPLES,
    Kind,
    Node,
    facts_of_fd,
    tree_of,
)
from permdoctor.host.peer import (
    HELPER_DIED,
    PARCEL_BYTES,
    Ask,
    Empty,
    Finish,
    Message,
    Page,
    Parcel,
    Peer,
    Result,
    Word,
)
from permdoctor.host.scan import (
    DEFAULT_BUDGET,
    UNLIMITED,
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
_GRACE = 1.0
HELPER_STUCK = "stopped: the second worker does not answer"


class Caller:
    """The scan as its caller runs it: alone, then with a helper once it is worth it."""

    def __init__(self, scanner: Scanner, workers: int, progress: Progress | None) -> None:
        self.scanner = scanner
        self.workers = workers
        self.progress = progress
        self.peer: Peer | None = None
        self.helper = 0
        self.looks = 0
        self._told, self._told_at = -1, 0.0
        scanner.tick = self._tick

    def run(self) -> None:
        """Everything that both find is in ``scanner`` afterwards."""
        self.scanner.run()
        if self.peer is None:
            return
        try:
            self._until_both_are_done(self.peer)
            self._merge(self._result(self.peer))
        finally:
            self._end(self.peer)

    def _tick(self, node: Node, names: Iterator[bytes]) -> None:
        self.looks += 1
        if self.peer is None and self.workers > 1 and self.scanner.counters.entries >= ALONE:
            self.peer = self._fork()
            self.scanner.tick = self._tick
        if self.peer is not None:
            self.peer.tick(node, names)
        self._tell()

    def _tell(self) -> None:
        """Progress, also without another entry; but only if one of the two got on."""
        now = time.monotonic()
        if self.progress is None or now - self._told_at < 0.1:
            return
        looks = self.looks + (0 if self.peer is None else self.peer.their_looks)
        if looks != self._told:
            self._told, self._told_at = looks, now
            self.progress(self.scanner.counters.entries if self.peer is None else self.peer.total)

    def _fork(self) -> Peer | None:
        """The helper, or ``None`` (and no other try) where there cannot be one."""
        self.workers = 1
        page = Page(self.scanner.lease.left)
        page.put(0, Word.OWN, 1)
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * PARCEL_BYTES)
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
            _help(self.scanner, theirs, page, parent)
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


def _help(ours: Scanner, sock: socket.socket, page: Page, parent: int) -> None:
    """The helper's whole life.  Does not return."""
    status = 1
    try:
        gc.disable()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _serve(ours.twin(), sock, page)
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
    scanner.finish()
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
    mountpoints: frozenset[bytes] = frozenset(),
) -> Tree:
    """Everything below the directory ``root_fd`` (O_PATH will do), itself not counted.

    ``mount`` is the mount that ``root_fd`` is on, for its ACL support and id map.
    ``acl_matters`` is asked once for each kind of entry (an Inode without its ACL) whether an ACL
    could change anything; it is never asked where an ACL is switched off.  ``progress`` is given
    the number of entries so far, at most ten times a second, and as long as the filesystem
    answers: within a few hundred entries or one directory, be it empty.  ``mountpoints`` are
    paths from the root that are counted as foreign mounts without being touched; other mounts
    are found by statx, which waits for the filesystem mounted there.

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
        mountpoints=Mountpoints(mountpoints),
    )
    root = Node.root_of(root_fd, facts_of_fd(root_fd))
    scanner = Scanner(job, root, Lease(UNLIMITED if budget.deep else budget.entries))
    scanner.stack.append(root)
    try:
        Caller(scanner, workers, progress).run()
        return tree_of(mount, scanner.classes, scanner.counters)
    finally:
        scanner.dirs.close()
