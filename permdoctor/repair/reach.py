"""The directories of a plan, opened again: each from its root, by descriptor, and proved to be the
one that the plan knows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from permdoctor.host import syscalls
from permdoctor.host.dirs import OpenDirs
from permdoctor.host.entries import SAMPLE_BYTES, Facts, Node
from permdoctor.kernel.text import printable
from permdoctor.repair.options import Asked, CannotRepairError
from permdoctor.repair.planfile import NO_DIR, Block, Dir, Reader
from permdoctor.repair.root import OpenRoot, open_root
from permdoctor.repair.syscalls import RESOLVE

_NOTHING = Facts(0, 0, 0)
_MOST_NODES = 1 << 16
_FROM_ROOT = 64
"""Down to this depth the way to a directory is walked again from the root; deeper, from the
nearest directory above it that is open.
"""
_AT_ONCE = 48
_NAMES = 15
"""Of one openat2: 15 names of 255 bytes are a path."""


class Elsewhere(Exception):  # noqa: N818 - it says where the directory is
    """The path leads to nothing, or to another directory than when the plan was made."""


class PlannedDirs:
    """Directories by segment and number; used by one process.

    ``at`` stands for the path of the only root, when the tree has been moved.
    """

    def __init__(self, reader: Reader, asked: Asked, at: bytes | None = None) -> None:
        self._reader = reader
        self._asked = asked
        self._at = at
        self._roots: dict[bytes, OpenRoot] = {}
        self._nodes: dict[tuple[int, int], Node] = {}
        self._known: dict[Node, Dir] = {}
        self._open = OpenDirs()

    def root(self, segment: int) -> OpenRoot:
        """Raises ``CannotRepairError`` and ``UsageError`` as ``open_root`` does."""
        planned = self._reader.root(segment)
        path = self._at or planned.path
        if path not in self._roots:
            held = open_root(path, asked=self._asked)
            if (held.root.ino, held.root.btime) != (planned.ino, planned.btime):
                os.close(held.fd)
                raise CannotRepairError(
                    f"{printable(path)} is another directory than when the plan was made",
                    hint="make a new plan",
                )
            self._roots[path] = held
        return self._roots[path]

    def open(self, segment: int, number: int) -> int:
        """An O_PATH descriptor, to be used until the next call.  Raises :class:`Elsewhere`."""
        if number == NO_DIR:
            return self.root(segment).fd
        if len(self._nodes) > _MOST_NODES:
            self.forget()
        node = self._node(segment, number)
        try:
            self._open_above(node)
            fd = self._open.open(node)
            found = syscalls.statx(fd)
        except OSError as e:
            raise Elsewhere(os.strerror(e.errno or 0)) from None
        planned = self._known[node]
        if (found.ino, found.btime) != (planned.ino, planned.btime):
            self.forget()
            raise Elsewhere("its directory was replaced")
        return fd

    def _open_above(self, node: Node) -> None:
        """On the way up from the depth the next directories are its parents: open some at once."""
        if self._known[node].depth <= _FROM_ROOT or node.fd >= 0:
            return
        way: list[Node] = []
        at = node.parent
        while at is not None and at.fd < 0 and len(way) < _AT_ONCE:
            way.append(at)
            at = at.parent
        for above in reversed(way):
            self._open.open(above)

    def names(self, block: Block, names: Sequence[bytes]) -> Sequence[bytes]:
        """The names of a block's entries in the directory that ``open`` gives.  A root that is a
        file has the name of its path.
        """
        if block.dir != NO_DIR or block.dirs:
            return names
        return [self.root(block.segment).name]

    def still_there(self, segment: int, number: int) -> bool:
        """Whether the same way still leads to the directory opened last."""
        if number in (0, NO_DIR):
            return True
        node = self._node(segment, number)
        deep = self._known[node].depth > _FROM_ROOT
        parts: list[bytes] = []
        at = node
        while at.parent is not None and (at is node or at.fd < 0 or not deep):
            parts += reversed(at.name.split(b"/"))
            at = at.parent
        fd = -1
        try:
            while parts:
                names, parts = parts[-_NAMES:], parts[:-_NAMES]
                below = syscalls.openat2(
                    at.fd if fd < 0 else fd,
                    b"/".join(reversed(names)),
                    os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW,
                    RESOLVE,
                )
                if fd >= 0:
                    os.close(fd)
                fd = below
            return os.path.samestat(os.fstat(fd), os.fstat(node.fd))
        except OSError:
            return False
        finally:
            if fd >= 0:
                os.close(fd)

    def path(self, segment: int, number: int, name: bytes) -> bytes:
        """Relative to the root; the root itself is ``.``."""
        if number == NO_DIR:
            return b"."
        parts = [name]
        while number:
            entry = self._reader.dir(segment, number)
            if entry.name != b".":
                parts.append(entry.name)
            number = entry.parent
        return b"/".join(reversed(parts))

    def sample(self, segment: int, number: int, name: bytes) -> bytes:
        """The path, to be shown; one too long for the kernel is cut in the middle."""
        path = self.path(segment, number, name)
        half = SAMPLE_BYTES // 2 - 3
        return path if len(path) <= SAMPLE_BYTES else path[:half] + b"/.../" + path[-half:]

    def forget(self) -> None:
        """Close all directories."""
        self._open.close()
        self._nodes.clear()
        self._known.clear()

    def close(self) -> None:
        self.forget()
        for held in self._roots.values():
            os.close(held.fd)
        self._roots.clear()

    def _node(self, segment: int, number: int) -> Node:
        way: list[Dir] = []
        while (segment, number) not in self._nodes:
            entry = self._reader.dir(segment, number)
            way.append(entry)
            if not number:
                break
            if entry.parent >= number:
                raise Elsewhere("the plan is damaged")
            number = entry.parent
        for entry in reversed(way):
            if not entry.number:
                node = Node.root_of(self.root(segment).fd, _NOTHING)
            else:
                node = Node(self._nodes[segment, entry.parent], entry.name, _NOTHING)
            self._nodes[segment, entry.number] = node
            self._known[node] = entry
        return self._nodes[segment, way[0].number if way else number]
