"""One process, held by a descriptor of its /proc directory.

It may die between any two reads; the descriptor never comes to mean another process, and its
start time tells later whether a pid still is the same one.  Dying gives :class:`ProcessGone`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from msgspec import Struct

from permdoctor.errors import CannotCheckError
from permdoctor.kernel.procstatus import ProcStatus, parse_status

PF_KTHREAD = 0x00200000
_GONE = (errno.ENOENT, errno.ESRCH)
_DENIED = (errno.EACCES, errno.EPERM)


class ProcessGone(CannotCheckError):  # noqa: N818 - it is a state of the process
    """The process died, or its pid now belongs to another one."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "if it is restarting, run the check again")


class NotPermitted(CannotCheckError):  # noqa: N818
    """We may not read this of the process."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "run it as root, or as the owner of the process")


class ProcStat(Struct, frozen=True, kw_only=True):
    """Of /proc/PID/stat: ``start`` is field 22 (clock ticks since boot), ``flags`` field 9."""

    state: str
    flags: int
    start: int

    @property
    def has_credentials(self) -> bool:
        """False for kernel threads and for the dead."""
        return not self.flags & PF_KTHREAD and self.state not in "ZXx"


class Proc:
    """One process, held by a descriptor of /proc/PID.  ``start`` identifies it with the pid."""

    def __init__(self, pid: int, start: int | None = None) -> None:
        """Raises ``ProcessGone``, also when ``start`` is given and the pid was used again."""
        self.pid = pid
        with self._errors("open"):
            self.fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.stat = self.read_stat()
        except BaseException:
            self.close()
            raise
        self.start = self.stat.start
        if start is not None and start != self.start:
            self.close()
            raise ProcessGone(f"process {pid} is gone, and its pid belongs to another process")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            if e.errno in _GONE:
                raise ProcessGone(f"process {self.pid} is gone") from e
            if e.errno in _DENIED:
                raise NotPermitted(f"/proc/{self.pid}/{name}: {e.strerror}") from e
            raise CannotCheckError(f"/proc/{self.pid}/{name}: {e.strerror}") from e

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file below /proc/PID; magic links are followed."""
        with self._errors(name):
            return os.open(name, flags | os.O_CLOEXEC, dir_fd=self.fd)

    def read(self, name: str) -> bytes:
        fd = self.open(name)
        with self._errors(name):
            try:
                chunks = []
                while chunk := os.read(fd, 1 << 16):
                    chunks.append(chunk)
                return b"".join(chunks)
            finally:
                os.close(fd)

    def ns_inum(self, kind: str) -> int:
        """The inode of ``/proc/PID/ns/KIND``: the identity of the namespace."""
        with self._errors(f"ns/{kind}"):
            link = os.readlink(f"ns/{kind}", dir_fd=self.fd)
        return int(link.partition("[")[2].rstrip("]"))

    def read_stat(self) -> ProcStat:
        text = self.read("stat")
        fields = text[text.rfind(b")") + 1 :].split()
        if len(fields) < 20:
            raise ProcessGone(f"process {self.pid} is gone")
        return ProcStat(
            state=fields[0].decode("ascii", "replace"),
            flags=int(fields[6]),
            start=int(fields[19]),
        )

    def status(self) -> ProcStatus:
        try:
            return parse_status(self.read("status"))
        except ValueError as e:
            raise ProcessGone(f"process {self.pid} is gone ({e})") from e

    def attr(self) -> str:
        """The LSM label, empty without an LSM that labels (or where it may not be read)."""
        for name in ("attr/apparmor/current", "attr/current"):
            try:
                return self.read(name).rstrip(b"\0\n").decode("utf-8", "backslashreplace")
            except CannotCheckError:
                continue
        return ""

    def cgroups(self) -> dict[bytes, bytes]:
        """The path in each hierarchy of /proc/PID/cgroup; the v2 hierarchy is ``b""``."""
        return parse_cgroups(self.read("cgroup"))


def parse_cgroups(text: bytes) -> dict[bytes, bytes]:
    """/proc/PID/cgroup, as :meth:`Proc.cgroups` gives it."""
    lines = (line.split(b":", 2) for line in text.splitlines())
    return {f[1]: f[2] for f in lines if len(f) == 3}
