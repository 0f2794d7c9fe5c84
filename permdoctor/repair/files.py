"""Small files of the journal: each there as a whole or not at all, and locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from permdoctor.kernel.text import printable
from permdoctor.repair.options import CannotRepairError

T = TypeVar("T")

NO_MSGPACK = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be."""


@contextlib.contextmanager
def writing(directory: str) -> Iterator[None]:
    """What can happen there, as our own error."""
    try:
        yield
    except OSError as e:
        hint = "run it as root" if e.errno in (errno.EACCES, errno.EPERM) else None
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room, or set repair.state to another filesystem; nothing was changed"
        raise CannotRepairError(
            f"cannot write the journal in {printable(directory)}: {e.strerror}", hint=hint
        ) from e


def must_be_ours(directory: str) -> None:
    status = os.stat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        ours = f"chown {os.geteuid()} and chmod go-w it, or set repair.state"
        raise CannotRepairError(
            f"{printable(directory)} is not ours alone (uid {status.st_uid}, mode "
            f"{status.st_mode & 0o7777:04o})",
            hint="run it as root, or set repair.state to a directory of yours"
            if os.geteuid() and not status.st_uid
            else ours,
        )


def flock(path: str, kind: int, *, create: bool = True, wait: bool = False) -> int:
    """The locked descriptor, -1 if somebody else holds it; ``wait`` for one who only looks.

    Raises ``OSError``.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    except OSError:
        os.close(fd)
        raise
    return fd


def reserve(directory: str, name: str, size: int) -> None:
    """Room for a small file that is to be stored when the disk may be full."""
    fd = os.open(
        os.path.join(directory, f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        os.posix_fallocate(fd, 0, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def store(directory: str, name: str, value: object) -> None:
    """A small file, as a whole or not at all."""
    aside = os.path.join(directory, f".{name}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        data = msgspec.msgpack.encode(value)
        data = zlib.crc32(data).to_bytes(4, "little") + data
        while data:
            data = data[os.write(fd, data) :]
        os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))  # it may lie in a reserved one
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(aside, os.path.join(directory, name))
    sync_dir(directory)


def load(directory: str, name: str, type_: type[T]) -> T | None:
    """``None`` where there is no such file.  Raises ``CannotRepairError``."""
    shown = f"{printable(directory)}/{name}"
    try:
        with open(os.path.join(directory, name), "rb") as f:
            data = f.read()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise CannotRepairError(f"cannot read {shown}: {e.strerror}") from e
    try:
        if zlib.crc32(data[4:]).to_bytes(4, "little") != data[:4]:
            raise CannotRepairError(f"{shown} is damaged: its checksum is wrong")
        return msgspec.msgpack.decode(data[4:], type=type_)
    except NO_MSGPACK as e:
        raise CannotRepairError(f"{shown} is damaged: {e}") from e


def sync_dir(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
