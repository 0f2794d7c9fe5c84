"""What is on the disk: filesystems, a round's two mounts, and cells with drawn inodes.

The builder is root of the host with all capabilities, so that nothing it does depends on the
rules under test.  It hands on what it *made*; nothing is read back before the model is asked.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from permdoctor.kernel.acl import Acl, AclEntry, Tag
from permdoctor.kernel.ids import INITIAL, Kgid, Kuid, UserNs
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, Superblock
from tests.differential import aclxattr, ids, syscalls
from tests.differential.spaces import MapForMounts

KINDS = ("tmpfs", "ext4", "xfs", "btrfs")
SWITCHES_ACLS = ("btrfs",)
"""Those that still have a noacl option."""
OBJECT_TYPES = (
    *(FileType.REGULAR,) * 8,
    *(FileType.DIRECTORY,) * 5,
    FileType.FIFO,
    FileType.SYMLINK,
    FileType.CHARDEV,
    FileType.SOCKET,
)
TOP = b"top"
"""The directory of a filesystem that the mounts show; root's, 0755."""

_DIRECTORY_MODES = (0o777, 0o1777, 0o2777, 0o3777, 0o755, 0o775, 0o2775, 0o1775, 0o711, 0o770)
_FILE_MODES = (
    *(0o644, 0o664, 0o600, 0o666, 0o755, 0o577, 0o7),
    *(0o4755, 0o4777, 0o2755, 0o2777, 0o2664, 0o6745, 0o6755),
)


@dataclass(frozen=True, slots=True)
class Filesystem:
    """``path`` is where it is attached.  ``uid`` and ``gid`` are ids it can store, for building."""

    kind: str
    path: bytes
    userns: UserNs = INITIAL
    uid: int = 0
    gid: int = 0
    uids: ids.Extents = ids.IDENTITY
    gids: ids.Extents = ids.IDENTITY


@dataclass(frozen=True, slots=True)
class View:
    """One of a round's mounts: what the model is told, and its root as a descriptor."""

    model: Mount
    fd: int
    map: MapForMounts | None

    def show(self, stored: Inode) -> Inode:
        """As this mount shows it; without its ACLs where the superblock has none."""
        if not self.model.sb.acls:
            stored = replace(stored, acl=None, default_acl=None)
        return self.model.show(stored)


def draw_superblock(rng: Random, fs: Filesystem) -> Superblock:
    """The flags it is to have while the cases are done."""
    read_only = rng.random() < 0.07
    acls = fs.kind not in SWITCHES_ACLS or rng.random() > 0.08
    return Superblock(fstype=fs.kind, read_only=read_only, acls=acls, userns=fs.userns)


@contextlib.contextmanager
def superblock_as(sb: Superblock, fs: Filesystem) -> Iterator[None]:
    """Give the filesystem these flags for a while."""
    if sb.acls and not sb.read_only:
        yield
        return
    syscalls.reconfigure(fs.path, *[b"noacl"] * (not sb.acls), *[b"ro"] * sb.read_only)
    try:
        yield
    finally:
        syscalls.reconfigure(fs.path, b"rw", *[b"acl"] * (not sb.acls))


def draw_view(rng: Random, fs: Filesystem, sb: Superblock, maps: list[MapForMounts]) -> View:
    """A bind mount of the filesystem's top directory with drawn flags and id map."""
    roll = rng.random
    read_only, noexec, nodev, nosuid = roll() < 0.18, roll() < 0.12, roll() < 0.2, roll() < 0.1
    idmap = rng.choice(maps) if roll() < 0.45 else None
    attributes = (
        syscalls.MOUNT_ATTR_RDONLY * read_only
        | syscalls.MOUNT_ATTR_NOEXEC * noexec
        | syscalls.MOUNT_ATTR_NODEV * nodev
        | syscalls.MOUNT_ATTR_NOSUID * nosuid
    )
    fd = syscalls.clone_mount(
        syscalls.AT_FDCWD, fs.path + b"/" + TOP, attributes, idmap.fd if idmap else None
    )
    model = Mount(
        read_only=read_only,
        noexec=noexec,
        nosuid=nosuid,
        nodev=nodev,
        idmap=idmap.model if idmap else None,
        sb=sb,
    )
    return View(model, fd, idmap)


@dataclass(frozen=True, slots=True)
class Pools:
    """Stored ids to draw owners, groups and ACL entries from."""

    uids: list[int]
    gids: list[int]


def draw_pools(rng: Random, fs: Filesystem, view: View, uids: list[int], gids: list[int]) -> Pools:
    """Mostly ids that the view shows as the subjects' (``uids``, ``gids``: host ids)."""
    maps = view.map
    return Pools(
        _draw_pool(rng, uids, maps.uids if maps else None, fs, fs.uids),
        _draw_pool(rng, gids, maps.gids if maps else None, fs, fs.gids),
    )


def _draw_pool(
    rng: Random, shown: list[int], idmap: ids.Extents | None, fs: Filesystem, storable: ids.Extents
) -> list[int]:
    stored = shown if idmap is None else [ids.inside(idmap, s) for s in shown]
    if idmap is not None and fs.userns is not INITIAL:
        stored = [None if s is None else ids.outside(storable, s) for s in stored]
    matching = [s for s in stored if s is not None] * 2
    others = rng.sample(ids.HOST, 2)
    if fs.userns is not INITIAL:
        hosts = [ids.outside(storable, i) for i in ids.mapped(storable)]
        others = [h for h in rng.sample(hosts, min(2, len(hosts))) if h is not None]
        matching = [m for m in matching if ids.inside(storable, m) is not None]
    return matching + others


