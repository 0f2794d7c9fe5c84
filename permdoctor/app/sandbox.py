"""A throwaway container out of kernel namespaces (user, mount, pid), for the demo.

The one place outside ``repair/`` that makes something: below its own temporary directory, and
mounts in a namespace that goes away with its process.  No image, no engine; the process inside is
a fork of this one that only sleeps.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from msgspec import Struct

from permdoctor.container.userns import parse_subids
from permdoctor.errors import CannotCheckError
from permdoctor.host import machine, syscalls
from permdoctor.host.accounts import user_name

CLONE_NEWPID = 0x20000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_NAME = 15

COMM = b"train.py"
USER = 1001
TARGET = b"/app/model"
PASSWD = b"root:x:0:0::/root:\nnonroot:x:1001:1001::/home/nonroot:\n"


class Sandbox(Struct, frozen=True, kw_only=True):
    """A running one.  ``model`` is the directory on the host that is mounted on ``TARGET``;
    ``note`` says where it differs from what root would get.
    """

    pid: int
    model: bytes
    note: str = ""


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """Scenario S4: the process is 1001:1001, the directory 0:0 0755, mounted rw.

    An ordinary user without a range of ids in /etc/subuid has one id only: then the directory is
    the process's own, and its mode 0555.  Raises ``CannotCheckError`` naming what the machine does
    not allow.
    """
    top = tempfile.mkdtemp(prefix="permdoctor-demo-").encode()
    running: _Running | None = None
    umask = os.umask(0o022)
    before = {s: signal.signal(s, _end) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for name in (b"rootfs/app/model", b"rootfs/etc"):
            os.makedirs(top + b"/" + name, 0o755)
        with open(top + b"/rootfs/etc/passwd", "wb") as f:
            f.write(PASSWD)
        maps = _maps()
        os.mkdir(top + b"/model", maps.mode)
        running = _start(top, maps)
        yield Sandbox(pid=running.pid, model=top + b"/model", note=maps.note)
    finally:
        os.umask(umask)
        if running is not None:
            os.close(running.lifeline)
        shutil.rmtree(top, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> NoReturn:
    """As SIGINT does it: end by an exception, so that everything is cleaned up."""
    raise SystemExit(128 + number)


class _Maps(Struct, frozen=True, kw_only=True):
    """Lines of uid_map and gid_map, who writes them, and the mode of the directory."""

    uids: tuple[str, ...]
    gids: tuple[str, ...]
    tools: bool = False
    mode: int = 0o755
    note: str = ""


def _maps() -> _Maps:
    """Root maps the host's own ids, anybody else a range of /etc/subuid, or only themselves."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        return _Maps(uids=("0 0 65536",), gids=("0 0 65536",))
    keys = {str(uid), user_name(uid)}
    own_uids, own_gids = (
        next((r for r in parse_subids(machine.read_text(f)) if r.owner in keys), None)
        for f in ("/etc/subuid", "/etc/subgid")
    )
    tools = all(shutil.which(t) for t in ("newuidmap", "newgidmap"))
    if tools and own_uids and own_gids and min(own_uids.count, own_gids.count) > USER:
        return _Maps(
            uids=(f"0 {uid} 1", f"1 {own_uids.start} {own_uids.count}"),
            gids=(f"0 {gid} 1", f"1 {own_gids.start} {own_gids.count}"),
            tools=True,
            note=f"as an ordinary user: the container's root is you ({uid}), as in rootless Docker",
        )
    return _Maps(
        uids=(f"{USER} {uid} 1",),
        gids=(f"{USER} {gid} 1",),
        mode=0o555,
        note=f"you have one id ({uid}) and no range in /etc/subuid: the directory is the process's"
        " own, closed by its mode; run it as root to see the usual fault",
    )


class _Running(Struct, frozen=True, kw_only=True):
    """The sleeper's pid on the host; it lives until the last ``lifeline`` is closed."""

    pid: int
    lifeline: int


