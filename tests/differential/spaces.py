"""User namespaces with a process of ours in each, and the id maps for mounts.

A :class:`Space` is one namespace: its maps in host ids, what the model calls it, the executor
that lives in it, and a tmpfs mounted in it (whose ``s_user_ns`` it is).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NoReturn

from permdoctor.kernel.ids import INITIAL, Extent, IdMap, Kuid, UserNs
from permdoctor.kernel.mount import MountIdMap
from permdoctor.kernel.procstatus import parse_id_map
from tests.differential import ids, syscalls
from tests.differential.executor import Executor, receive, send
from tests.differential.ids import Extents


def id_map(extents: Extents) -> IdMap:
    """The model's form of a map."""
    return IdMap(tuple(Extent(inside=i, outside=o, count=n) for i, o, n in extents))


@dataclass(frozen=True, slots=True)
class Space:
    """``uids`` and ``gids`` map inside ids to host ids.  ``tmpfs`` is a detached mount.

    ``pid`` is the process to wait for after ``close``.
    """

    userns: UserNs
    uids: Extents
    gids: Extents
    sock: socket.socket
    pid: int
    tmpfs: int | None

    def ask(self, payload: bytes, roots: tuple[int, ...]) -> bytes:
        """Let the executor do what ``payload`` says, on these mounts."""
        send(self.sock, payload, roots)
        return _answer(self.sock)[0]

    def close(self) -> None:
        """The executor ends when its socket does."""
        self.sock.close()
        if self.tmpfs is not None:
            os.close(self.tmpfs)
        os.waitpid(self.pid, 0)


def initial() -> Space:
    """An executor in the initial namespace."""

    def child(sock: socket.socket) -> None:
        syscalls.keep_caps_when_ids_change()
        Executor(sock).serve()

    pid, sock = _fork(child)
    return Space(INITIAL, ids.IDENTITY, ids.IDENTITY, sock, pid, None)


def child_of_initial(rng: Random) -> Space:
    """A namespace of the kind containers live in."""
    uids, gids = ids.draw_pair(rng)
    owner = rng.choice((0, 0, 1000, 1001))

    def child(sock: socket.socket) -> None:
        _enter(sock, owner, owner)
        _serve_with_tmpfs(sock)

    pid, sock = _fork(child)
    _answer(sock)
    _write_maps(pid, uids, gids)
    return _space(INITIAL, Kuid(owner), uids, gids, sock, pid, pid)


def grandchild_of_initial(rng: Random) -> Space:
    """A namespace in a namespace: a process of the outer one writes the inner one's maps."""
    outer_uids, outer_gids = ids.draw_pair(rng)
    uids, gids = ids.beneath(outer_uids, rng), ids.beneath(outer_gids, rng)
    owner, group = rng.choice(ids.mapped(outer_uids)), rng.choice(ids.mapped(outer_gids))

    def inner(sock: socket.socket) -> None:
        _enter(sock, owner, group)
        _serve_with_tmpfs(sock)

    def outer(sock: socket.socket) -> None:
        _enter(sock, 0, 0)
        pid, inner_sock = _fork(inner)
        _answer(inner_sock)
        _write_maps(pid, uids, gids)
        send(sock, b"%d" % pid, (inner_sock.fileno(),))
        inner_sock.close()
        os.waitpid(pid, 0)

    pid, sock = _fork(outer)
    _answer(sock)
    _write_maps(pid, outer_uids, outer_gids)
    outer_ns = UserNs(
        inum=_inum(pid),
        uids=id_map(outer_uids),
        gids=id_map(outer_gids),
        parent=INITIAL,
        owner=Kuid(0),
    )
    send(sock, b"mapped")
    inner_pid, fds = _answer(sock)
    sock.close()
    host_owner = ids.outside(outer_uids, owner)
    assert host_owner is not None
    return _space(
        outer_ns,
        Kuid(host_owner),
        ids.compose(uids, outer_uids),
        ids.compose(gids, outer_gids),
        socket.socket(fileno=fds[0]),
        pid,
        int(inner_pid),
    )


def _space(
    parent: UserNs,
    owner: Kuid,
    uids: Extents,
    gids: Extents,
    sock: socket.socket,
    pid: int,
    lives_in: int,
) -> Space:
    """What is there once the maps are written.  /proc must say the same, in host ids."""
    for name, extents in (("uid_map", uids), ("gid_map", gids)):
        with open(f"/proc/{lives_in}/{name}", "rb") as f:
            there = parse_id_map(f.read())
        assert set(there.extents) == set(id_map(extents).extents), (name, there, extents)
    userns = UserNs(
        inum=_inum(lives_in), uids=id_map(uids), gids=id_map(gids), parent=parent, owner=owner
    )
    send(sock, b"mapped")
    return Space(userns, uids, gids, sock, pid, _answer(sock)[1][0])


def _inum(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/user").st_ino


def _answer(sock: socket.socket) -> tuple[bytes, list[int]]:
    answer = receive(sock)
    if answer is None:
        raise RuntimeError("an executor died")
    return answer


def _fork(child: Callable[[socket.socket], None]) -> tuple[int, socket.socket]:
    """Run ``child`` in a process that holds nothing but its end of a socket."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _run(child, theirs)
    theirs.close()
    return pid, ours


def _run(child: Callable[[socket.socket], None], sock: socket.socket) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(3, sock.fileno())
        os.closerange(sock.fileno() + 1, 1024)
        child(sock)
        os._exit(0)
    except BaseException as e:
        os.write(2, f"executor: {e!r}\n".encode())
        os._exit(1)


def _enter(sock: socket.socket, owner: int, group: int) -> None:
    """A new namespace owned by ``owner``; the other end writes its maps meanwhile."""
    os.setresgid(group, group, group)
    os.setresuid(owner, owner, owner)
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    syscalls.make_dumpable()
    send(sock, b"unshared")
    _answer(sock)
    syscalls.keep_caps_when_ids_change()


def _serve_with_tmpfs(sock: socket.socket) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    tree = syscalls.new_tmpfs()
    send(sock, b"tmpfs", (tree,))
    os.close(tree)
    Executor(sock).serve()


def _write_maps(pid: int, uids: Extents, gids: Extents) -> None:
    for name, extents in (("uid_map", uids), ("gid_map", gids)):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, ids.text(extents))
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class MapForMounts:
    """An id map to give to mounts: ``fd`` is that of a namespace in which nobody lives."""

    model: MountIdMap
    uids: Extents
    gids: Extents
    fd: int

    def close(self) -> None:
        os.close(self.fd)


def map_for_mounts(rng: Random) -> MapForMounts:
    """Inside is what the disk stores, outside what the mount shows."""
    uids, gids = ids.draw_pair(rng)

    def child(sock: socket.socket) -> None:
        _enter(sock, 0, 0)

    pid, sock = _fork(child)
    with contextlib.closing(sock):
        _answer(sock)
        _write_maps(pid, uids, gids)
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        send(sock, b"done")
    os.waitpid(pid, 0)
    return MapForMounts(MountIdMap(uids=id_map(uids), gids=id_map(gids)), uids, gids, fd)
