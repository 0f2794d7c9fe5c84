"""From statx and ACL xattrs to :class:`kernel.inode.Inode`.

What stat(2) shows through the object's own mount *is* the kernel's vfsuid, except that an id
without mapping reads as 65534, which is also the id of *nobody*: :func:`shown_uid` tells the two
apart as far as the mount's map does.
"""

from __future__ import annotations

import errno
import os
import stat

from permdoctor.host import acl as acl_xattr
from permdoctor.host.syscalls import STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE, Stat
from permdoctor.kernel.acl import Acl
from permdoctor.kernel.ids import OVERFLOW_ID, IdMap, Kgid, Kuid
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount

_NO_ACL = (errno.ENODATA, errno.EOPNOTSUPP)


def shown_uid(uid: int, mount: Mount) -> Kuid | None:
    """Host uid as the mount shows it, ``None`` where 65534 can only mean "no mapping"."""
    if uid == OVERFLOW_ID and _means_unmapped(mount, mount.sb.userns.uids, _uids(mount)):
        return None
    return Kuid(uid)


def shown_gid(gid: int, mount: Mount) -> Kgid | None:
    """The same for a gid."""
    if gid == OVERFLOW_ID and _means_unmapped(mount, mount.sb.userns.gids, _gids(mount)):
        return None
    return Kgid(gid)


def _uids(mount: Mount) -> IdMap | None:
    return None if mount.idmap is None else mount.idmap.uids


def _gids(mount: Mount) -> IdMap | None:
    return None if mount.idmap is None else mount.idmap.gids


def _means_unmapped(mount: Mount, superblock: IdMap, idmap: IdMap | None) -> bool:
    """65534 was read.  Unmapped unless some id of the filesystem is shown as 65534.

    Where the mount's map is unknown it is taken as unmapped: maps that reach exactly 65534 are
    rarer than files outside of a map.  Where the map does reach it the two cannot be told apart
    here, and it is taken as the id it says.
    """
    if idmap is not None:
        stored = idmap.inside(OVERFLOW_ID)
        return stored is None or superblock.outside(stored) is None
    return mount.idmap_unknown or superblock.inside(OVERFLOW_ID) is None


def inode_of(st: Stat, mount: Mount, acl: Acl | None = None, default: Acl | None = None) -> Inode:
    """The facts of one inode, as its mount shows it."""
    return Inode(
        uid=shown_uid(st.uid, mount),
        gid=shown_gid(st.gid, mount),
        mode=stat.S_IMODE(st.mode),
        type=FileType(stat.S_IFMT(st.mode)),
        acl=acl,
        default_acl=default,
        immutable=bool(st.attributes & STATX_ATTR_IMMUTABLE),
        append_only=bool(st.attributes & STATX_ATTR_APPEND),
        nlink=st.nlink,
    )


def read_acl(fd: int, name: bytes) -> Acl | None:
    """An ACL of what ``fd`` holds (O_PATH will do), ``None`` without one or without support.

    Raises ``OSError``; ``ValueError`` for a value that is no ACL (a FUSE server may say anything).
    """
    blob = acl_blob(b"/proc/self/fd/%d" % fd, name)
    return None if blob is None else acl_xattr.decode(blob)


def acl_blob(path: bytes, name: bytes) -> bytes | None:
    """The xattr's value, undecoded.  The last component of ``path`` is followed only if it is a
    magic link of /proc/self/fd.
    """
    try:
        follow = path.rpartition(b"/")[0] == b"/proc/self/fd"
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError as e:
        if e.errno in _NO_ACL:
            return None
        raise


def supports_acls(fd: int) -> bool:
    """Whether the superblock has POSIX ACLs (SB_POSIXACL): getxattr says EOPNOTSUPP without.

    Must not be asked of a symlink.  True where the filesystem gives no clear answer.
    """
    try:
        os.getxattr(f"/proc/self/fd/{fd}", acl_xattr.ACCESS)
    except OSError as e:
        return e.errno != errno.EOPNOTSUPP
    return True
