"""Paths through directories and symlinks: a drawn tree, a drawn path, and where it leads.

The route is found by a resolver of our own over the tree as it was made (path_resolution(7)); the
model only hears which inodes it visits, the kernel gets the path with RESOLVE_IN_ROOT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from permdoctor.kernel import walk as path_walk
from permdoctor.kernel.inode import S_ISVTX, FileType, Inode
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.walk import Hop
from tests.differential.cases import Case
from tests.differential.scene import Builder, Pools, View, draw_inode
from tests.differential.subjects import Subject

_DIRECTORY_MODES = (0o1777, 0o1777, 0o3777, 0o755, 0o711, 0o1775, 0o777, 0o710, 0o701, 0o1757)
_MAX = 45
"""More links than any walk may follow."""


@dataclass(slots=True)
class Node:
    """``stored`` is the inode on the disk, ``shown`` what the mount makes of it."""

    name: bytes
    stored: Inode
    shown: Inode
    parent: Node | None
    body: bytes = b""
    children: dict[bytes, Node] = field(default_factory=dict)

    @property
    def path(self) -> bytes:
        return self.name if self.parent is None else self.parent.path + b"/" + self.name

    @property
    def is_dir(self) -> bool:
        return self.stored.type is FileType.DIRECTORY


class Tree:
    """``w7`` with directories, links between them and a file, all of them drawn."""

    def __init__(self, rng: Random, number: int, pools: Pools, view: View, top: Inode) -> None:
        self.rng, self.pools, self.view = rng, pools, view
        self.top = Node(b"", top, view.show(top), None)
        self.nodes: list[Node] = []
        self.chained = rng.random() < 0.05
        root = self._add(self.top, b"w%d" % number, FileType.DIRECTORY)
        a = self._add(root, b"a", FileType.DIRECTORY)
        directories = [root, a, self._add(a, b"b", FileType.DIRECTORY)]
        self._add(rng.choice(directories), b"f", FileType.REGULAR)
        for i in range(rng.randint(1, 4)):
            self._link(b"l%d" % i, rng.choice(directories), rng.choice(self.nodes))
        if self.chained:
            self._chain(root, rng.randint(39, 42))

    def _add(self, parent: Node, name: bytes, type_: FileType, body: bytes = b"") -> Node:
        stored = draw_inode(self.rng, self.pools, type_)
        if type_ is FileType.DIRECTORY and self.rng.random() < 0.7 and stored.acl is None:
            stored = replace(stored, mode=self.rng.choice(_DIRECTORY_MODES))
        if self.chained:
            stored = replace(stored, mode=stored.mode & ~S_ISVTX)
        node = Node(name, stored, self.view.show(stored), parent, body)
        parent.children[name] = node
        self.nodes.append(node)
        return node

    def _link(self, name: bytes, directory: Node, target: Node) -> None:
        """Absolute, or relative by way of the top; to itself at times."""
        if self.rng.random() < 0.06:
            body = name
        elif target.parent is directory:
            body = target.name
        elif self.rng.random() < 0.5:
            body = b"/" + _route(target)
        else:
            body = b"../" * _depth(directory) + _route(target)
        self._add(directory, name, FileType.SYMLINK, body)

    # A chain and protected_symlinks do not go together: see walk.py on twenty links.
    def _chain(self, directory: Node, length: int) -> None:
        for i in range(length):
            body = b"m%d" % (i + 1) if i + 1 < length else b"a"
            self._add(directory, b"m%d" % i, FileType.SYMLINK, body)

    def build(self, builder: Builder) -> None:
        for node in self.nodes:
            builder.make(_route(node), node.stored, node.body)
        for node in reversed(self.nodes):
            builder.dress(_route(node), node.stored)

    def demolish(self, builder: Builder) -> None:
        for node in self.nodes:
            builder.unfix(_route(node), node.stored)
        builder.remove(_route(self.nodes[0]))

    def draw_case(self, subject: Subject, sysctls: Sysctls) -> Case:
        path, nofollow = self._draw_path(), self.rng.random() < 0.25
        hops = self.hops(path, nofollow)
        verdict = path_walk.walk(subject.cred, hops, sysctls)
        return Case("walk", verdict, "walk", (path, nofollow), tuple(hops))

    def _draw_path(self) -> bytes:
        """To some node, on at times, with steps that change nothing."""
        rng = self.rng
        node = rng.choice(self.nodes)
        path = _route(node)
        if rng.random() < 0.3:
            path = path.replace(b"/", rng.choice((b"/./", b"//")))
        end = self._resolve_quietly(node)
        if end is not None and end.is_dir:
            if end.children and rng.random() < 0.6:
                return path + b"/" + rng.choice(sorted(end.children))
            return path + rng.choice((b"", b"/", b"/.", b"/..", b"/../" + end.name))
        if rng.random() < 0.1 and end is not None:
            return path + b"/x"
        return path

    def _resolve_quietly(self, node: Node) -> Node | None:
        last = self._route_of(_route(node), False)[-1]
        return None if last.body else last

    def hops(self, path: bytes, nofollow: bool) -> list[Hop]:
        """What the model is told about the path."""
        hops = []
        route = self._route_of(path, nofollow)
        trailing = self._trailing
        for i, node in enumerate(route):
            followed = bool(node.body) and not (nofollow and i == len(route) - 1)
            hops.append(
                Hop(
                    path=node.path,
                    inode=node.shown,
                    mount=self.view.model,
                    link=node.body if followed else None,
                    trailing=i in trailing,
                )
            )
        return hops

    def _route_of(self, path: bytes, nofollow: bool) -> list[Node]:
        """The inodes visited, the top first; ``_trailing`` says which links were last components.

        A walk that cannot go on (a file where a directory must be, too many links) ends there.
        """
        visited, self._trailing = [self.top], set[int]()
        pending = [_components(path)]
        at, links = self.top, 0
        while any(pending):
            if not pending[-1]:
                pending.pop()
                continue
            name = pending[-1].pop(0)
            at_end = not any(pending)
            if not at.is_dir:
                visited.append(at)
                break
            node = _step(at, name, self.top)
            visited.append(node)
            if not node.body:
                at = node
                continue
            if at_end:
                self._trailing.add(len(visited) - 1)
                if nofollow and not path.endswith(b"/"):
                    break
            links += 1
            if links > _MAX:
                break
            pending.append(_components(node.body))
            if node.body.startswith(b"/"):
                at = self.top
                visited.append(at)
        return visited


def _step(at: Node, name: bytes, top: Node) -> Node:
    if name == b".":
        return at
    if name == b"..":
        return at.parent or top
    return at.children[name]


def _components(path: bytes) -> list[bytes]:
    return [c for c in path.split(b"/") if c]


def _route(node: Node) -> bytes:
    """From the top, without a leading slash."""
    return node.path.lstrip(b"/")


def _depth(node: Node) -> int:
    return _route(node).count(b"/") + 1
