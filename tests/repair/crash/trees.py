"""Trees with every kind of change in them, and the recipe that makes these changes.

An entry's owner says what :class:`Mixed` does to it (uid 1000 + n: the n-th kind), so one tree
holds owner, group, mode, access ACL and default ACL changes, alone and all at once.
"""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
from collections.abc import Callable

from msgspec.structs import replace

from permdoctor.diagnosis.recipes import Recipe, Scope
from permdoctor.kernel.acl import Acl, Tag, from_mode
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import Inode
from tests.differential import aclxattr

FIRST = 1000
DRESSES = 25
"""So many different ones a tree has, as real trees have few."""
CAPS = "security.capability"


def _owner(inode: Inode) -> Inode:
    return replace(inode, uid=Kuid(2001), gid=Kgid(2001))


def _group(inode: Inode) -> Inode:
    return replace(inode, gid=Kgid(2002))


def _mode(inode: Inode) -> Inode:
    bits = 0o770 if inode.is_dir else 0o660
    acl = None if inode.acl is None else inode.acl.with_mode(bits)
    return replace(inode, mode=inode.mode & 0o7000 | bits, acl=acl)


def _acl(inode: Inode) -> Inode:
    acl = (inode.acl or from_mode(inode.mode)).with_entry(Tag.USER, 3004, 7 if inode.is_dir else 6)
    return replace(inode, mode=inode.mode & 0o7000 | acl.mode, acl=acl)


def _no_acl(inode: Inode) -> Inode:
    return replace(inode, acl=None)


def _default(inode: Inode) -> Inode:
    if not inode.is_dir:
        return _group(_acl(inode))
    acl = (inode.default_acl or from_mode(0o750)).with_entry(Tag.GROUP, 3006, 7)
    return replace(inode, default_acl=acl)


def _no_default(inode: Inode) -> Inode:
    if not inode.is_dir:
        return _owner(_no_acl(inode))
    return _group(replace(inode, default_acl=None, mode=inode.mode | 0o2000))


def _all(inode: Inode) -> Inode:
    return _default(_acl(_mode(_owner(inode)))) if inode.is_dir else _acl(_mode(_owner(inode)))


def _uid(inode: Inode) -> Inode:
    return replace(inode, uid=Kuid(2009))


KINDS: tuple[Callable[[Inode], Inode], ...] = (
    lambda inode: inode,
    _owner,
    _group,
    _mode,
    _acl,
    _no_acl,
    _default,
    _no_default,
    _all,
    _uid,
)


class Mixed(Recipe, frozen=True, kw_only=True):
    """What the entry's owner asks for: see ``KINDS``."""

    name: str = "mixed"
    scope: Scope = Scope.ALL

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        kind = -1 if inode.uid is None else inode.uid - FIRST
        if not 0 <= kind < len(KINDS):
            return None
        wanted = KINDS[kind](inode)
        return None if wanted == inode else wanted


def capability(permitted: int, rootid: int | None = None) -> bytes:
    """``struct vfs_cap_data`` (``uapi/linux/capability.h``), version 2, or 3 with a root id."""
    head = 0x02000001 if rootid is None else 0x03000001
    data = struct.pack("<5I", head, permitted & 0xFFFFFFFF, 0, permitted >> 32, 0)
    return data if rootid is None else data + struct.pack("<I", rootid)


def make(root: str, entries: int, seed: int) -> None:
    """``root`` becomes a directory with so many entries, the same for the same seed."""
    rng = random.Random(seed)
    os.mkdir(root, 0o755)
    directories, made = [root], [root]
    for n in range(entries - 1):
        parent = rng.choice(directories[-12:] if rng.random() < 0.7 else directories)
        path = f"{parent}/{_name(rng, n)}"
        directory = _create(rng, path, made)
        made.append(path)
        if directory:
            directories.append(path)
    for path in reversed(made):
        _dress(random.Random(f"{seed} {rng.randrange(DRESSES)}"), path)


def make_two(root: str) -> None:
    """A directory and a file that are changed in every way, with all there is to lose."""
    os.mkdir(root)
    acl = from_mode(0o751).with_entry(Tag.USER, 5000, 3)
    for name in ("d", "f"):
        path = f"{root}/{name}"
        if name == "d":
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT))
        os.chown(path, FIRST + KINDS.index(_all), 70000)
        os.setxattr(path, aclxattr.ACCESS, aclxattr.of_acl(acl))
        os.chmod(path, 0o7771)
    os.setxattr(f"{root}/d", aclxattr.DEFAULT, aclxattr.of_acl(acl))
    os.setxattr(f"{root}/f", CAPS, capability(1 << 10, 100000))


def _name(rng: random.Random, n: int) -> str:
    odd = os.fsdecode(bytes(rng.choice([0x0A, 0x1B, 0x20, 0x7F, 0xFF, 0x41]) for _ in range(3)))
    return f"{odd}{n}" if rng.random() < 0.1 else f"e{n}"


def _create(rng: random.Random, path: str, made: list[str]) -> bool:
    """One entry; whether it is a directory."""
    draw = rng.random()
    if draw < 0.28:
        os.mkdir(path)
        return True
    if draw < 0.31:
        os.symlink(rng.choice(["nowhere", ".", "/etc/passwd", made[-1]]), path)
    elif draw < 0.33:
        os.mkfifo(path)
    elif draw < 0.34:
        with socket.socket(socket.AF_UNIX) as s:
            fd = os.open(os.path.dirname(path), os.O_PATH)
            s.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
            os.close(fd)
    elif draw < 0.36 and not os.path.isdir(made[-1]) and not os.path.islink(made[-1]):
        os.link(made[-1], path)
    else:
        with open(path, "wb") as f:
            f.write(bytes(rng.randrange(3)))
    return False


def _dress(rng: random.Random, path: str) -> None:
    """Owner, then mode, then ACLs, then what a chown would drop."""
    directory, link = os.path.isdir(path) and not os.path.islink(path), os.path.islink(path)
    uid, gid = FIRST + rng.randrange(len(KINDS)), rng.choice([0, 1000, 1001, 70000])
    os.chown(path, uid, gid, follow_symlinks=False)
    if link:
        return
    os.chmod(path, rng.choice([0o600, 0o640, 0o644, 0o700, 0o750, 0o755, 0o777, 0o400, 0o000]))
    if rng.random() < 0.3:
        os.setxattr(path, aclxattr.ACCESS, aclxattr.of_acl(_some_acl(rng)))
    if directory and rng.random() < 0.4:
        os.setxattr(path, aclxattr.DEFAULT, aclxattr.of_acl(_some_acl(rng)))
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if directory and rng.random() < 0.3:
        os.chmod(path, mode | rng.choice([0o1000, 0o2000, 0o3000]))
    if os.path.isfile(path) and rng.random() < 0.25:
        os.chmod(path, mode | rng.choice([0o4000, 0o2000, 0o6000, 0o1000, 0o7000]))
    if os.path.isfile(path) and rng.random() < 0.15:
        os.setxattr(path, CAPS, capability(1 << 10, rng.choice([None, 100000])))


def _some_acl(rng: random.Random) -> Acl:
    acl = from_mode(rng.choice([0o700, 0o640, 0o755, 0o070]))
    for _ in range(rng.randrange(1, 4)):
        tag, id_ = rng.choice([Tag.USER, Tag.GROUP]), rng.choice([1, 1000, 5000, 70000, 3004])
        acl = acl.with_entry(tag, id_, rng.randrange(8))
    return acl