def draw_inode(rng: Random, pools: Pools, type_: FileType) -> Inode:
    """An inode as it is to be stored."""
    if type_ is FileType.SYMLINK:
        return Inode(
            uid=Kuid(rng.choice(pools.uids)),
            gid=Kgid(rng.choice(pools.gids)),
            mode=0o777,
            type=type_,
        )
    is_dir = type_ is FileType.DIRECTORY
    mode = _draw_mode(rng, is_dir)
    acl = default = None
    if rng.random() < 0.35:
        acl = draw_acl(rng, pools.uids, pools.gids)
        mode = mode & 0o7000 | acl.mode
    if is_dir and rng.random() < 0.35:
        default = draw_acl(rng, pools.uids, pools.gids)
    flagged = rng.random() if is_dir or type_ is FileType.REGULAR else 1.0
    return Inode(
        uid=Kuid(rng.choice(pools.uids)),
        gid=Kgid(rng.choice(pools.gids)),
        mode=mode,
        type=type_,
        acl=acl if acl and acl.is_extended else None,
        default_acl=default,
        immutable=flagged < 0.04,
        append_only=0.03 < flagged < 0.07,
    )


def _draw_mode(rng: Random, is_dir: bool) -> int:
    if rng.random() < 0.6:
        return rng.choice(_DIRECTORY_MODES if is_dir else _FILE_MODES)
    special = 0
    for bit in (0o4000, 0o2000, 0o1000):
        if rng.random() < 0.2:
            special |= bit
    return special | rng.getrandbits(9)


def draw_acl(rng: Random, uids: list[int], gids: list[int]) -> Acl:
    """Valid for the kernel: minimal, or with a mask; named entries in any order, twice at times."""
    bits = rng.getrandbits
    users = rng.choices(uids, k=rng.choice((0, 1, 1, 2, 3)))
    groups = rng.choices(gids, k=rng.choice((0, 1, 1, 2, 3)))
    entries = [AclEntry(tag=Tag.USER_OBJ, perm=bits(3))]
    entries += [AclEntry(tag=Tag.USER, perm=bits(3), id=u) for u in users]
    entries.append(AclEntry(tag=Tag.GROUP_OBJ, perm=bits(3)))
    entries += [AclEntry(tag=Tag.GROUP, perm=bits(3), id=g) for g in groups]
    if users or groups or rng.random() < 0.4:
        mask = rng.choice((0, 7, 7, bits(3), bits(3)))
        entries.append(AclEntry(tag=Tag.MASK, perm=mask))
    entries.append(AclEntry(tag=Tag.OTHER, perm=bits(3)))
    return Acl(tuple(entries))


class Builder:
    """Makes inodes below the top directory of one filesystem, and removes them again."""

    def __init__(self, fs: Filesystem) -> None:
        self.fs = fs

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """In the top directory, with ids that the filesystem can store."""
        syscalls.setfsids(self.fs.uid, self.fs.gid)
        os.chdir(self.fs.path + b"/" + TOP)
        try:
            yield
        finally:
            syscalls.setfsids(0, 0)
            os.chdir("/")

    def make(self, path: bytes, inode: Inode, body: bytes = b"nowhere") -> None:
        """Create it; the attributes come with :meth:`dress`, once its children are there."""
        match inode.type:
            case FileType.DIRECTORY:
                os.mkdir(path)
            case FileType.SYMLINK:
                os.symlink(body, path)
            case FileType.CHARDEV:
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            case _:
                os.mknod(path, int(inode.type) | 0o600)

    def dress(self, path: bytes, inode: Inode) -> None:
        """Owner, mode, ACLs, flags: the mode after the owner, for chown drops set-id bits."""
        assert inode.uid is not None
        assert inode.gid is not None
        os.lchown(path, inode.uid, inode.gid)
        if inode.type is FileType.SYMLINK:
            return
        os.chmod(path, inode.mode)
        if inode.acl is not None:
            os.setxattr(path, aclxattr.ACCESS, aclxattr.of_acl(inode.acl))
        if inode.default_acl is not None:
            os.setxattr(path, aclxattr.DEFAULT, aclxattr.of_acl(inode.default_acl))
        if inode.immutable or inode.append_only:
            syscalls.set_inode_flags(path, inode.immutable, inode.append_only)

    def unfix(self, path: bytes, inode: Inode) -> None:
        """Clear the flags, so that it can be removed."""
        if inode.immutable or inode.append_only:
            with contextlib.suppress(FileNotFoundError):
                syscalls.set_inode_flags(path, False, False)

    def remove(self, path: bytes) -> None:
        """It and all below it (no flags are set any more)."""
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                self.remove(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(path)


def stored(path: bytes) -> Inode:
    """What is on the disk now, through the builder's own, plain mount."""
    st = os.lstat(path)
    type_ = FileType(stat.S_IFMT(st.st_mode))
    return Inode(
        uid=Kuid(st.st_uid),
        gid=Kgid(st.st_gid),
        mode=st.st_mode & 0o7777,
        type=type_,
        acl=aclxattr.read(path, aclxattr.ACCESS),
        default_acl=aclxattr.read(path, aclxattr.DEFAULT),
    )
