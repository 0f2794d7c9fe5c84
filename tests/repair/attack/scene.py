"""Where it happens: a tree to repair, a yard beside it that the attacker may write, canaries.

::

    BASE/                a mountpoint of its own
    BASE/run1/tree       what is repaired
    BASE/run1/yard       outside: where the attacker keeps what it moves out
    BASE/outside         what must never change; the attacker leads the repair here

Owners say what happened: everything foreign belongs to FOREIGN, what a repair gives away belongs to
one of ``WANTED``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from tests.repair.attack import calls
from tests.repair.attack.calls import Stat

FOREIGN = 4242
WANTED = (1000, 1001)
FIRST = 999
"""Who owns the tree at first."""

ACL = b"system.posix_acl_access"


@dataclass(slots=True)
class Canary:
    """A foreign inode, held open.  ``still``: nobody but a repair would touch it, so not even its
    ctime may move.
    """

    path: str
    fd: int
    still: bool
    was: Stat
    acl: bytes | None

    @classmethod
    def of(cls, path: str, *, still: bool) -> Canary:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        was = calls.stat(fd)
        assert was is not None
        return cls(path, fd, still, was, _acl(fd))

    def check(self) -> bool:
        """Whether it is what it was.  If not it is put right, so that the next time counts too."""
        now = calls.stat(self.fd)
        assert now is not None
        kept = (now.uid, now.gid, now.mode) == (self.was.uid, self.was.gid, self.was.mode)
        if kept and _acl(self.fd) == self.acl and not (self.still and now.ctime != self.was.ctime):
            return True
        held = f"/proc/self/fd/{self.fd}"
        calls.must(calls.fchownat(self.fd, b"", self.was.uid, self.was.gid, calls.EMPTY_PATH))
        if self.was.mode & 0o170000 != 0o120000:
            os.chmod(held, self.was.mode & 0o7777)
            if self.acl is None and _acl(self.fd) is not None:
                os.removexattr(held, ACL)
        restored = calls.stat(self.fd)
        assert restored is not None
        self.was = restored
        return False


def _acl(fd: int) -> bytes | None:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", ACL)
    except OSError:
        return None


@dataclass
class Scene:
    base: str
    canaries: list[Canary] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = os.path.join(self.base, "run1")
        self.tree = os.path.join(self.root, "tree")
        self.yard = os.path.join(self.root, "yard")
        self.outside = os.path.join(self.base, "outside")
        for path in (self.root, self.tree, self.yard, self.outside):
            os.mkdir(path)
        os.chown(self.tree, FIRST, FIRST)
        self.watch(self.root, self.outside)

    def directory(self, *parts: str, files: int = 0) -> str:
        """A directory of the tree with files f0, f1, ..."""
        path = os.path.join(self.tree, *parts)
        os.makedirs(path, exist_ok=True)
        fill(path, files, FIRST)
        while path != self.tree:
            os.chown(path, FIRST, FIRST)
            path = os.path.dirname(path)
        return os.path.join(self.tree, *parts)

    def foreign(self, *parts: str, files: int = 0, still: bool = True) -> str:
        """The same outside, where every inode is a canary."""
        path = os.path.join(self.outside, *parts)
        os.makedirs(path, exist_ok=True)
        names = fill(path, files, FOREIGN)
        os.chown(path, FOREIGN, FOREIGN)
        self.watch(path, *(os.path.join(path, n) for n in names), still=still)
        return path

    def watch(self, *paths: str, still: bool = False) -> None:
        """More canaries; in place of those of the same path."""
        self.canaries = [c for c in self.canaries if c.path not in paths]
        self.canaries += [Canary.of(p, still=still) for p in paths]

    def changed(self) -> int:
        """Canaries that changed since this was last asked."""
        return sum(not c.check() for c in self.canaries)


def fill(path: str, files: int, owner: int) -> list[str]:
    names = [f"f{i}" for i in range(files)]
    for name in names:
        file = os.path.join(path, name)
        with open(file, "w"):
            pass
        os.chown(file, owner, owner)
    return names
