"""From a mountinfo line to :class:`kernel.mount.Mount`: flags, superblock, id map.

Whether a filesystem has ACLs is asked of the kernel, not guessed from its type.  ``s_user_ns``
cannot be asked: a superblock is taken to belong to a user namespace when the mount namespace is
owned by that one, a user namespace may mount the filesystem at all (FS_USERNS_MOUNT), and we do
not have the same superblock among our own mounts.
"""

from __future__ import annotations

import os
from typing import Final

from permdoctor.host import syscalls
from permdoctor.kernel.ids import INITIAL, UserNs
from permdoctor.kernel.mount import Mount, MountIdMap, Superblock
from permdoctor.kernel.mountinfo import MountInfo
from permdoctor.kernel.procstatus import parse_id_map

USERNS_MOUNTABLE: Final = frozenset(
    b"tmpfs ramfs overlay devpts mqueue proc sysfs cgroup cgroup2 bpf binder fuse".split()
)
"""Filesystem types with FS_USERNS_MOUNT; ``fuse`` stands for ``fuse.*`` too."""

_ST_RDONLY, _ST_NOSUID, _ST_NODEV, _ST_NOEXEC = 1, 2, 4, 8


def superblock_userns(info: MountInfo, ours: frozenset[tuple[int, int]], owner: UserNs) -> UserNs:
    """``s_user_ns`` of a mount in a namespace owned by ``owner``; ``ours`` are our devices."""
    mountable = info.fstype.partition(b".")[0] in USERNS_MOUNTABLE
    if not mountable or (info.major, info.minor) in ours:
        return INITIAL
    return owner


def mount_of(info: MountInfo, userns: UserNs, idmap: MountIdMap | None, acls: bool) -> Mount:
    """The mount; ``idmap`` is what could be read of its id map, if it has one."""
    return Mount(
        read_only=info.read_only,
        noexec=b"noexec" in info.options,
        nosuid=b"nosuid" in info.options,
        nodev=b"nodev" in info.options,
        idmap=idmap if info.idmapped else None,
        idmap_unknown=info.idmapped and idmap is None,
        sb=Superblock(
            fstype=info.fstype.decode("utf-8", "backslashreplace"),
            read_only=info.sb_read_only,
            acls=acls,
            userns=userns,
        ),
    )


def mount_of_fd(fd: int, like: MountInfo | None, userns: UserNs, acls: bool) -> Mount:
    """A mount that mountinfo does not list, for it lies above a chroot or was detached.

    Its flags are those of fstatvfs(3); ``like`` is another mount of the same superblock.
    """
    flags = os.fstatvfs(fd).f_flag
    fstype = b"unknown" if like is None else like.fstype
    return Mount(
        read_only=bool(flags & _ST_RDONLY),
        noexec=bool(flags & _ST_NOEXEC),
        nosuid=bool(flags & _ST_NOSUID),
        nodev=bool(flags & _ST_NODEV),
        sb=Superblock(
            fstype=fstype.decode("utf-8", "backslashreplace"),
            read_only=like is not None and like.sb_read_only,
            acls=acls,
            userns=userns,
        ),
    )


def read_idmap(fd: int, mnt_ns: int | None) -> MountIdMap | None:
    """The id map of the mount that ``fd`` is on, ``None`` where it cannot be read."""
    mnt_id = syscalls.unique_mnt_id(fd)
    texts = None if mnt_id is None else syscalls.statmount_idmap(mnt_id, mnt_ns)
    if texts is None:
        return None
    try:
        uids, gids = (parse_id_map(t) for t in texts)
    except ValueError:
        return None
    return MountIdMap(uids=uids, gids=gids) if uids.extents and gids.extents else None
