"""The child that does what the model was asked about.

It lives in one user namespace, holds all capabilities there in its permitted set, and for each
case takes exactly the subject's ids, groups and effective capabilities.  It holds the mounts by
descriptor (its working directory is the first one's root), so nothing outside them takes part.
The answer to each case is the errno, 0 for success; some operations answer a tuple of facts.
"""

from __future__ import annotations

import array
import errno
import marshal
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from tests.differential import syscalls

HEADER = struct.Struct("<I")

Credentials = tuple[int, int, int, int, int, int, tuple[int, ...], int]
"""ruid, euid, fsuid, rgid, egid, fsgid (all ids of this namespace), groups, effective set."""

Answer = Any
"""An errno, or a tuple of facts (``marshal`` carries both)."""


class Executor:
    """One process's loop.  ``roots`` are the descriptors of the two mounts."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.permitted = syscalls.permitted()
        self.roots: list[int] = []

    def serve(self) -> None:
        """Until the other end closes."""
        while True:
            message = receive(self.sock)
            if message is None:
                return
            payload, fds = message
            self._take_roots(fds)
            send(self.sock, marshal.dumps([self._do(*case) for case in marshal.loads(payload)]))

    def _take_roots(self, fds: list[int]) -> None:
        syscalls.set_effective(self.permitted, self.permitted)
        for old in self.roots:
            os.close(old)
        self.roots = fds
        os.fchdir(fds[0])

    def _do(self, credentials: Credentials | None, name: str, args: tuple[Any, ...]) -> Answer:
        if credentials is not None:
            self._become(credentials)
        try:
            return OPERATIONS[name](self.roots, *args)
        except OSError as e:
            return e.errno

    def _become(self, credentials: Credentials) -> None:
        ruid, euid, fsuid, rgid, egid, fsgid, groups, effective = credentials
        syscalls.set_effective(self.permitted, self.permitted)
        os.setgroups(groups)
        os.setresgid(rgid, egid, egid)
        os.setresuid(ruid, euid, euid)
        syscalls.setfsids(fsuid, fsgid)
        syscalls.set_effective(effective, self.permitted)


Roots = list[int]


def _open(roots: Roots, path: bytes, flags: int) -> int:
    """ENXIO (a FIFO without a reader, a socket) comes after every permission: success."""
    try:
        os.close(os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as e:
        return 0 if e.errno == errno.ENXIO else e.errno or 0
    return 0


def _create(roots: Roots, path: bytes, flags: int, mode: int, umask: int) -> int:
    os.umask(umask)
    os.close(os.open(path, flags | os.O_CREAT, mode))
    return 0


def _mkdir(roots: Roots, path: bytes, mode: int, umask: int) -> int:
    os.umask(umask)
    os.mkdir(path, mode)
    return 0


def _mknod(roots: Roots, path: bytes, mode: int, umask: int) -> int:
    os.umask(umask)
    os.mknod(path, mode)
    return 0


def _symlink(roots: Roots, path: bytes) -> int:
    os.symlink(b"nowhere", path)
    return 0


def _unlink(roots: Roots, path: bytes) -> int:
    os.unlink(path)
    return 0


def _rmdir(roots: Roots, path: bytes) -> int:
    os.rmdir(path)
    return 0


def _rename(roots: Roots, old: bytes, new: bytes, new_root: int) -> int:
    os.rename(old, new, src_dir_fd=roots[0], dst_dir_fd=roots[new_root])
    return 0


def _link(roots: Roots, old: bytes, new: bytes, old_root: int) -> int:
    os.link(old, new, src_dir_fd=roots[old_root], dst_dir_fd=roots[0], follow_symlinks=False)
    return 0


def _chmod(roots: Roots, path: bytes, mode: int, is_link: bool) -> int:
    if is_link:
        return syscalls.fchmodat2(path, mode)
    os.chmod(path, mode)
    return 0


def _chown(roots: Roots, path: bytes, uid: int, gid: int) -> int:
    os.lchown(path, uid, gid)
    return 0


def _utimes(roots: Roots, path: bytes, to_now: bool) -> int:
    os.utime(path, None if to_now else (1, 1), follow_symlinks=False)
    return 0


def _set_acl(roots: Roots, path: bytes, name: str, value: bytes) -> int:
    os.setxattr(path, name, value, follow_symlinks=False)
    return 0


def _execute(roots: Roots, path: bytes) -> int:
    code = syscalls.execveat(path)
    return 0 if code == errno.ENOEXEC else code


def _stat(roots: Roots, path: bytes) -> Answer:
    st = os.lstat(path)
    return (st.st_uid, st.st_gid, st.st_mode & 0o7777)


OPERATIONS: dict[str, Callable[..., Answer]] = {
    "access": lambda roots, path, mode: syscalls.faccessat2(path, mode),
    "walk": lambda roots, path, nofollow: syscalls.resolve_in_root(roots[0], path, nofollow),
    "open": _open,
    "create": _create,
    "mkdir": _mkdir,
    "mknod": _mknod,
    "symlink": _symlink,
    "unlink": _unlink,
    "rmdir": _rmdir,
    "rename": _rename,
    "link": _link,
    "chmod": _chmod,
    "chown": _chown,
    "utimes": _utimes,
    "set_acl": _set_acl,
    "execute": _execute,
    "stat": _stat,
}


def send(sock: socket.socket, payload: bytes, fds: tuple[int, ...] = ()) -> None:
    header = HEADER.pack(len(payload))
    if fds:
        packed = array.array("i", fds).tobytes()
        sock.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
    else:
        sock.sendall(header)
    sock.sendall(payload)


def receive(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """One message and the descriptors that came with it; ``None`` at the end."""
    header, fds, _, _ = socket.recv_fds(sock, HEADER.size, 2)
    if not header:
        return None
    while len(header) < HEADER.size:
        header += sock.recv(HEADER.size - len(header))
    length = HEADER.unpack(header)[0]
    payload = bytearray()
    while len(payload) < length:
        chunk = sock.recv(length - len(payload))
        if not chunk:
            return None
        payload += chunk
    return bytes(payload), fds
