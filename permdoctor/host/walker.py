"""A path, one component after the other, as ``link_path_walk`` (``fs/namei.c``) would go.

Every component is opened O_PATH without following; symlinks are followed here, below the view's
root, and ``..`` at the root stays there.  Links of /proc that are more than their text
(``/proc/PID/root``) are followed as text.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from msgspec.structs import replace

from permdoctor.diagnosis.facts import Walk
from permdoctor.errors import CannotCheckError
from permdoctor.host import syscalls
from permdoctor.host.process import NotPermitted, ProcessGone
from permdoctor.kernel.text import printable
from permdoctor.kernel.walk import MAXSYMLINKS, Hop

if TYPE_CHECKING:
    from permdoctor.host.view import View

IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_PATH = os.O_PATH | os.O_CLOEXEC
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class Walker:
    """One walk.  ``fd`` is the directory that the next component is looked up in."""

    def __init__(self, view: View, path: bytes, follow: bool) -> None:
        self.view = view
        self.path = path
        self.follow = follow or path.endswith(b"/")
        self.fd = -1
        self.at = b"/"
        self.todo: list[bytes] = _components(path)
        self.hops: list[Hop] = []
        self.links = 0
        self.last: syscalls.Stat | None = None

    def walk(self) -> Walk:
        missing: bytes | None = None
        try:
            self._to_root()
            while self.todo and missing is None:
                missing = self._step(self.todo.pop())
            if missing is not None and self.hops[-1].link is not None:
                self._arrive(self.fd, syscalls.statx(self.fd))  # where it would be made
        except OSError as e:
            raise cannot(self.path, e) from e
        except ValueError as e:
            raise CannotCheckError(f"{printable(self.path)}: {e}") from e
        finally:
            self._hold(-1)
        dev, ino = (0, 0) if self.last is None else (self.last.dev, self.last.ino)
        return Walk(
            path=self.path,
            hops=tuple(self.hops),
            missing=missing,
            beyond=missing is not None and bool(self.todo),
            dev=dev,
            ino=ino,
        )

    def _hold(self, fd: int) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd

    def _to_root(self) -> None:
        self.at = b"/"
        self._hold(os.dup(self.view.root_fd))
        self._arrive(self.fd, syscalls.statx(self.fd))

    def _arrive(self, fd: int, st: syscalls.Stat, **more: bytes | bool) -> None:
        mount = self.view.mount_of_fd(fd, st)
        hop = self.view.inode_of_fd(fd, st, mount)
        root = bool(st.attributes & syscalls.STATX_ATTR_MOUNT_ROOT)
        self.hops.append(replace(hop, path=self.at, mount_root=root, **more))
        self.last = st

    def _step(self, name: bytes) -> bytes | None:
        """One component.  Returns it as a path if it is missing."""
        if not self.hops[-1].inode.is_dir and self.hops[-1].link is None:
            return self._below(name)
        if name == b"..":
            self._up()
            return None
        if name == b".":
            self._arrive(self.fd, syscalls.statx(self.fd))
            return None
        try:
            fd = os.open(name, _PATH | os.O_NOFOLLOW, dir_fd=self.fd)
        except OSError as e:
            if e.errno not in _MISSING:
                raise
            return self._below(name)
        st = syscalls.statx(fd)
        if stat.S_ISLNK(st.mode) and (self.todo or self.follow):
            try:
                return self._link(fd, st, name)
            finally:
                os.close(fd)
        self.at = self._below(name)
        self._hold(fd)
        self._arrive(fd, st)
        return None

    def _below(self, name: bytes) -> bytes:
        return self.at.rstrip(b"/") + b"/" + name

    def _link(self, fd: int, st: syscalls.Stat, name: bytes) -> bytes | None:
        """Follow a symlink: its body is walked from here, or from the root."""
        try:
            body = os.readlink(b"", dir_fd=fd)
        except FileNotFoundError:  # a link of /proc that shows nothing to us
            return self._below(name)
        here, self.at = self.at, self._below(name)
        self._arrive(fd, st, link=body, trailing=not self.todo)
        self.at = here
        self.links += 1
        if self.links > MAXSYMLINKS:
            self.todo.clear()
            return None
        self.todo.extend(_components(body))
        if body.startswith(b"/"):
            self._to_root()
        return None

    def _up(self) -> None:
        """``..``: the directory above on the resolved path, opened again from the root."""
        above = self.at.rpartition(b"/")[0] or b"/"
        resolve = IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
        fd = syscalls.openat2(self.view.root_fd, above, os.O_PATH | os.O_DIRECTORY, resolve)
        self.at = above
        self._hold(fd)
        self._arrive(fd, syscalls.statx(fd))


def _components(path: bytes) -> list[bytes]:
    """In reverse: the next one is popped from the end.  ``.`` counts only as the last."""
    names = [c for c in path.split(b"/") if c]
    return [c for i, c in reversed(list(enumerate(names, 1))) if c != b"." or i == len(names)]


def cannot(path: bytes, e: OSError) -> CannotCheckError:
    message = f"{printable(path)}: {e.strerror}"
    if e.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(message, hint="run it as root: the path is closed to us")
    if e.errno == errno.ESRCH:
        return ProcessGone(message)
    return CannotCheckError(message)
