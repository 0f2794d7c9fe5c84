"""What chown(1), chmod(1) and setfacl(1) make of an inode, as root runs them.

Recipes are made of these, and the commands of a remedy say the same.  One thing is done more
carefully than by the tools: where an ACL's mask holds entries back, ``setfacl -m`` recomputes the
mask and wakes them; here they are first cut to what they are worth now, so that nobody gains by
another's entry (:func:`awake` says which, for the command).
"""

from __future__ import annotations

from msgspec.structs import replace

from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import Inode

_GROUP_CLASS = (Tag.USER, Tag.GROUP_OBJ, Tag.GROUP)
Spec = tuple[Tag, int | None, int]
"""An entry as setfacl takes it: tag, host id (``None`` for the owner's and the group's), rwx."""


def chmod(inode: Inode, *, add: int = 0, drop: int = 0) -> Inode:
    """Bits of the mode added and taken away; with an ACL the group's bits are its mask."""
    mode = (inode.mode | add) & ~drop
    return replace(inode, mode=mode, acl=inode.acl and inode.acl.with_mode(mode))


def give(inode: Inode, uid: int | None, gid: int | None) -> Inode:
    """chown to host ids; ``None`` leaves one.  What becomes of set-id bits is ``repair``'s."""
    return replace(
        inode,
        uid=inode.uid if uid is None else Kuid(uid),
        gid=inode.gid if gid is None else Kgid(gid),
    )


def held_back(inode: Inode, but: tuple[Tag, int | None] | None = None) -> tuple[Spec, ...]:
    """Entries of the access ACL that the mask cuts, as they are worth now; ``but`` left out."""
    if inode.acl is None or inode.acl.mask is None:
        return ()
    mask = inode.acl.mask
    return tuple(
        (e.tag, e.id, e.perm & mask)
        for e in inode.acl.entries
        if e.tag in _GROUP_CLASS and e.perm & ~mask and (e.tag, e.id) != but
    )


def set_entry(inode: Inode, tag: Tag, id_: int | None, perm: int) -> Inode:
    """``setfacl -m`` of one entry of the access ACL, what the mask holds back not woken."""
    acl = inode.acl or from_mode(inode.mode)
    acl = _modified(acl, (*held_back(inode, (tag, id_)), (tag, id_, perm)))
    mode = inode.mode & ~0o777 | acl.mode
    return replace(inode, mode=mode, acl=acl if acl.is_extended else None)


def set_default(inode: Inode, tag: Tag, id_: int | None, perm: int) -> Inode:
    """``setfacl -d -m`` of one entry: the first one takes the rest from the access ACL."""
    default = inode.default_acl
    if default is None:
        base = (inode.acl or from_mode(inode.mode)).entries
        owners = (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)
        default = Acl(tuple(e for e in base if e.tag in owners))
    return replace(inode, default_acl=_modified(default, ((tag, id_, perm),)))


def entry_of(acl: Acl | None, tag: Tag, id_: int | None) -> int:
    """What an entry is worth under the mask; 0 where there is none."""
    if acl is None:
        return 0
    mask = 7 if acl.mask is None else acl.mask
    return next((e.perm & mask for e in acl.entries if (e.tag, e.id) == (tag, id_)), 0)


def _modified(acl: Acl, specs: tuple[Spec, ...]) -> Acl:
    """Entries put in or replaced; the mask, where there is or must be one, recomputed."""
    new = {(e.tag, e.id): e.perm for e in acl.entries}
    for tag, id_, perm in specs:
        new[tag, id_] = perm
    extended = any(tag in (Tag.USER, Tag.GROUP, Tag.MASK) for tag, _ in new)
    if extended:
        union = 0
        for (tag, _), perm in new.items():
            union |= perm if tag in _GROUP_CLASS else 0
        new[Tag.MASK, None] = union
    entries = (AclEntry(tag=tag, id=id_, perm=perm) for (tag, id_), perm in new.items())
    return Acl(tuple(sorted(entries, key=lambda e: (e.tag, -1 if e.id is None else e.id))))
