"""Fixers as one would write them at first.  Each is led out of the tree by the attack meant for it.

They show that the attackers bite: a test that passes for ``ours`` means something only if it fails
for these.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from tests.repair.attack import calls


class Fixer(Protocol):
    """Gives the tree to a uid: looks, and then changes.  ``apply`` answers how many it changed."""

    name: str
    can_undo: bool

    def survey(self, tree: str, want: int) -> None: ...

    def apply(self) -> int: ...

    def undo(self) -> int: ...


class _OneGo:
    name = ""
    can_undo = False

    def survey(self, tree: str, want: int) -> None:
        self.tree, self.want = tree, want

    def apply(self) -> int:
        count = 0
        for _ in self._each():
            count += 1
        return count

    def undo(self) -> int:
        raise NotImplementedError

    def _each(self) -> Iterator[None]:
        raise NotImplementedError


class ByPath(_OneGo):
    """``chown -R`` written with ``os.walk`` and ``os.chown``."""

    name = "naive-path"

    def _each(self) -> Iterator[None]:
        for at, _, files in os.walk(self.tree):
            for path in (*(os.path.join(at, f) for f in files), at):
                with contextlib.suppress(OSError):
                    os.chown(path, self.want, self.want)
                    yield


class LstatLchown(_OneGo):
    """Looks before it leaps, and never follows the last component."""

    name = "naive-lstat"

    def _each(self) -> Iterator[None]:
        for at, _, files in os.walk(self.tree):
            for path in (*(os.path.join(at, f) for f in files), at):
                with contextlib.suppress(OSError):
                    now = os.lstat(path)
                    if not _plain(now) or now.st_uid == self.want:
                        continue
                    os.lchown(path, self.want, self.want)
                    yield


class DotDot(_OneGo):
    """Goes down by name without following links, and up by ``..``."""

    name = "naive-dotdot"

    def _each(self) -> Iterator[None]:
        try:
            os.chdir(self.tree)
            yield from self._here(0)
        except OSError:
            return
        finally:
            os.chdir("/")

    def _here(self, depth: int) -> Iterator[None]:
        names = sorted(os.listdir("."))
        for name in names:
            with contextlib.suppress(OSError):
                fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                os.fchdir(fd)
                os.close(fd)
                if depth < 40:
                    yield from self._here(depth + 1)
                os.chdir("..")
        for name in names:
            with contextlib.suppress(OSError):
                now = os.lstat(name)
                if _plain(now) and now.st_uid != self.want:
                    os.lchown(name, self.want, self.want)
                    yield


class ByDescriptor(_OneGo):
    """Everything by descriptor, on one device, and no file with a second link: a directory's
    entries are opened and looked at, and then changed.
    """

    name = "naive-nlink"

    def _each(self) -> Iterator[None]:
        where, name = os.path.split(self.tree)
        top = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield from self._entries(top, [name], os.fstat(top).st_dev, 0)
        finally:
            os.close(top)

    def _entries(self, at: int, names: list[str], dev: int, depth: int) -> Iterator[None]:
        held = [fd for fd in (_hold(at, name, dev) for name in names) if fd >= 0]
        try:
            for fd in held:
                if _dir(os.fstat(fd)) and depth < 40:
                    yield from self._below(fd, dev, depth)
            for fd in held:
                if not calls.fchownat(fd, b"", self.want, self.want, calls.EMPTY_PATH):
                    yield
        finally:
            for fd in held:
                os.close(fd)

    def _below(self, fd: int, dev: int, depth: int) -> Iterator[None]:
        with contextlib.suppress(OSError):
            at = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            try:
                yield from self._entries(at, os.listdir(at), dev, depth + 1)
            finally:
                os.close(at)


def _hold(at: int, name: str, dev: int) -> int:
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=at)
    except OSError:
        return -1
    now = os.fstat(fd)
    if _plain(now) and now.st_dev == dev and (_dir(now) or now.st_nlink == 1):
        return fd
    os.close(fd)
    return -1


class KeepMode(_OneGo):
    """Knows that chown drops set-id bits, and puts them back."""

    name = "naive-keep-mode"

    def _each(self) -> Iterator[None]:
        for at, _, files in os.walk(self.tree):
            for path in (*(os.path.join(at, f) for f in files), at):
                with contextlib.suppress(OSError):
                    now = os.lstat(path)
                    os.lchown(path, self.want, self.want)
                    os.chmod(path, stat.S_IMODE(now.st_mode))
                    yield


class ByNumber:
    """A plan that knows its files by their inode number, carried out (and undone) later."""

    name = "naive-number"
    can_undo = True

    def survey(self, tree: str, want: int) -> None:
        self.plan: list[tuple[str, int, int, int]] = []
        for at, _, files in os.walk(tree):
            for path in (*(os.path.join(at, f) for f in files), at):
                with contextlib.suppress(OSError):
                    now = os.lstat(path)
                    if _plain(now) and now.st_uid != want and (_dir(now) or now.st_nlink == 1):
                        self.plan.append((path, now.st_ino, now.st_uid, want))

    def apply(self) -> int:
        return sum(self._change(path, ino, was, want) for path, ino, was, want in self.plan)

    def undo(self) -> int:
        return sum(self._change(path, ino, want, was) for path, ino, was, want in self.plan)

    def _change(self, path: str, ino: int, was: int, want: int) -> bool:
        try:
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            now = os.fstat(fd)
            if (now.st_ino, now.st_uid) != (ino, was):
                return False
            return not calls.fchownat(fd, b"", want, want, calls.EMPTY_PATH)
        finally:
            os.close(fd)


def _plain(now: os.stat_result) -> bool:
    return stat.S_ISREG(now.st_mode) or _dir(now)


def _dir(now: os.stat_result) -> bool:
    return stat.S_ISDIR(now.st_mode)


NAIVE = (ByPath, LstatLchown, DotDot, ByDescriptor, KeepMode, ByNumber)
