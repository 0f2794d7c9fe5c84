"""Ways to what is watched on the host, for a process that containers must not lead astray.

A path is looked for from the root of the host's first process on: a hardened service has mounts of
its own that hide what containers mount (/tmp, say).  Containers write in these trees, so no symlink
on the way is followed: what one puts there leads neither out of the tree nor, from /proc/1/root,
back into our own mounts (openat2(2), RESOLVE_NO_SYMLINKS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from permdoctor.host import machine, syscalls

_ROOT: Final = (
    syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
)
_BELOW: Final = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_XDEV
"""What is mounted below a root is a root of its own, if a container sees it."""


class HostRoot:
    """The host's filesystem as its first process sees it.  Raises ``OSError``."""

    def __init__(self) -> None:
        root = f"/proc/{machine.FIRST}/root" if machine.has_own_mounts() else "/"
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @contextmanager
    def open(self, path: bytes) -> Iterator[int]:
        """An O_PATH descriptor.  Raises ``OSError``: ELOOP where a symlink is on the way."""
        fd = syscalls.openat2(self._root, path, os.O_PATH, _ROOT)
        try:
            yield fd
        finally:
            os.close(fd)


def open_below(fd: int, name: bytes) -> int:
    """A directory in a directory, on the same mount.  Raises ``OSError``."""
    return syscalls.openat2(fd, name, os.O_PATH | os.O_DIRECTORY, _BELOW)


def way_to(fd: int) -> bytes:
    """The way to exactly what a descriptor holds."""
    return b"/proc/self/fd/%d" % fd


def directories(fd: int) -> Iterator[bytes]:
    """Names of the directories in it; none where it cannot be read."""
    try:
        readable = os.open(way_to(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with os.scandir(readable) as entries:
            yield from (os.fsencode(e.name) for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return
    finally:
        os.close(readable)
