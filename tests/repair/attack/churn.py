"""Attackers that replace files, make them set-id, and are a nuisance."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import struct

from tests.repair.attack import calls
from tests.repair.attack.attack import Attack, directory
from tests.repair.attack.cells import Cells
from tests.repair.attack.scene import ACL


class Reuse(Attack):
    """After the survey files are deleted and made anew, with the old number and the old owner: a
    newcomer must stay as it was made.
    """

    name = "reuse"
    naive = ("naive-number",)
    apply_only = True
    not_on = ("tmpfs", "btrfs")
    count = 24

    def build(self) -> None:
        self.scene.directory("r", files=self.count)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.at = directory(self.scene.tree, "r")
        self.names = [b"f%d" % i for i in range(self.count)]
        self.new: dict[bytes, calls.Stat] = {}
        self.escapes = 0

    def burst(self) -> int:
        owner = self.cells.expect
        names = self.rng.sample(self.names, k=6)
        for name in names:
            self._look(name)
            calls.unlink(self.at, name, 0)
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=self.at))
            calls.fchownat(self.at, name, owner, owner, calls.NOFOLLOW)
            made = calls.stat(self.at, name)
            assert made is not None
            self.new[name] = made
        return len(names)

    def _look(self, name: bytes) -> None:
        made, now = self.new.pop(name, None), calls.stat(self.at, name)
        self.escapes += made is not None and now != made

    def settle(self) -> None:
        for name in list(self.new):
            self._look(name)

    def judge(self) -> tuple[int, int]:
        escapes, self.escapes = self.escapes, 0
        return escapes, 0


class SetId(Attack):
    """The owner of a file makes it set-uid while it is given to somebody else: nobody must get a
    set-id file that he did not make.
    """

    name = "set-id"
    naive = ("naive-keep-mode",)
    apply_only = True
    count = 24

    def build(self) -> None:
        self.scene.directory("s", files=self.count)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        os.chmod(os.path.join(self.scene.tree, "s"), 0o755)
        self.at = os.open(os.path.join(self.scene.tree, "s"), os.O_RDONLY)
        self.names = [b"f%d" % i for i in range(self.count)]
        self.setfsuid = ctypes.PyDLL(None)["setfsuid"]

    def burst(self) -> int:
        self.setfsuid(self.cells.expect)
        names = self.rng.sample(self.names, k=12)
        for name in names:
            with contextlib.suppress(OSError):
                os.chmod(name, 0o4755, dir_fd=self.at)
                os.chmod(name, self.rng.choice((0o644, 0o4755)), dir_fd=self.at)
        self.setfsuid(0)
        return len(names)

    def settle(self) -> None:
        """``judge`` does."""

    def judge(self) -> tuple[int, int]:
        escapes = 0
        for name in self.names:
            now = calls.stat(self.at, name)
            assert now is not None
            escapes += bool(now.mode & 0o6000) and now.uid != self.cells.expect
            os.chmod(name, 0o644, dir_fd=self.at)
        return escapes, 0


class Touch(Attack):
    """Nothing but change times that are always fresh: the repair must not wait for each of them."""

    name = "touch"
    apply_only = True
    count = 400

    def build(self) -> None:
        self.scene.directory("t", files=self.count)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.at = directory(self.scene.tree, "t")
        self.names = [b"f%d" % i for i in range(self.count)]

    def burst(self) -> int:
        for name in self.names:
            calls.fchownat(self.at, name, -1, -1, calls.NOFOLLOW)
        return self.count

    def settle(self) -> None:
        """Nothing is dangerous."""


class Churn(Attack):
    """Everything at once that is only a nuisance: names of any byte, ACLs and xattrs as large as
    they get, directories that come, go and are replaced, a chain of 200 levels that moves.
    """

    name = "churn"
    naive = ()
    levels = 200

    def build(self) -> None:
        self.scene.foreign("d", files=6)
        chain = "/".join(["n"] * self.levels)
        self.scene.directory("deep", chain, files=2)
        self.scene.directory("churn", "keep", files=24)

    def arm(self, cells: Cells, rng: random.Random) -> None:
        super().arm(cells, rng)
        self.at = directory(self.scene.tree, "churn")
        self.path = b"/proc/self/fd/%d/" % self.at
        self.bomb = b"".join(
            (struct.pack("<I", 2), _entry(1, 6), *(_entry(2, 7, 10_000 + i) for i in range(480)),
             _entry(4, 4), _entry(0x10, 7), _entry(0x20, 4))
        )  # fmt: skip

    def burst(self) -> int:
        rng = self.rng
        for _ in range(8):
            name = rng.randbytes(rng.randint(1, 24)).replace(b"/", b"\n").replace(b"\0", b"\x1b[2J")
            name = b"n" + name
            with contextlib.suppress(OSError):
                self._one(name, rng.randrange(6))
        return 8

    def _one(self, name: bytes, kind: int) -> None:
        path = self.path + name
        match kind:
            case 0:
                os.mkdir(path)
                os.mkdir(path + b"/sub")
                os.rename(path + b"/sub", self.path + b"sub")
                os.rmdir(path)
                os.rmdir(self.path + b"sub")
            case 1:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                os.setxattr(path, ACL, self.bomb)
                os.setxattr(path, b"user.x", b"x" * 2000)
                os.unlink(path)
            case 2:
                keep = self.path + b"keep/f%d" % self.rng.randrange(24)
                os.setxattr(keep, ACL, self.bomb)
                os.removexattr(keep, ACL)
            case 3:
                deep = os.fsencode(self.scene.tree) + b"/deep"
                os.rename(deep + b"/n/n", self.path + b"n")
                os.rename(self.path + b"n", deep + b"/n/n")
            case 4:
                os.symlink(os.fsencode(self.scene.outside) + b"/d", path)
                os.unlink(path)
            case _:
                keep = self.path + b"keep"
                os.rename(keep, path)
                os.mkdir(keep)
                calls.swap(calls.AT_FDCWD, keep, calls.AT_FDCWD, path)
                os.rmdir(path)

    def settle(self) -> None:
        """Each round ends where it began."""


def _entry(tag: int, perm: int, id_: int = 0xFFFFFFFF) -> bytes:
    return struct.pack("<HHI", tag, perm, id_)