def _start(top: bytes, maps: _Maps) -> _Running:
    """Fork, unshare, have the maps written, enter the root."""
    from_child, to_parent = os.pipe()
    from_parent, to_child = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(from_child)
        os.close(to_child)
        _child(top, to_parent, from_parent, groups=maps.tools or os.getuid() == 0)
    os.close(to_parent)
    os.close(from_parent)
    try:
        _expect(from_child, b"unshared")
        _write_maps(child, maps)
        os.write(to_child, b"mapped")
        pid = int(_expect(from_child, b"ready").split()[1])
    except BaseException:
        os.close(to_child)
        raise
    finally:
        os.close(from_child)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
    return _Running(pid=pid, lifeline=to_child)


def _expect(fd: int, word: bytes) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(fd, 4096)):
        line += piece
    if line.startswith(word):
        return line
    reason = line.decode("utf-8", "replace").strip() or "it died"
    raise CannotCheckError(f"the demo's container could not be made: {reason}", hint=_hint())


def _hint() -> str:
    for path, wanted, how in (
        ("/proc/sys/kernel/unprivileged_userns_clone", b"1", "sysctl kernel."),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", b"0", "sysctl kernel."),
    ):
        value = machine.read_text(path).strip()
        if value and value != wanted:
            name = path.rsplit("/", 1)[-1]
            return f"{how}{name} is {value.decode()}: allow user namespaces, or run it as root"
    return "user namespaces must be allowed (user.max_user_namespaces), or run it as root"


def _write_maps(pid: int, maps: _Maps) -> None:
    if maps.tools:
        for tool, lines in (("newuidmap", maps.uids), ("newgidmap", maps.gids)):
            words = [w for line in lines for w in line.split()]
            argv = [tool, str(pid), *words]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise CannotCheckError(f"{tool}: {done.stderr.strip()}", hint=_hint())
        return
    if os.getuid() != 0:  # user_namespaces(7): before an unprivileged gid_map
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", "\n".join(maps.uids) + "\n")
    _write(f"/proc/{pid}/gid_map", "\n".join(maps.gids) + "\n")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
    except OSError as e:
        raise CannotCheckError(f"{path}: {e.strerror}", hint=_hint()) from e


def _child(top: bytes, out: int, back: int, *, groups: bool) -> NoReturn:
    """In the child: never returns, whatever happens."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | CLONE_NEWPID)
        os.write(out, b"unshared\n")
        if os.read(back, len(b"mapped")) and os.fork() == 0:
            _sleep_inside(top, out, back, groups=groups)
    except OSError as e:
        os.write(out, f"{e.strerror}\n".encode())
    finally:
        os._exit(0)


def _sleep_inside(top: bytes, out: int, lifeline: int, *, groups: bool) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        outside = int(os.readlink("/proc/self"))
        root = top + b"/rootfs"
        _mount(b"none", b"/", MS_REC | MS_PRIVATE)
        _mount(root, root, MS_BIND | MS_REC)
        _mount(top + b"/model", root + TARGET, MS_BIND)
        os.chdir(root)
        _pivot_root()
        _become(USER, groups=groups)
        os.write(out, b"ready %d\n" % outside)
        os.close(out)
        os.read(lifeline, 1)
    except OSError as e:
        os.write(out, f"{e.strerror}\n".encode())
    finally:
        os._exit(1)


def _become(id_: int, *, groups: bool) -> None:
    """uid and gid 1001, no capabilities; ``groups``: whether they may be given up."""
    if groups:
        os.setgroups([])
    os.setresgid(id_, id_, id_)
    os.setresuid(id_, id_, id_)
    syscalls.capset(0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # still to be looked at by its owner
    syscalls.libc.prctl(PR_SET_NAME, COMM, 0, 0, 0)


def _mount(source: bytes, target: bytes, flags: int) -> None:
    if syscalls.libc.mount(source, target, None, ctypes.c_ulong(flags), None):
        raise _error("mount")


def _pivot_root() -> None:
    """The working directory becomes the root, the old root goes."""
    number = {"x86_64": 155}.get(os.uname().machine, 41)
    if syscalls.libc.syscall(number, b".", b"."):
        raise _error("pivot_root")
    if syscalls.libc.umount2(b".", MNT_DETACH):
        raise _error("umount2")
    os.chdir("/")


def _error(call: str) -> OSError:
    code = ctypes.get_errno() or errno.EPERM
    return OSError(code, f"{call}: {os.strerror(code)}")
