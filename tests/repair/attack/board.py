"""The scene for moves between two calls of a repair, the moves, and what must not change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.repair.attack import calls
from tests.repair.attack.calls import Stat
from tests.repair.attack.cells import Cells
from tests.repair.attack.scene import FIRST, FOREIGN, Scene, fill


@dataclass
class Move:
    """Something dangerous, and the way back from it.  Both may fail."""

    name: str
    on: Callable[[], object]
    off: Callable[[], object]
    is_on: bool = False

    def toggle(self) -> None:
        with contextlib.suppress(OSError):
            (self.off if self.is_on else self.on)()
            self.is_on = not self.is_on


class Board:
    """The scene, the moves on it, and what is known of every inode that must not change."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.owner = FIRST
        self.cells = Cells()
        self.newcomers: dict[str, tuple[int, Stat]] = {}
        self.outside: dict[str, tuple[int, int]] = {}
        """Files of the tree that are out of it: a descriptor, and their owner at that time."""
        self.h = scene.directory("h", files=6)
        scene.directory("d", files=3)
        scene.directory("m", "n", files=2)
        self.foreign = scene.foreign("h", files=2)
        scene.foreign("d", files=3)
        self.fake = scene.foreign("fake", files=2)
        os.mkfifo(os.path.join(self.h, "p"))
        os.chown(os.path.join(self.h, "p"), FOREIGN, FOREIGN)
        scene.watch(os.path.join(self.h, "p"), still=True)
        os.symlink(os.path.join(scene.outside, "d"), os.path.join(scene.tree, "l"))
        for up in (scene.yard, scene.root):
            scene.watch(*(os.path.join(up, n) for n in fill(up, 3, FOREIGN)), still=True)
        self.moves = list(self._moves())

    def _moves(self) -> Iterator[Move]:
        tree, yard, h = self.scene.tree, self.scene.yard, self.h
        f, x = f"{self.foreign}/f0", f"{h}/x"
        yield Move("link in", lambda: os.link(f, x), lambda: os.unlink(x))
        g, y, f0 = f"{self.foreign}/f1", f"{h}/y", f"{h}/f0"
        yield Move("link over", lambda: _link_over(g, y, f0), lambda: os.rename(y, f0))
        yield _exchange("symlink", f"{tree}/d", f"{tree}/l")
        yield _exchange("fifo", f"{h}/f1", f"{h}/p")
        yield _exchange("root", tree, self.fake)
        yield Move(
            "mount",
            lambda: bind(f"{self.scene.outside}/d", f"{tree}/d"),
            lambda: calls.must(calls.umount(f"{tree}/d".encode(), calls.MNT_DETACH)),
        )
        yield self._out("directory out", f"{tree}/m", f"{yard}/m", "n/f0", os.rename)
        yield self._out("file out", f"{h}/f2", f"{yard}/x2", "", os.rename)
        yield self._out("link out", f"{h}/f3", f"{yard}/x3", "", os.link)
        yield Move("newcomer", lambda: self._replace(f"{h}/f4"), lambda: None)

    def _out(
        self, name: str, here: str, there: str, file: str, move: Callable[[str, str], None]
    ) -> Move:
        def on() -> None:
            move(here, there)
            fd = os.open(os.path.join(there, file) if file else there, os.O_PATH)
            self.outside[name] = (fd, os.fstat(fd).st_uid)

        def off() -> None:
            if move is os.link:
                os.unlink(there)
            else:
                move(there, here)
            os.close(self.outside.pop(name)[0])

        return Move(name, on, off)

    def _replace(self, path: str) -> None:
        os.unlink(path)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.fchown(fd, self.owner, self.owner)
        made = calls.stat(fd)
        assert made is not None
        if path in self.newcomers:
            os.close(self.newcomers.pop(path)[0])
        if self.cells.busy:  # the survey is over: no plan knows it
            self.newcomers[path] = (fd, made)
        else:
            os.close(fd)

    def check(self) -> list[str]:
        """What the repair changed since :meth:`accept`."""
        bad = [c.path for c in self.scene.canaries if not c.check()]
        bad += [p for p, (fd, made) in self.newcomers.items() if not _same(fd, made)]
        return bad

    def accept(self) -> None:
        """Everything is now as this side made it: a name more or less, a new ctime."""
        for canary in self.scene.canaries:
            now = calls.stat(canary.fd)
            assert now is not None
            canary.was = now

    def strays(self, new: int) -> list[str]:
        """What went out before it was changed, and stayed changed."""
        return [
            name
            for name, (fd, was) in self.outside.items()
            if was == self.owner != os.fstat(fd).st_uid == new
        ]

    def give_to(self, owner: int) -> None:
        """The whole tree, for the next repair."""
        self.owner = owner
        for at, _, files in os.walk(self.scene.tree):
            for path in (at, *(os.path.join(at, n) for n in files)):
                if os.lstat(path).st_uid != FOREIGN and not os.path.islink(path):
                    os.lchown(path, owner, owner)
        self.accept()

    def settle(self) -> None:
        for move in self.moves:
            if move.is_on:
                move.toggle()
        for fd, _ in self.newcomers.values():
            os.close(fd)
        self.newcomers.clear()
        self.accept()


def _same(fd: int, made: Stat) -> bool:
    now = calls.stat(fd)
    return now is not None and now.nlink in (0, made.nlink) and (now.nlink == 0 or now == made)


def _link_over(foreign: str, aside: str, name: str) -> None:
    os.link(foreign, aside)
    swap(aside, name)


def _exchange(name: str, a: str, b: str) -> Move:
    return Move(name, lambda: swap(a, b), lambda: swap(a, b))


def swap(a: str, b: str) -> None:
    calls.must(calls.swap(calls.AT_FDCWD, a.encode(), calls.AT_FDCWD, b.encode()))


def bind(what: str, where: str) -> None:
    calls.must(calls.mount(what.encode(), where.encode(), None, calls.MS_BIND, None))
