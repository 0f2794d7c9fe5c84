"""Mounts and superblocks, as far as they take part in a permission decision."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from permdoctor.kernel.acl import Acl, Tag
from permdoctor.kernel.ids import INITIAL, IdMap, Kgid, Kuid, UserNs
from permdoctor.kernel.inode import Inode


class Superblock(Struct, frozen=True, kw_only=True):
    """A mounted filesystem.  ``userns`` is its ``s_user_ns``: the initial one unless it was
    mounted inside a container (a tmpfs, an overlay of a rootless engine, FUSE).
    """

    fstype: str = "ext4"
    read_only: bool = False
    acls: bool = True
    userns: UserNs = INITIAL


class MountIdMap(Struct, frozen=True, kw_only=True):
    """The id maps of an idmapped mount (``struct mnt_idmap``).

    ``uids.outside(n)`` is the id that the mount shows for the filesystem's id n, and
    ``uids.inside(v)`` the one it stores for v: the maps of the user namespace that was given to
    mount_setattr(2).
    """

    uids: IdMap
    gids: IdMap


class Mount(Struct, frozen=True, kw_only=True):
    """One mount of a mount namespace: its own flags, its id map, its superblock.

    ``idmap`` is ``None`` for a plain mount.  ``idmap_unknown`` is set for an idmapped mount whose
    map could not be read: what exists can be judged (the mount shows it), what would be created
    cannot.
    """

    read_only: bool = False
    noexec: bool = False
    nosuid: bool = False
    nodev: bool = False
    idmap: MountIdMap | None = None
    idmap_unknown: bool = False
    sb: Superblock = field(default_factory=Superblock)

    @property
    def no_devices(self) -> bool:
        """``may_open_dev``: nodev, or a superblock of another user namespace (SB_I_NODEV)."""
        return self.nodev or not self.sb.userns.is_initial

    def shown_uid(self, kuid: Kuid | None) -> Kuid | None:
        """``make_vfsuid``: the uid this mount shows for an owner stored in the filesystem."""
        if self.idmap is None or kuid is None:
            return kuid
        stored = self.sb.userns.uid(kuid)
        shown = None if stored is None else self.idmap.uids.outside(stored)
        return None if shown is None else Kuid(shown)

    def shown_gid(self, kgid: Kgid | None) -> Kgid | None:
        """``make_vfsgid``."""
        if self.idmap is None or kgid is None:
            return kgid
        stored = self.sb.userns.gid(kgid)
        shown = None if stored is None else self.idmap.gids.outside(stored)
        return None if shown is None else Kgid(shown)

    def stored_uid(self, kuid: Kuid | None) -> Kuid | None:
        """``from_vfsuid``: the uid the filesystem would store for a shown one.

        Without an id map it is the id itself, with no check against ``s_user_ns``.
        """
        if self.idmap is None or kuid is None:
            return kuid
        stored = self.idmap.uids.inside(kuid)
        if stored is None:
            return None
        outside = self.sb.userns.uids.outside(stored)
        return None if outside is None else Kuid(outside)

    def stored_gid(self, kgid: Kgid | None) -> Kgid | None:
        """``from_vfsgid``."""
        if self.idmap is None or kgid is None:
            return kgid
        stored = self.idmap.gids.inside(kgid)
        if stored is None:
            return None
        outside = self.sb.userns.gids.outside(stored)
        return None if outside is None else Kgid(outside)

    def show(self, stored: Inode) -> Inode:
        """The inode as this mount shows it, from the inode as the filesystem stores it."""
        if self.idmap is None:
            return stored
        return replace(
            stored,
            uid=self.shown_uid(stored.uid),
            gid=self.shown_gid(stored.gid),
            acl=self._show_acl(stored.acl),
            default_acl=self._show_acl(stored.default_acl),
        )

    def _show_acl(self, acl: Acl | None) -> Acl | None:
        if acl is None:
            return None
        entries = []
        for e in acl.entries:
            if e.id is not None and e.tag is Tag.USER:
                entries.append(replace(e, id=self.shown_uid(Kuid(e.id))))
            elif e.id is not None and e.tag is Tag.GROUP:
                entries.append(replace(e, id=self.shown_gid(Kgid(e.id))))
            else:
                entries.append(e)
        return Acl(tuple(entries))
