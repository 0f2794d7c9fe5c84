"""The power goes in the middle of a repair: its disk is mounted elsewhere and undone there.

Tree and journal lie on one filesystem, or on two, on disks that keep only what was flushed and
any part of the rest (``disk``).  The cut comes in the middle of, or a little after, the fsync of
an unrelated file: that commits the tree's changes so far, but not what the journal's files hold,
so a journal that is not synced before the changes it describes is lost while they are not.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from permdoctor.errors import PermdoctorError
from permdoctor.repair.journal import Status
from permdoctor.repair.store import Store
from tests.lab.filesystems import mounted_fs, unmount
from tests.lab.needs import MissingError, need_root, need_tools
from tests.repair.crash import disk, snapshot, supervise, trees, work
from tests.repair.crash.rounds import MEMORY, FailedError, check
from tests.repair.crash.supervise import Answer, Call, Lie, Run

KINDS = ("ext4", "xfs")
ENTRIES = 150
_MIB = 1 << 20
_MKFS = {
    "ext4": (64, ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard")),
    "xfs": (320, ("mkfs.xfs", "-q", "-f", "-K")),
}
_COPY = {"ext4": "loop", "xfs": "loop,nouuid"}


@dataclass
class Cuts:
    """What the cuts met."""

    cuts: int = 0
    lost_writes: int = 0
    """Cuts with writes that were not flushed."""
    statuses: Counter[str] = field(default_factory=Counter)
    changed: list[int] = field(default_factory=list)
    """Entries that were changed on the disk, at each cut."""
    failures: list[str] = field(default_factory=list)


@dataclass
class _Cut:
    call: str
    images: list[str]
    until: int
    done: bool = False


class Machine:
    """A tree on one disk, a journal there or on another."""

    def __init__(self, kind: str, base: str, disks: list[disk.Disk], mounts: list[str]) -> None:
        self.kind, self.base, self.disks, self.mounts = kind, base, disks, mounts
        self.root = os.path.join(mounts[0], "tree")
        self.store = os.path.join(mounts[-1], "state")
        self._made = 0
        trees.make(self.root, ENTRIES, 3)
        self.before = snapshot.take(self.root)
        os.sync()
        with Run(lambda: work.repair(self.store, self.root), supervise.EVERYTHING) as run:
            ended = run.end()
        self.calls = ended.calls
        done = ended.get()
        supervise.run(lambda: work.undo(self.store, done.id))

    def run(self, rng: random.Random, cuts: int, tally: Cuts, *, unsynced: bool = False) -> None:
        """One repair with so many power cuts, each then mounted and undone.

        ``unsynced``: the repair's own syncs are only said to be done, to see that this is noticed.
        """
        os.sync()
        known = {r.id for r in Store(self.store).records()}
        moments = set(rng.sample(range(0, self.calls, 12), cuts))
        done: list[_Cut] = []
        with Run(lambda: work.repair(self.store, self.root), supervise.EVERYTHING) as run:

            def at(call: Call) -> Answer:
                if done and call.number >= done[-1].until:
                    self._cut(done[-1], tally)
                if call.number in moments:
                    done.append(self._arm(call, rng))
                    self._commit()
                return Lie() if unsynced and call.name in supervise.SYNC else None

            repaired = run.end(at).get()
        if done:
            self._cut(done[-1], tally)
        supervise.run(lambda: work.undo(self.store, repaired.id))
        check(not snapshot.diff(self.before, snapshot.take(self.root)), "the undo here differs")
        for cut in done:
            try:
                self._recover(cut, known, tally)
            except (FailedError, TimeoutError, PermdoctorError) as e:
                tally.failures.append(f"{self.kind}, power cut {cut.call}: {e}")
            finally:
                for image in cut.images:
                    os.unlink(image)

    def _commit(self) -> None:
        for mount in self.mounts:
            fd = os.open(os.path.join(mount, "unrelated"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.write(fd, b"x")
            os.fsync(fd)
            os.close(fd)

    def _arm(self, call: Call, rng: random.Random) -> _Cut:
        """From now on, within a few writes or a few calls."""
        images = []
        for d in self.disks:
            self._made += 1
            images.append(os.path.join(self.base, f"cut{self._made}"))
            d.arm(images[-1], rng.getrandbits(32), rng.choice((0, 0, 1, 1, 2, 3, 5, 1000)))
        after = f"from call {call.number} ({call.name}) on"
        return _Cut(after, images, call.number + rng.randrange(12))

    def _cut(self, cut: _Cut, tally: Cuts) -> None:
        if not cut.done:
            tally.lost_writes += max(d.cut() for d in self.disks) > 0
        cut.done = True

    def _recover(self, cut: _Cut, known: set[str], tally: Cuts) -> None:
        with contextlib.ExitStack() as stack:
            copies = []
            for n, image in enumerate(cut.images):
                copies.append(os.path.join(self.base, f"copy{n}"))
                mount_image(self.kind, image, copies[-1], _COPY[self.kind])
                stack.callback(unmount, copies[-1])
            root, store = os.path.join(copies[0], "tree"), os.path.join(copies[-1], "state")
            tally.cuts += 1
            changed = snapshot.differing(self.before, snapshot.take(root))
            tally.changed.append(len(changed))
            record = next((r for r in Store(store).records() if r.id not in known), None)
            tally.statuses[record.status if record else "no journal"] += 1
            if record is None or record.damaged or record.status is Status.PLANNED:
                check(not changed, f"{len(changed)} entries are changed, and no journal says so")
                return
            found = {r.id for r in Store(store).interrupted()}
            check(record.id in found or not changed, f"not found as interrupted: {record.status}")
            id_ = record.id
            done = supervise.run(lambda: work.undo(store, id_, at=root.encode()))
            diff = snapshot.diff(self.before, snapshot.take(root))
            check(not diff, f"after the undo:\n{diff}\nit said: {work.everything(done)}")


@contextlib.contextmanager
def machine(kind: str, *, disks: int = 1) -> Iterator[Machine]:
    """With one disk, or with a second one for the journal.  Raises ``MissingError``."""
    need_root()
    size, mkfs = _MKFS[kind]
    need_tools(mkfs[0])
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(mounted_fs("tmpfs", MEMORY))
        mounts, served = [], []
        for n in range(disks):
            for name in ("fuse", "mnt", "copy"):
                os.mkdir(os.path.join(base, f"{name}{n}"))
            image = os.path.join(base, f"img{n}")
            with open(image, "wb") as f:
                f.truncate(size * _MIB)
            subprocess.run([*mkfs, image], check=True, capture_output=True)
            served.append(stack.enter_context(disk.disk(image, os.path.join(base, f"fuse{n}"))))
            mounts.append(os.path.join(base, f"mnt{n}"))
            mount_image(kind, served[-1].path, mounts[-1], "loop")
            stack.callback(unmount, mounts[-1])
        yield Machine(kind, base, served, mounts)


def mount_image(kind: str, image: str, path: str, options: str) -> None:
    argv = ["mount", "-t", kind, "-o", options, image, path]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise MissingError(done.stderr.strip())
