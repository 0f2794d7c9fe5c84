"""A disk that loses its power: what was written since its last flush is lost, in part.

One file, ``disk``, served by FUSE from a process of its own, for a loop device to lie on.  Every
write and every flush of the filesystem above comes by here, so the content after a power cut can
be made at any moment: all that was flushed, and of the blocks written since any part, for a
disk's cache writes back in whatever order it likes.  What it does not model: blocks torn within
their 4096 bytes (today's disks write these as a whole), and disks that lie about flushes (unless
told to: ``lying``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from tests.lab.filesystems import unmount
from tests.lab.needs import MissingError, need_root

BLOCK: Final = 4096
_MAX_WRITE = 1 << 20
_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_ATTR = struct.Struct("=6Q10I")
_ROOT, _FILE = 1, 2


class _Op(IntEnum):
    """``enum fuse_opcode`` (``uapi/linux/fuse.h``), as far as a loop device asks."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


_UNANSWERED = (_Op.FORGET, _Op.BATCH_FORGET, _Op.INTERRUPT)
_FUSE_BIG_WRITES, _FUSE_MAX_PAGES, _FOPEN_KEEP_CACHE = 1 << 5, 1 << 22, 2


class _Server:
    """Two copies of the image: what the machine reads, and what is surely on the platter."""

    def __init__(self, fuse: int, image: str, lying: bool) -> None:
        self.fuse, self.lying = fuse, lying
        self.now = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.now).st_size
        self.stable_path = image + ".stable"
        _copy(image, self.stable_path)
        self.stable = os.open(self.stable_path, os.O_RDWR)
        self.pending: list[tuple[int, bytes]] = []
        self.armed: tuple[int, str] | None = None
        """So many writes until the power is cut."""
        self.target = ""
        self.lost = 0

    def serve(self, orders: socket.socket) -> None:
        while True:
            for fd in select.select([self.fuse, orders], [], [])[0]:
                if fd is orders:
                    order = orders.recv(4096)
                    if not order:
                        return
                    orders.send(b"%d" % self.order(*order.decode().split(" ", 2)))
                elif not self._request():
                    return

    def order(self, writes: str, seed: str, target: str) -> int:
        """Cut the power after so many writes (-1: now, if that has not come yet)."""
        if int(writes) >= 0:
            self.armed, self.target, self.lost = (int(writes), seed), target, 0
        elif self.armed is not None:
            self.cut(self.armed[1])
        return self.lost

    def cut(self, seed: str) -> None:
        """The disk after a power cut now."""
        self.armed, self.lost = None, len(self.pending)
        target, rng = self.target, random.Random(seed)
        _copy(self.stable_path, target)
        kept = rng.choice((0.0, 0.5, 0.9, 1.0))
        fd = os.open(target, os.O_WRONLY)
        for offset, data in self.pending:
            at = 0
            while at < len(data):
                size = BLOCK - (offset + at) % BLOCK
                if rng.random() < kept:
                    os.pwrite(fd, data[at : at + size], offset + at)
                at += size
        os.close(fd)

    def _request(self) -> bool:
        try:
            request = os.read(self.fuse, _MAX_WRITE + 4096)
        except OSError as e:
            return e.errno in (errno.EINTR, errno.ENOENT)
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode in _UNANSWERED:
            return True
        error, answer = self._answer(opcode, node, request[_IN.size :])
        with contextlib.suppress(FileNotFoundError):
            os.write(self.fuse, _OUT.pack(_OUT.size + len(answer), -error, unique) + answer)
        return opcode != _Op.DESTROY

    def _answer(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        match opcode:
            case _Op.INIT:
                (readahead,) = struct.unpack_from("=8xI", body)
                flags = _FUSE_BIG_WRITES | _FUSE_MAX_PAGES
                more = (16, 12, _MAX_WRITE, 1, _MAX_WRITE >> 12, 0, 0, 0)
                return 0, struct.pack("=4IHHIIHHII24x", 7, 31, readahead, flags, *more)
            case _Op.LOOKUP:
                if body.rstrip(b"\0") != b"disk":
                    return errno.ENOENT, b""
                return 0, struct.pack("=4QII", _FILE, 0, 3600, 3600, 0, 0) + self._attr(_FILE)
            case _Op.GETATTR | _Op.SETATTR:
                return 0, struct.pack("=QII", 3600, 0, 0) + self._attr(node)
            case _Op.OPEN:
                return 0, struct.pack("=QIi", 0, _FOPEN_KEEP_CACHE, 0)
            case _Op.READ:
                offset, size = struct.unpack_from("=8xQI", body)
                return 0, os.pread(self.now, size, offset)
            case _Op.WRITE:
                offset, size = struct.unpack_from("=8xQI", body)
                data = body[40 : 40 + size]
                os.pwrite(self.now, data, offset)
                self.pending.append((offset, data))
                if self.armed is not None:
                    left, seed = self.armed
                    self.armed = (left - 1, seed)
                    if not left:
                        self.cut(seed)
                return 0, struct.pack("=II", size, 0)
            case _Op.FSYNC:
                self._flush()
                return 0, b""
            case _Op.RELEASE | _Op.FLUSH | _Op.DESTROY:
                return 0, b""
        return errno.ENOSYS, b""

    def _flush(self) -> None:
        if self.lying:
            return
        for offset, data in self.pending:
            os.pwrite(self.stable, data, offset)
        self.pending.clear()

    def _attr(self, node: int) -> bytes:
        mode, size = (0o040755, 0) if node == _ROOT else (0o100600, self.size)
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class Disk:
    """``path`` is the file to mount with ``-o loop``."""

    def __init__(self, path: str, orders: socket.socket) -> None:
        self.path, self._orders = path, orders

    def arm(self, target: str, seed: int, writes: int) -> None:
        """The power goes after so many writes more; ``target`` will be what is on the disk."""
        self._order(f"{writes} {seed} {target}")

    def cut(self) -> int:
        """It goes now, if it has not yet.

        Returns the number of writes that were not flushed then, of which a part is lost.
        """
        return self._order("-1 0 ")

    def _order(self, order: str) -> int:
        self._orders.send(order.encode())
        return int(self._orders.recv(64))


@contextlib.contextmanager
def disk(image: str, mountpoint: str, *, lying: bool = False) -> Iterator[Disk]:
    """Serve the existing ``image`` below the directory ``mountpoint``.

    ``lying``: flushes are only said to be done.
    """
    need_root()
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError as e:
        raise MissingError(f"needs /dev/fuse: {e.strerror}") from e
    ours, theirs = socket.socketpair()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"disk", mountpoint.encode(), b"fuse", 0, options):
        raise MissingError(f"cannot mount FUSE here: {os.strerror(ctypes.get_errno())}")
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _Server(fuse, image, lying).serve(theirs)
        finally:
            os._exit(0)
    os.close(fuse)
    theirs.close()
    try:
        yield Disk(os.path.join(mountpoint, "disk"), ours)
    finally:
        unmount(mountpoint)
        ours.close()
        os.waitpid(pid, 0)


def _copy(source: str, target: str) -> None:
    """Holes stay holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
