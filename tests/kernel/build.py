"""Short ways to write facts down; what a row leaves open has an innocent value."""

from __future__ import annotations

from permdoctor.kernel.acl import Acl, AclEntry, Tag
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import INITIAL, Extent, IdMap, Kgid, Kuid, UserNs
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, MountIdMap, Superblock

DIR, REG, LNK = FileType.DIRECTORY, FileType.REGULAR, FileType.SYMLINK
FIFO, CHR, SOCK = FileType.FIFO, FileType.CHARDEV, FileType.SOCKET


def id_map(*extents: tuple[int, int, int]) -> IdMap:
    """(inside, outside, count), one for each extent."""
    return IdMap(tuple(Extent(inside=i, outside=o, count=n) for i, o, n in extents))


def userns(
    *uids: tuple[int, int, int],
    gids: tuple[tuple[int, int, int], ...] | None = None,
    inum: int = 7,
    owner: int = 0,
    parent: UserNs = INITIAL,
) -> UserNs:
    return UserNs(
        inum=inum,
        uids=id_map(*uids),
        gids=id_map(*(uids if gids is None else gids)),
        parent=parent,
        owner=Kuid(owner),
    )


REMAP = userns((0, 100000, 65536))
"""userns-remap: inside n is host 100000 + n."""


def cred(
    uid: int = 1000,
    gid: int = 1000,
    *groups: int,
    caps: Cap = Cap.NONE,
    ns: UserNs = INITIAL,
    euid: int | None = None,
) -> Cred:
    return Cred(
        fsuid=Kuid(uid),
        fsgid=Kgid(gid),
        groups=frozenset(map(Kgid, groups)),
        effective=caps,
        userns=ns,
        euid=None if euid is None else Kuid(euid),
    )


def inode(
    mode: int,
    uid: int | None = 0,
    gid: int | None = 0,
    type_: FileType = REG,
    *,
    acl: str = "",
    default: str = "",
    immutable: bool = False,
    append_only: bool = False,
) -> Inode:
    """With an ACL the group bits of ``mode`` are given too: they are the mask."""
    return Inode(
        uid=None if uid is None else Kuid(uid),
        gid=None if gid is None else Kgid(gid),
        mode=mode,
        type=type_,
        acl=parse_acl(acl) if acl else None,
        default_acl=parse_acl(default) if default else None,
        immutable=immutable,
        append_only=append_only,
    )


def directory(mode: int, uid: int | None = 0, gid: int | None = 0, **rest: object) -> Inode:
    return inode(mode, uid, gid, DIR, **rest)  # type: ignore[arg-type]


_TAGS = {
    ("u", False): Tag.USER_OBJ,
    ("u", True): Tag.USER,
    ("g", False): Tag.GROUP_OBJ,
    ("g", True): Tag.GROUP,
    ("m", False): Tag.MASK,
    ("o", False): Tag.OTHER,
}


def parse_acl(text: str) -> Acl:
    """``u::rwx u:1000:r-- u:?:rwx g::r-x m::r-x o::---``; ``?`` is an id without a mapping."""
    return Acl(tuple(map(_parse_entry, text.split())))


def _parse_entry(text: str) -> AclEntry:
    who, id_, perm = text.split(":")
    bits = sum(bit for bit, char in zip((4, 2, 1), perm, strict=True) if char != "-")
    named = id_ not in ("", "?")
    return AclEntry(tag=_TAGS[who, id_ != ""], perm=bits, id=int(id_) if named else None)


def mount(
    *,
    ro: bool = False,
    sb_ro: bool = False,
    noexec: bool = False,
    nodev: bool = False,
    acls: bool = True,
    fstype: str = "ext4",
    idmap: tuple[tuple[int, int, int], ...] = (),
    gidmap: tuple[tuple[int, int, int], ...] | None = None,
    sb_userns: UserNs = INITIAL,
) -> Mount:
    """``idmap``: (stored, shown, count)."""
    maps = None
    if idmap:
        maps = MountIdMap(uids=id_map(*idmap), gids=id_map(*(gidmap or idmap)))
    return Mount(
        read_only=ro,
        noexec=noexec,
        nodev=nodev,
        idmap=maps,
        sb=Superblock(fstype=fstype, read_only=sb_ro, acls=acls, userns=sb_userns),
    )


PLAIN = mount()
