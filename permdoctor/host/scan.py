"""A whole tree as classes of entries that no rule can tell apart, within a budget.

Iterative, with few descriptors at any depth (``dirs.py``), and never across a mount.  Known
mountpoints are not even looked at: their server may not answer.  One statx an entry gives owner,
mode, flags and whether it is a mountpoint after all, and is nearly all of the cost: the rest is
kept out of the interpreter's loop.  ACLs are read only where the caller says that
they can matter; immutable and append-only for every entry.

A :class:`Scanner` is one process's share of the work; ``sharing.py`` puts two at it.  What a
hostile tree could make grow is bounded: classes, samples, descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from operator import attrgetter

from msgspec import Struct

from permdoctor.host import acl as acl_xattr
from permdoctor.host import inodes, syscalls
from permdoctor.host.dirs import Mountpoints, OpenDirs
from permdoctor.host.entries import SAMPLES, Counters, Facts, Kind, Node, path_of, to_inode
from permdoctor.host.syscalls import (
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    STATX_ATTR_APPEND,
    STATX_ATTR_IMMUTABLE,
    STATX_ATTR_MOUNT_ROOT,
    STATX_SIZE,
)
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount

MAX_CLASSES = 4096
BATCH = 512
"""Entries at most between two looks at the clock, the budget and the other worker."""
_MAX_KEYS = 65536
_HONEST = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs"))
_SMALL = 1 << 20

_MASK = 0x1F  # STATX_TYPE | MODE | NLINK | UID | GID
_FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT
_KEY = struct.Struct("=QIIIH")
"""attributes, nlink, uid, gid, mode: bytes 8 to 30 of struct statx lie side by side."""
_SLOT = 32
"""Each statx overwrites all but the first 32 bytes of the one before, which are enough."""
_KEYS = struct.Struct(f"8x{_KEY.size}s{_SLOT - 8 - _KEY.size}x")
_NOTHING = bytes(_KEY.size)
_name = attrgetter("name")
_python_libc = ctypes.PyDLL(None)
"""Keeps the interpreter lock: letting it go and taking it back costs a tenth of a statx."""
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)

AclMatters = Callable[[Inode], bool]
Progress = Callable[[int], None]


class Budget(Struct, frozen=True, kw_only=True):
    """When to stop: after so many entries, after so many seconds.  ``deep`` lifts both."""

    entries: int = 200_000
    seconds: float = 10.0
    deep: bool = False


DEFAULT_BUDGET = Budget()


UNLIMITED = 1 << 62


class Lease:
    """How many more entries may be read.  Alone: a number; shared: see ``sharing.py``."""

    def __init__(self, entries: int) -> None:
        self.left = entries

    def take(self, want: int) -> int:
        got = min(want, self.left)
        self.left -= got
        return got


class Job(Struct, frozen=True, kw_only=True):
    """What all workers of one scan have in common."""

    root_fd: int
    mount: Mount
    budget: Budget
    acl_matters: AclMatters
    deadline: float
    mountpoints: Mountpoints


class Scanner:
    """One worker: a stack of directories, and the kinds of entries found in them.

    ``tick`` is called every ``BATCH`` entries, and at least once a directory, with the directory
    being read and its remaining names; the names that it takes from the iterator are somebody
    else's.
    """

    def __init__(self, job: Job, root: Node, lease: Lease | None = None) -> None:
        self.job = job
        self.root = root
        self.lease = lease or Lease(UNLIMITED)
        self.counters = Counters()
        self.dirs = OpenDirs()
        self.stack: list[Node] = []
        self.kinds: dict[Facts, dict[bytes, Kind]] = {}
        self.classes: dict[tuple[Facts, Facts], Kind] = {}
        self.tick: Callable[[Node, Iterator[bytes]], None] = lambda _node, _names: None
        self._sizes_are_honest = job.mount.sb.fstype in _HONEST
        self._out = ctypes.create_string_buffer(BATCH * _SLOT + STATX_SIZE)
        self._fields = memoryview(self._out).cast("B")
        self._slots = [ctypes.byref(self._out, i * _SLOT) for i in range(BATCH)]
        self._checked = _python_libc["statx"]
        self._statx = _python_libc["statx"]
        self._statx.restype = None  # errno tells; making an int of each result takes its time
        self._errno = ctypes.c_int.from_address(errno_location())

    def twin(self) -> Scanner:
        """The same for another process: with nothing to do yet."""
        return Scanner(self.job, Node.root_of(self.job.root_fd, self.root.facts))

    def finish(self) -> None:
        """Called in the other process before its result is sent."""

    # --- directories ---

    def run(self) -> None:
        """Work until the stack is empty or the budget is spent."""
        while self.stack and not self.counters.stopped:
            self.read_dir(self.stack.pop())

    def push(self, path: bytes, facts: Facts) -> Node:
        """A directory to be read, by its path from the root."""
        self.root.pending += 1
        node = Node(self.root, path or b".", facts)
        self.stack.append(node)
        return node

    def read_dir(self, node: Node) -> None:
        """All entries of one directory."""
        try:
            fd = self.dirs.open(node)
            path = b"/proc/self/fd/%d" % fd
            mounted = self.job.mountpoints.names_in(node)
            if self._is_small(fd):
                self.read_names(node, fd, self._but(mounted, iter(os.listdir(path))))
                return
            with os.scandir(path) as entries:
                self.read_names(node, fd, self._but(mounted, map(_name, entries)))
        except OSError as e:
            self._failed(e)
            self._look(node, iter(()))
        finally:
            self.dirs.leave(node)

    def _but(self, mounted: frozenset[bytes], names: Iterator[bytes]) -> Iterator[bytes]:
        """The names that are no mountpoints; with none of these at the cost of nothing."""
        return self._but_mounts(mounted, names) if mounted else names

    def _but_mounts(self, mounted: frozenset[bytes], names: Iterator[bytes]) -> Iterator[bytes]:
        for name in names:
            if name in mounted:
                self.counters.foreign_mounts += 1
            else:
                yield name

    def _is_small(self, fd: int) -> bool:
        """Whether all names at once take little memory: cheaper than one after the other.

        Only filesystems of the kernel's own are believed when they tell a directory's size.
        """
        return self._sizes_are_honest and os.fstat(fd).st_size <= _SMALL

    def read_given(self, node: Node, names: Iterator[bytes]) -> None:
        """Some entries of one directory, listed by somebody else."""
        try:
            self.read_names(node, self.dirs.open(node), names)
        except OSError as e:
            self._failed(e)
            self._look(node, iter(()))
        finally:
            self.dirs.leave(node)

    def read_names(self, node: Node, fd: int, names: Iterator[bytes]) -> None:
        """Entries of a directory, by name.  Raises ``OSError`` from the iterator."""
        while not self.counters.stopped:
            batch = list(islice(names, BATCH))
            if batch:
                allowed = self.lease.take(len(batch))
                self._stat_all(node, fd, batch[:allowed])
                if allowed < len(batch):
                    self.counters.stopped = f"stopped at {self.job.budget.entries:,} entries"
            self._look(node, names)
            if len(batch) < BATCH:
                return

    def _look(self, node: Node, names: Iterator[bytes]) -> None:
        """At the clock, and at the other worker."""
        if time.monotonic() > self.job.deadline and not self.counters.stopped:
            self.counters.stopped = f"stopped after {self.job.budget.seconds:g} seconds"
        self.tick(node, names)

    def _failed(self, e: OSError) -> None:
        if e.errno in _VANISHED:
            self.counters.vanished += 1
        elif e.errno == errno.EXDEV:
            self.counters.foreign_mounts += 1
        else:
            self.counters.unreadable += 1

    # --- entries ---

    def _stat_all(self, node: Node, fd: int, names: list[bytes]) -> None:
        """A statx for each name, and one look at all results: mostly they are the same."""
        more = (repeat(_FLAGS), repeat(_MASK), self._slots)
        self._errno.value = 0
        deque(map(self._statx, repeat(fd), names, *more), maxlen=0)
        failed = list(map(self._checked, repeat(fd), names, *more)) if self._errno.value else []
        results = self._fields[: len(names) * _SLOT].tobytes()
        known = self.kinds.setdefault(node.facts, {})
        kind = known.get(results[8:30])
        if kind and kind.simple and results == results[:_SLOT] * len(names) and not failed:
            kind.count += len(names)
            self.counters.entries += len(names)
            return
        keys = [k for (k,) in _KEYS.iter_unpack(results)]
        if failed:
            keys = [_NOTHING if f else k for f, k in zip(failed, keys, strict=True)]
        self._count_all(node, fd, names, keys, known)

    def _count_all(
        self, node: Node, fd: int, names: list[bytes], keys: list[bytes], known: dict[bytes, Kind]
    ) -> None:
        """Once for each distinct result; entries one by one only where there is more to do."""
        special: dict[bytes, Kind | None] = {}
        for key, count in Counter(keys).items():
            kind = known.get(key) or self._new_key(node, key, known)
            if kind is None or not kind.simple:
                special[key] = kind
            else:
                kind.count += count
                self.counters.entries += count
        if special:
            for name, key in zip(names, keys, strict=True):
                if key in special:
                    self._one(special[key], key, node, fd, name)

    def _one(self, kind: Kind | None, key: bytes, node: Node, fd: int, name: bytes) -> None:
        """An entry that needs more than being counted; without a kind, a mountpoint or nothing."""
        if kind is not None:
            self.counters.entries += 1
            self._count(kind, node, fd, name)
        elif key != _NOTHING:
            self.counters.foreign_mounts += 1
        else:
            try:
                syscalls.statx(fd, name)
            except OSError as e:
                self._failed(e)
            else:
                self.counters.vanished += 1

    def _new_key(self, node: Node, key: bytes, kinds: dict[bytes, Kind]) -> Kind | None:
        """The kind of a key not met in such a directory yet; ``None`` for a mountpoint, and where
        statx failed.
        """
        attributes, _, uid, gid, mode = _KEY.unpack(key)
        if key == _NOTHING or attributes & STATX_ATTR_MOUNT_ROOT:
            return None
        flags = attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)
        facts = Facts(uid, gid, mode, flags)
        kind = self._kind(node.facts, facts, has_acl=self._acl_matters(facts))
        if len(kinds) > _MAX_KEYS:
            kinds.clear()
        kinds[key] = kind
        return kind

    def _kind(self, parent: Facts, facts: Facts, *, has_acl: bool) -> Kind:
        kind = self.classes.get((parent, facts))
        if kind is None:
            kind = self.classes[parent, facts] = Kind(parent, facts, has_acl)
            if len(self.classes) > MAX_CLASSES:
                self.counters.stopped = f"stopped at {MAX_CLASSES:,} kinds of entries"
        return kind

    def _acl_matters(self, facts: Facts) -> bool:
        """Whether the ACL of such an entry is worth a system call: never where the group class
        is empty, for that switches it off.
        """
        if stat.S_ISLNK(facts.mode) or not facts.mode & 0o070 or not self.job.mount.sb.acls:
            return False
        return self.job.acl_matters(to_inode(facts, self.job.mount))

    def _count(self, kind: Kind, node: Node, fd: int, name: bytes) -> None:
        """What is done for directories, for the first entries of a class, and with ACLs."""
        if kind.has_acl:
            kind = self._with_acl(kind, fd, name)
        kind.count += 1
        if len(kind.samples) < SAMPLES:
            kind.samples.append(path_of(node, name))
        if kind.is_dir:
            node.pending += 1
            self.stack.append(Node(node, name, kind.facts))
        elif not kind.has_acl and len(kind.samples) == SAMPLES:
            kind.simple = True

    def _with_acl(self, kind: Kind, fd: int, name: bytes) -> Kind:
        """The kind with this entry's ACLs; itself if it has none."""
        path = b"/proc/self/fd/%d/%s" % (fd, name)
        try:
            access = inodes.acl_blob(path, acl_xattr.ACCESS)
            default = inodes.acl_blob(path, acl_xattr.DEFAULT) if kind.is_dir else None
        except OSError as e:
            self._failed(e)
            return kind
        if access is None and default is None:
            return kind
        f = kind.facts
        facts = Facts(f.uid, f.gid, f.mode, f.flags, access, default)
        return self._kind(kind.parent, facts, has_acl=False)


def errno_location() -> int:
    """The address of this thread's errno."""
    call = _python_libc["__errno_location"]
    call.restype = ctypes.c_void_p
    return int(call())


def always(_: Inode) -> bool:
    """The default of ``acl_matters``."""
    return True
