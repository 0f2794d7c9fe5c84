"""The facts of one inode that the permission rules ask for."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from permdoctor.kernel.acl import Acl
from permdoctor.kernel.ids import Kgid, Kuid

S_ISUID = 0o4000
S_ISGID = 0o2000
S_ISVTX = 0o1000


class FileType(IntEnum):
    """``S_IFMT`` values (inode(7))."""

    FIFO = 0o010000
    CHARDEV = 0o020000
    DIRECTORY = 0o040000
    BLOCKDEV = 0o060000
    REGULAR = 0o100000
    SYMLINK = 0o120000
    SOCKET = 0o140000

    @property
    def is_special(self) -> bool:
        """FIFO, socket, device: ``special_file()``; a read-only filesystem does not guard them."""
        return self in (FileType.FIFO, FileType.CHARDEV, FileType.BLOCKDEV, FileType.SOCKET)

    @property
    def is_device(self) -> bool:
        return self in (FileType.CHARDEV, FileType.BLOCKDEV)


class Inode(Struct, frozen=True, kw_only=True):
    """An inode *as its mount shows it* (the kernel's vfsuid and vfsgid).

    ``uid``, ``gid`` and the named ids of ``acl`` are host ids after the mount's id map, ``None``
    where that map has no place for them.  On a mount that is not idmapped these are simply the
    owner's ids.  ``mode`` holds the twelve permission bits.  ``default_acl`` matters for files
    that will be created, never for a decision on this inode.
    """

    uid: Kuid | None
    gid: Kgid | None
    mode: int
    type: FileType = FileType.REGULAR
    acl: Acl | None = None
    default_acl: Acl | None = None
    immutable: bool = False
    append_only: bool = False
    nlink: int = 1

    @property
    def is_dir(self) -> bool:
        return self.type is FileType.DIRECTORY

    @property
    def sticky(self) -> bool:
        return bool(self.mode & S_ISVTX)

    @property
    def setgid(self) -> bool:
        return bool(self.mode & S_ISGID)

    @property
    def any_x(self) -> bool:
        return bool(self.mode & 0o111)
