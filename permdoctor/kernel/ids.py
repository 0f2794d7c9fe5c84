"""Typed ids and the id maps between them.

``Kuid``/``Kgid`` are host ids (ids of the initial user namespace); ``Uid``/``Gid`` are ids inside
some user namespace.  They are converted only by an :class:`IdMap`, which answers ``None`` for a
gap.  Mirrors ``kernel/user_namespace.c`` (``map_id_range_down``, ``map_id_up``).
"""

from __future__ import annotations

from typing import Final, NewType

from msgspec import Struct

Kuid = NewType("Kuid", int)
Kgid = NewType("Kgid", int)
Uid = NewType("Uid", int)
Gid = NewType("Gid", int)

OVERFLOW_ID: Final = 65534
"""What stat(2) shows for an id that has no mapping (``/proc/sys/kernel/overflowuid``)."""

ID_MAX: Final = 0xFFFFFFFE
"""The largest valid id; 0xFFFFFFFF is INVALID_UID in the kernel."""


class Extent(Struct, frozen=True, kw_only=True):
    """One line of ``uid_map``: ``count`` ids from ``inside`` on are the ids from ``outside`` on."""

    inside: int
    outside: int
    count: int


class IdMap(Struct, frozen=True):
    """The lines of one ``uid_map`` or ``gid_map`` (user_namespaces(7)), in order."""

    extents: tuple[Extent, ...]

    def outside(self, inside: int) -> int | None:
        """The outside (host) id of an inside id, ``None`` in a gap (``map_id_range_down``)."""
        for e in self.extents:
            if e.inside <= inside < e.inside + e.count:
                return e.outside + (inside - e.inside)
        return None

    def inside(self, outside: int) -> int | None:
        """The inside id of an outside (host) id, ``None`` where none exists (``map_id_up``)."""
        for e in self.extents:
            if e.outside <= outside < e.outside + e.count:
                return e.inside + (outside - e.outside)
        return None

    @property
    def is_identity(self) -> bool:
        """Whether every valid id means itself, as in the initial user namespace."""
        return self.extents == IDENTITY.extents


IDENTITY: Final = IdMap((Extent(inside=0, outside=0, count=0xFFFFFFFF),))


class UserNs(Struct, frozen=True, kw_only=True):
    """A user namespace: its two maps into host ids, and its place in the tree.

    ``inum`` is the inode of ``/proc/PID/ns/user``: the identity of the namespace.  ``parent`` is
    ``None`` for the initial namespace only.  ``owner`` is the host uid that created it
    (ioctl_nsfs(2) NS_GET_OWNER_UID), ``None`` where it could not be read.
    """

    inum: int
    uids: IdMap
    gids: IdMap
    parent: UserNs | None = None
    owner: Kuid | None = None

    @property
    def is_initial(self) -> bool:
        return self.parent is None

    def kuid(self, uid: Uid) -> Kuid | None:
        """Host uid of a uid inside this namespace (``make_kuid``)."""
        k = self.uids.outside(uid)
        return None if k is None else Kuid(k)

    def kgid(self, gid: Gid) -> Kgid | None:
        """Host gid of a gid inside this namespace (``make_kgid``)."""
        k = self.gids.outside(gid)
        return None if k is None else Kgid(k)

    def uid(self, kuid: Kuid | None) -> Uid | None:
        """Uid inside this namespace of a host uid (``from_kuid``)."""
        u = None if kuid is None else self.uids.inside(kuid)
        return None if u is None else Uid(u)

    def gid(self, kgid: Kgid | None) -> Gid | None:
        """Gid inside this namespace of a host gid (``from_kgid``)."""
        g = None if kgid is None else self.gids.inside(kgid)
        return None if g is None else Gid(g)

    def has_uid(self, kuid: Kuid | None) -> bool:
        """Whether the namespace maps this host uid (``kuid_has_mapping``)."""
        return self.uid(kuid) is not None

    def has_gid(self, kgid: Kgid | None) -> bool:
        """Whether the namespace maps this host gid (``kgid_has_mapping``)."""
        return self.gid(kgid) is not None


INITIAL_INUM: Final = 0xEFFFFFFD
"""PROC_USER_INIT_INO, ``include/linux/proc_ns.h``."""

INITIAL: Final = UserNs(inum=INITIAL_INUM, uids=IDENTITY, gids=IDENTITY, owner=Kuid(0))
"""The initial user namespace (``init_user_ns``)."""
