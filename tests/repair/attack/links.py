"""Attackers that give foreign files a name in the tree, and files of the tree one outside."""

from __future__ import annotations

import os
import random
import time

from tests.repair.attack import calls
from tests.repair.attack.attack import Attack, directory
from tests.repair.attack.cells import Cells


class LinkIn(Attack):
    """Foreign files get a name in the tree, and lose it at once: whoever looks late enough sees one
    link.  Also by exchange with, and rename over, names that the plan knows.
    """

    name = "link-in"
    naive = ("naive-nlink",)
    count = 6

    def build(self) -> None:
        self.scene.directory("h", files=self.count)
        self.scene.foreign("h", files=self.count, still=False)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.h = directory(self.scene.tree, "h")
        self.foreign = directory(self.scene.outside, "h")
        self.names = [(b"f%d" % i, b"x%d" % i) for i in range(self.count)]

    def burst(self) -> int:
        link, unlink, rename = calls.link, calls.unlink, calls.rename
        h, foreign = self.h, self.foreign
        for _ in range(6):
            order = self.rng.sample(self.names, k=len(self.names))
            for name, new in order:
                link(foreign, name, h, new, 0)
            for _, new in order:
                unlink(h, new, 0)
        for name, _ in self.rng.choices(self.names, k=24):
            link(foreign, name, h, b"x", 0)
            unlink(h, b"x", 0)
        for name, new in self.rng.choices(self.names, k=8):
            link(foreign, name, h, new, 0)
            rename(h, new, h, name, 2)
            rename(h, name, h, new, 2)
            unlink(h, new, 0)
            link(foreign, name, h, new, 0)
            rename(h, new, h, b"x", 0)
            unlink(h, b"x", 0)
        return 6 * self.count + 24 + 16

    def settle(self) -> None:
        """Each round ends where it began."""


class LinkRoot(LinkIn):
    """The same with a job that is a single file.  The foreign file rests after its turn: whoever
    holds it and waits sees a quiet file with one link.
    """

    name = "link-root"
    known = False
    count = 1
    foreigners = 3

    def build(self) -> None:
        self.target = os.path.join(self.scene.directory("h", files=1), "f0")
        self.scene.foreign("h", files=self.foreigners, still=False)

    def burst(self) -> int:
        link, rename = calls.link, calls.rename
        h, foreign = self.h, self.foreign
        name = b"f%d" % self.rng.randrange(self.foreigners)
        hurry = self.rng.random() < 0.8
        for _ in range(12):
            link(foreign, name, h, b"x", 0)
            rename(h, b"x", h, b"f0", 2)
            if not hurry:
                time.sleep(10 ** self.rng.uniform(-6, -3.5))
            rename(h, b"x", h, b"f0", 0)
        if not hurry:
            time.sleep(10 ** self.rng.uniform(-5, -1))
        return 12


class Out(Attack):
    """Base: files of the tree itself get out of it while they are changed.

    What was out before it was changed stays there, and is a stray if it keeps the change.
    """

    naive = ("naive-nlink",)
    count = 120
    group = 12
    looks = 1

    def build(self) -> None:
        self.scene.directory("s", files=self.count)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.at = directory(self.scene.tree, "s")
        self.names = [b"f%d" % i for i in range(self.count)]
        self.kept: set[bytes] = set()

    def burst(self) -> int:
        for _ in range(24 // self.group):
            self._group(self.rng.sample(self.names, k=self.group))
        return 24

    def _group(self, names: list[bytes]) -> None:
        uid_of, yard, old = calls.uid_of, self.yard, self.cells.expect
        # Each is looked at as soon as it is out: only then is it known not to be changed yet.
        out = [(n, uid_of(yard, n)) for n in names if n not in self.kept and self.out(n) == 0]
        for _ in range(self.looks):
            now = [uid_of(yard, n) for n, _ in out]
        for (name, before), after in zip(out, now, strict=True):
            if before == old and after != old:
                self.kept.add(name)
            else:
                self.back(name)

    def out(self, name: bytes) -> int:
        raise NotImplementedError

    def back(self, name: bytes) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Nothing yet: what is out is looked at first."""

    def judge(self) -> tuple[int, int]:
        new = self.cells.want
        strays = sum(calls.uid_of(self.yard, n) == new for n in self.kept)
        for name in self.kept:
            self.back(name)
        self.kept.clear()
        return 0, strays


class LinkOut(Out):
    """A second name outside."""

    name = "link-out"
    group = 1
    looks = 3

    def out(self, name: bytes) -> int:
        return int(calls.link(self.at, name, self.yard, name, 0))

    def back(self, name: bytes) -> None:
        calls.unlink(self.yard, name, 0)


class MoveOut(Out):
    """The only name is outside."""

    name = "move-out"

    def out(self, name: bytes) -> int:
        return int(calls.rename(self.at, name, self.yard, name, 0))

    def back(self, name: bytes) -> None:
        calls.rename(self.yard, name, self.at, name, 0)


class MoveDirectoryOut(Out):
    """Their directory is outside, which their own ctime does not tell."""

    name = "move-dir-out"
    count = 40
    dirs = 4
    each = 12

    def build(self) -> None:
        for i in range(self.dirs):
            self.scene.directory("s", f"d{i}", files=self.each)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.names = [b"d%d" % i for i in range(self.dirs)]
        self.files = [b"f%d" % i for i in range(self.each)]
        self.fds = {n: directory(self.scene.tree, "s", n) for n in self.names}
        self.were: dict[bytes, list[int]] = {}

    def burst(self) -> int:
        rounds = 0
        for name in self.rng.choices(self.names, k=4):
            if name in self.were:
                continue
            calls.rename(self.at, name, self.yard, name, 0)
            were = self._owners(name)
            now = self._owners(name)
            if now == were or self.cells.expect not in were:
                calls.rename(self.yard, name, self.at, name, 0)
            else:
                self.were[name] = were
            rounds += 1
        return rounds or 1

    def _owners(self, name: bytes) -> list[int]:
        fd = self.fds[name]
        return [calls.uid_of(fd, f) for f in self.files]

    def judge(self) -> tuple[int, int]:
        strays = 0
        for name, were in self.were.items():
            both = zip(were, self._owners(name), strict=True)
            strays += sum((a, b) == (self.cells.expect, self.cells.want) for a, b in both)
            calls.rename(self.yard, name, self.at, name, 0)
        self.were.clear()
        return 0, strays
