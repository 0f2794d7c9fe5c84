"""Idmapped bind mounts: open_tree(2), mount_setattr(2), move_mount(2) through ctypes.

The map is that of a throwaway user namespace, held only until the mount is made.  Ids count as
on the *filesystem* (``on_disk``) and as the mount *shows* them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Iterator, Sequence

from tests.lab.filesystems import unmount
from tests.lab.needs import MissingError, need_root

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH, _AT_RECURSIVE, _AT_FDCWD = 0x1000, 0x8000, -100
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOEXEC = 0x1, 0x8
_CLONE_NEWUSER = 0x10000000

Map = Sequence[tuple[int, int, int]]
"""(on disk, shown, count), one for each extent."""

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _syscall(name: str, number: int, *args: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EINVAL):
            raise MissingError(f"{name}: {os.strerror(code)}: no idmapped mounts here")
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


@contextlib.contextmanager
def user_namespace(uids: Map, gids: Map) -> Iterator[int]:
    """A descriptor of a user namespace with these maps: (inside, outside, count)."""
    need_root()
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready_r)
        failed = _libc.unshare(_CLONE_NEWUSER) != 0
        os.write(ready_w, b"n" if failed else b"y")
        os.close(ready_w)
        if not failed:
            signal.pause()
        os._exit(1)
    try:
        os.close(ready_w)
        if os.read(ready_r, 1) != b"y":
            raise MissingError("unshare(CLONE_NEWUSER) is not allowed here")
        for name, extents in (("uid_map", uids), ("gid_map", gids)):
            with open(f"/proc/{pid}/{name}", "w") as f:
                f.write("".join(f"{a} {b} {n}\n" for a, b, n in extents))
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(ready_r)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def idmapped_bind(
    source: str,
    target: str,
    uids: Map,
    gids: Map | None = None,
    *,
    attributes: int = 0,
    recursive: bool = False,
) -> Iterator[str]:
    """Bind ``source`` on the existing ``target`` with an id map; unmounted at the end.

    An extent ``(0, 100000, 10)`` shows the disk's uid 0 as 100000.  ``attributes`` are
    MOUNT_ATTR_* set besides.
    """
    flags = os.O_CLOEXEC | _OPEN_TREE_CLONE | (_AT_RECURSIVE if recursive else 0)
    with user_namespace(uids, uids if gids is None else gids) as userns:
        tree = _syscall("open_tree", _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)
        try:
            attr = _MountAttr(attr_set=_MOUNT_ATTR_IDMAP | attributes, userns_fd=userns)
            how = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
            _syscall(
                "mount_setattr",
                _SYS_MOUNT_SETATTR,
                tree,
                b"",
                how,
                ctypes.byref(attr),
                ctypes.c_size_t(ctypes.sizeof(attr)),
            )
            _syscall(
                "move_mount",
                _SYS_MOVE_MOUNT,
                tree,
                b"",
                _AT_FDCWD,
                os.fsencode(target),
                _MOVE_MOUNT_F_EMPTY_PATH,
            )
        finally:
            os.close(tree)
    try:
        yield target
    finally:
        unmount(target)
