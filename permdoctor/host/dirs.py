"""The directories that a scan has open: few, at any depth; and those that it must not touch.

A directory is opened from the nearest ancestor still open, never through ``..``, never across a
mount or a symlink (openat2), so that nobody who renames directories meanwhile can lead the scan
out of its tree.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable

from permdoctor.host import syscalls
from permdoctor.host.entries import Node, path_of

_OPEN_DIRS = 128
_STEP_BYTES, _STEP_NAMES = 4000, 256
_ROOT_LENGTH = 2
"""Of the root when it is named ``.``; 0 otherwise."""
_NONE: frozenset[bytes] = frozenset()
_RESOLVE = (
    syscalls.RESOLVE_BENEATH
    | syscalls.RESOLVE_NO_XDEV
    | syscalls.RESOLVE_NO_SYMLINKS
    | syscalls.RESOLVE_NO_MAGICLINKS
)


class OpenDirs:
    """At most ``_OPEN_DIRS`` descriptors, the least recently used closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[Node, None] = OrderedDict()

    def open(self, node: Node) -> int:
        """A descriptor of the directory, opened from the nearest ancestor that is open.

        On a long way the parent and every ``_STEP_NAMES``-th ancestor are kept open, so that
        coming back up from 20,000 levels stays cheap.
        """
        way: list[Node] = []
        at = node
        while at.fd < 0:
            way.append(at)
            assert at.parent is not None, "the root is always open"
            at = at.parent
        if at in self._open:
            self._open.move_to_end(at)
        while way:
            base = at
            parts: list[bytes] = []
            length = 0
            while way and (not parts or _fits(way, len(parts), length)):
                at = way.pop()
                parts.append(at.name)
                length += len(at.name) + 1
            at.fd = syscalls.openat2(
                base.fd, b"/".join(parts), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, _RESOLVE
            )
            self._keep(at)
        return node.fd

    def _keep(self, node: Node) -> None:
        self._open[node] = None
        while len(self._open) > _OPEN_DIRS:
            self._close(next(iter(self._open)))

    def _close(self, node: Node) -> None:
        if self._open.pop(node, False) is None:
            os.close(node.fd)
            node.fd = -1

    def leave(self, node: Node) -> None:
        """Done with it: close what no pending directory needs."""
        while not node.pending:
            self._close(node)
            if node.parent is None:
                return
            node = node.parent
            node.pending -= 1

    def close(self) -> None:
        for node in list(self._open):
            self._close(node)


class Mountpoints:
    """Known mountpoints, by their paths from the scan's root.

    statx of one blocks where its filesystem does not answer, so it is told by its name alone.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        names: dict[bytes, set[bytes]] = {}
        for path in paths:
            above, _, name = path.rpartition(b"/")
            names.setdefault(above, set()).add(name)
        self._names = {above: frozenset(found) for above, found in names.items()}
        self._lengths = frozenset(len(above) + n for above in names for n in (1, 1 + _ROOT_LENGTH))

    def names_in(self, node: Node) -> frozenset[bytes]:
        """Those in one directory.  Only for a length that one has is a path put together."""
        if not self._names or (node.length > _ROOT_LENGTH and node.length not in self._lengths):
            return _NONE
        return self._names.get(path_of(node), _NONE)


def _fits(way: list[Node], parts: int, length: int) -> bool:
    """Whether the next name belongs into the same openat2; the last one is opened by itself."""
    return len(way) > 1 and parts < _STEP_NAMES and length + len(way[-1].name) < _STEP_BYTES
