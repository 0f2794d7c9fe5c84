"""Attackers that exchange what a name leads to: a symlink, a FIFO, another directory, a mount."""

from __future__ import annotations

import os
import random

from tests.repair.attack import calls
from tests.repair.attack.attack import Attack, directory
from tests.repair.attack.cells import Cells
from tests.repair.attack.scene import FOREIGN, fill


class SymlinkDirectory(Attack):
    """A directory and a symlink to a foreign one of the same content change places, at three
    depths.
    """

    name = "symlink-dir"
    naive = ("naive-path", "naive-lstat")
    places = ((), ("a",), ("a", "b", "c"))

    def build(self) -> None:
        for place in self.places:
            self.scene.directory(*place, "d", "e", files=12)
            self.scene.directory(*place, "d", files=24)
        for below in ((), ("e",)):
            self.scene.foreign("d", *below, files=24 // (1 + len(below)))
        self.scene.watch(os.path.join(self.scene.outside, "d"), still=True)
        for place in self.places:
            os.symlink(
                os.path.join(self.scene.outside, "d"), os.path.join(self.scene.tree, *place, "l")
            )

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.fds = [directory(self.scene.tree, *p) for p in self.places]

    def burst(self) -> int:
        swap, fds = calls.rename, self.fds
        order = self.rng.choices(fds, k=64)
        for fd in order:
            swap(fd, b"d", fd, b"l", 2)
            swap(fd, b"l", fd, b"d", 2)
        once = self.rng.choice(fds)
        swap(once, b"d", once, b"l", 2)
        return len(order)

    def settle(self) -> None:
        for fd in self.fds:
            if os.path.islink(f"/proc/self/fd/{fd}/d"):
                calls.swap(fd, b"d", fd, b"l")


class SymlinkLeaf(Attack):
    """A file and a symlink to a foreign file change places."""

    name = "symlink-leaf"
    naive = ("naive-path",)
    count = 40

    def build(self) -> None:
        at = self.scene.directory("leaf", "x", files=self.count)
        to = self.scene.foreign("leaf", files=self.count)
        for i in range(self.count):
            target = os.path.join(to, f"f{i}")
            if i % 2:
                target = os.path.relpath(target, at)
            os.symlink(target, os.path.join(at, f".l{i}"))

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.fd = directory(self.scene.tree, "leaf", "x")
        self.names = [(b"f%d" % i, b".l%d" % i) for i in range(self.count)]

    def burst(self) -> int:
        swap, fd = calls.rename, self.fd
        order = self.rng.choices(self.names, k=64)
        for a, b in order:
            swap(fd, a, fd, b, 2)
            swap(fd, b, fd, a, 2)
        a, b = self.rng.choice(self.names)
        swap(fd, a, fd, b, 2)
        return len(order)

    def settle(self) -> None:
        for a, b in self.names:
            if os.path.islink(b"/proc/self/fd/%d/%s" % (self.fd, a)):
                calls.swap(self.fd, a, self.fd, b)


class Fifo(SymlinkLeaf):
    """A file and a FIFO change places: it must not be changed, and never be opened for reading."""

    name = "fifo"
    naive = ("naive-lstat",)

    def build(self) -> None:
        at = self.scene.directory("leaf", "x", files=self.count)
        for i in range(self.count):
            path = os.path.join(at, f".l{i}")
            os.mkfifo(path)
            os.chown(path, FOREIGN, FOREIGN)
            self.scene.watch(path)

    def settle(self) -> None:
        for a, b in self.names:
            if calls.uid_of(self.fd, a) == FOREIGN:
                calls.swap(self.fd, a, self.fd, b)


class Moves(Attack):
    """Directories are moved out of the tree and back, exchanged, and put below each other."""

    name = "moves"
    naive = ("naive-dotdot",)

    def build(self) -> None:
        scene = self.scene
        scene.directory("a", "b", "c", "k", files=12)
        scene.directory("a", "b", "c", files=24)
        for up in (("a", "b"), ("a",), ("m", "p", "q"), ("m", "q"), ("m",), ()):
            scene.directory(*up, files=12)
        # Where one `..` too many arrives, the names are those of the tree.
        for path in (scene.yard, scene.root, scene.base):
            names = fill(path, 12, FOREIGN)
            scene.watch(*(os.path.join(path, n) for n in names), still=True)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.b = directory(self.scene.tree, "a", "b")
        self.m = directory(self.scene.tree, "m")
        self.moves = [self._out, self._out, self._out, self._loop, self._exchange, self._up]

    def burst(self) -> int:
        rounds = self.rng.choices(self.moves, k=24)
        for once in rounds:
            once()
        return len(rounds)

    def _out(self) -> None:
        calls.rename(self.b, b"c", self.yard, b"c", 0)
        calls.rename(self.yard, b"c", self.b, b"c", 0)

    def _loop(self) -> None:
        rename, m = calls.rename, self.m
        rename(m, b"p/q", m, b"r", 0)
        rename(m, b"p", m, b"r/p", 0)
        rename(m, b"r/p", m, b"p", 0)
        rename(m, b"r", m, b"p/q", 0)

    def _exchange(self) -> None:
        calls.rename(self.m, b"p/q", self.b, b"c", 2)
        calls.rename(self.b, b"c", self.m, b"p/q", 2)

    def _up(self) -> None:
        calls.rename(self.tree, b"a/b", self.yard, b"b", 0)
        calls.rename(self.yard, b"b", self.tree, b"a/b", 0)

    def settle(self) -> None:
        """Each round ends where it began."""


class Mounts(Attack):
    """Foreign directories and files are mounted over those of the tree, moved and unmounted, in the
    mount namespace of the repair.
    """

    name = "mounts"
    naive = ("naive-nlink", "naive-lstat")

    def build(self) -> None:
        for where in ("d", os.path.join("a", "d")):
            self.scene.directory(where, files=24)
        self.scene.directory("files", files=6)
        self.scene.foreign("d", files=24)
        self.scene.foreign("top", files=6)
        self.scene.directory(files=6)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        tree, outside = os.fsencode(self.scene.tree), os.fsencode(self.scene.outside)
        self.over = [
            (outside + b"/d", tree + b"/d"),
            (outside + b"/d", tree + b"/a/d"),
            *((outside + b"/d/f%d" % i, tree + b"/files/f%d" % i) for i in range(6)),
            (outside + b"/top", tree),
        ]
        self.dirs = self.over[:2]

    def burst(self) -> int:
        for _ in range(4):
            what, where = self.rng.choice(self.over)
            calls.mount(what, where, None, calls.MS_BIND, None)
            calls.umount(where, calls.MNT_DETACH)
        (what, a), (_, b) = self.dirs
        calls.mount(what, a, None, calls.MS_BIND, None)
        calls.mount(a, b, None, calls.MS_MOVE, None)
        calls.umount(b, calls.MNT_DETACH)
        calls.umount(a, calls.MNT_DETACH)
        return 5

    def settle(self) -> None:
        """Each round ends where it began."""


class Root(Attack):
    """The root itself is exchanged for a symlink, and for a foreign tree with the same names."""

    name = "root"
    naive = ("naive-path",)

    def build(self) -> None:
        scene = self.scene
        scene.directory("d", files=24)
        scene.directory(files=12)
        # What moves gets another ctime, and only that.
        fake = scene.foreign("fake", files=12)
        scene.foreign("fake", "d", files=24)
        scene.watch(fake)
        os.symlink(fake, os.path.join(scene.root, "link"))

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.root = directory(self.scene.root)
        self.outside = directory(self.scene.outside)

    def burst(self) -> int:
        swap = calls.rename
        for _ in range(24):
            swap(self.root, b"tree", self.root, b"link", 2)
            swap(self.root, b"link", self.root, b"tree", 2)
            swap(self.root, b"tree", self.outside, b"fake", 2)
            swap(self.outside, b"fake", self.root, b"tree", 2)
        return 48

    def settle(self) -> None:
        """Each round ends where it began."""
