"""POSIX ACLs as the kernel holds them: ordered entries, host ids (acl(5), ``fs/posix_acl.c``).

The xattr encoding lives in ``host/acl.py``; this module is what the entries *mean*.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace


class Tag(IntEnum):
    """Entry tags; the values are those of ``uapi/linux/posix_acl.h`` and give the order."""

    USER_OBJ = 0x01
    USER = 0x02
    GROUP_OBJ = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHER = 0x20


class AclEntry(Struct, frozen=True, kw_only=True):
    """One entry.  ``perm`` is a mask of R=4, W=2, X=1.

    ``id`` is a host id for USER and GROUP, ``None`` for the other tags and for a named id that
    has no mapping (such an entry matches nobody).
    """

    tag: Tag
    perm: int
    id: int | None = None


class Acl(Struct, frozen=True):
    """An access or default ACL in kernel order: owner, named users, owning group, named groups,
    mask, other.
    """

    entries: tuple[AclEntry, ...]

    @property
    def mask(self) -> int | None:
        """The mask entry's bits, ``None`` for a minimal ACL."""
        return next((e.perm for e in self.entries if e.tag is Tag.MASK), None)

    @property
    def is_extended(self) -> bool:
        """Whether it says more than the mode bits do (named entries or a mask)."""
        return any(e.tag in (Tag.USER, Tag.GROUP, Tag.MASK) for e in self.entries)

    @property
    def mode(self) -> int:
        """The nine mode bits that the kernel keeps in step with it (``posix_acl_equiv_mode``)."""
        bits = {e.tag: e.perm for e in self.entries if e.id is None}
        group = bits.get(Tag.MASK, bits.get(Tag.GROUP_OBJ, 0))
        return bits.get(Tag.USER_OBJ, 0) << 6 | group << 3 | bits.get(Tag.OTHER, 0)

    def with_mode(self, mode: int) -> Acl:
        """The ACL after chmod(2): the group bits set the *mask* (``__posix_acl_chmod_masq``)."""
        group_tag = Tag.MASK if self.mask is not None else Tag.GROUP_OBJ
        new = {Tag.USER_OBJ: mode >> 6 & 7, group_tag: mode >> 3 & 7, Tag.OTHER: mode & 7}
        return Acl(
            tuple(
                replace(e, perm=new[e.tag]) if e.tag in new and e.id is None else e
                for e in self.entries
            )
        )

    def with_entry(self, tag: Tag, id_: int, perm: int) -> Acl:
        """What ``setfacl -m u:ID:PERM`` (or ``g:``) makes of it, the mask recomputed.

        acl(5): the mask becomes the union of all entries of the group class.
        """
        assert tag in (Tag.USER, Tag.GROUP)
        kept = [e for e in self.entries if e.tag is not Tag.MASK and (e.tag, e.id) != (tag, id_)]
        kept.append(AclEntry(tag=tag, id=id_, perm=perm))
        union = 0
        for e in kept:
            if e.tag in (Tag.USER, Tag.GROUP_OBJ, Tag.GROUP):
                union |= e.perm
        kept.append(AclEntry(tag=Tag.MASK, perm=union))
        return Acl(tuple(sorted(kept, key=lambda e: (e.tag, -1 if e.id is None else e.id))))


def from_mode(mode: int) -> Acl:
    """The minimal ACL that says what the nine mode bits say (``posix_acl_from_mode``)."""
    return Acl(
        (
            AclEntry(tag=Tag.USER_OBJ, perm=mode >> 6 & 7),
            AclEntry(tag=Tag.GROUP_OBJ, perm=mode >> 3 & 7),
            AclEntry(tag=Tag.OTHER, perm=mode & 7),
        )
    )
