"""What a scan counts: directories to read, and kinds of entries, in raw numbers.

Cheap to make, to hash and to send to another process.  Only the finished result becomes the
kernel's types (:func:`tree_of`).
"""

from __future__ import annotations

import stat

from msgspec import Struct

from permdoctor.diagnosis.facts import EntryClass, Tree
from permdoctor.diagnosis.report import Coverage
from permdoctor.host import acl as acl_xattr
from permdoctor.host import inodes, syscalls
from permdoctor.host.syscalls import STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE, Stat
from permdoctor.kernel.acl import Acl
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount

SAMPLES = 3
SAMPLE_BYTES = 4096
OTHER_STOPPED = "stopped with the other worker"


class Facts(Struct, frozen=True):
    """What the rules ask of an entry, in raw numbers: hashable, and cheap to send."""

    uid: int
    gid: int
    mode: int
    flags: int = 0
    acl: bytes | None = None
    default: bytes | None = None


class Kind:
    """Entries of one class, as they are counted.  ``simple`` once nothing but counting is left."""

    __slots__ = ("count", "facts", "has_acl", "is_dir", "parent", "samples", "simple")

    def __init__(self, parent: Facts, facts: Facts, has_acl: bool = False) -> None:
        self.parent = parent
        self.facts = facts
        self.count = 0
        self.samples: list[bytes] = []
        self.is_dir = stat.S_ISDIR(facts.mode)
        self.has_acl = has_acl
        self.simple = False


class Node:
    """A directory still to be read, or needed to open one.  ``name`` may have several parts.

    ``fd`` is -1 while it is not open.
    """

    __slots__ = ("facts", "fd", "length", "name", "number", "parent", "pending")

    def __init__(self, parent: Node | None, name: bytes, facts: Facts) -> None:
        self.parent = parent
        self.name = name
        self.length: int = 0 if parent is None else parent.length + len(name) + 1
        """Of its path, in bytes."""
        self.facts = facts
        self.fd = -1
        self.pending = 0
        """Children that still may ask for it to be open."""
        self.number = -1
        """Given by those who keep a list of directories."""

    @classmethod
    def root_of(cls, fd: int, facts: Facts) -> Node:
        """The root of a scan: always open, never closed by the scan."""
        node = cls(None, b"", facts)
        node.fd = fd
        node.pending = 1
        return node


class Counters(Struct):
    """What Coverage is made of."""

    entries: int = 0
    unreadable: int = 0
    vanished: int = 0
    foreign_mounts: int = 0
    stopped: str = ""

    def add(self, other: Counters) -> None:
        """Sums; ``stopped`` is ours if we have a reason of our own."""
        self.entries += other.entries
        self.unreadable += other.unreadable
        self.vanished += other.vanished
        self.foreign_mounts += other.foreign_mounts
        if other.stopped and self.stopped in ("", OTHER_STOPPED):
            self.stopped = other.stopped


def path_of(node: Node, name: bytes = b"") -> bytes:
    """The path relative to the scan's root; one too long for the kernel is cut in the middle."""
    parts = [name] if name else []
    at: Node | None = node
    while at is not None and at.parent is not None:
        if at.name != b".":
            parts.append(at.name)
        at = at.parent
    path = b"/".join(parts[::-1])
    if len(path) <= SAMPLE_BYTES:
        return path
    half = SAMPLE_BYTES // 2 - 3
    return path[:half] + b"/.../" + path[-half:]


def to_inode(facts: Facts, mount: Mount) -> Inode:
    """The facts as the rules want them.  An undecodable ACL counts as none."""
    st = Stat(
        mode=facts.mode,
        uid=facts.uid,
        gid=facts.gid,
        nlink=1,
        ino=0,
        dev=0,
        mnt_id=0,
        attributes=facts.flags,
        btime=(0, 0),
    )
    return inodes.inode_of(st, mount, _acl(facts.acl), _acl(facts.default))


def _acl(blob: bytes | None) -> Acl | None:
    try:
        return None if blob is None else acl_xattr.decode(blob)
    except ValueError:
        return None


def facts_of_fd(fd: int) -> Facts:
    """The facts of what a descriptor holds, ACLs included.  Raises ``OSError``."""
    st = syscalls.statx(fd)
    path = b"/proc/self/fd/%d" % fd
    flags = st.attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)
    access = inodes.acl_blob(path, acl_xattr.ACCESS)
    default = inodes.acl_blob(path, acl_xattr.DEFAULT)
    return Facts(st.uid, st.gid, st.mode, flags, access, default)


def tree_of(mount: Mount, classes: dict[tuple[Facts, Facts], Kind], counters: Counters) -> Tree:
    """The result, classes in a stable order: the most frequent first."""
    inode: dict[Facts, Inode] = {}

    def shown(facts: Facts) -> Inode:
        if facts not in inode:
            inode[facts] = to_inode(facts, mount)
        return inode[facts]

    found = [
        EntryClass(
            parent=shown(k.parent),
            inode=shown(k.facts),
            count=k.count,
            samples=tuple(sorted(k.samples)),
        )
        for k in classes.values()
        if k.count
    ]
    found.sort(key=lambda c: (-c.count, c.samples))
    return Tree(
        classes=tuple(found),
        coverage=Coverage(
            entries=counters.entries,
            stopped=counters.stopped,
            unreadable=counters.unreadable,
            vanished=counters.vanished,
            foreign_mounts=counters.foreign_mounts,
        ),
    )
