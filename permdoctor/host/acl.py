"""The xattr encoding of POSIX ACLs (``uapi/linux/posix_acl_xattr.h``) <-> :class:`kernel.acl.Acl`.

A little-endian u32 version, then eight bytes an entry: u16 tag, u16 perm, u32 id.  The kernel
gives ids as the reader's user namespace and the mount show them; 0xffffffff stands for "no id".
"""

from __future__ import annotations

import struct
from typing import Final

from permdoctor.kernel.acl import Acl, AclEntry, Tag

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"

_VERSION: Final = 2
_NO_ID: Final = 0xFFFFFFFF
_HEAD = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_NAMED: Final = (Tag.USER, Tag.GROUP)
_ONCE: Final = (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)


def decode(blob: bytes) -> Acl:
    """The ACL in an xattr's value.  A named id without mapping becomes ``None``.

    Raises ``ValueError`` for what ``posix_acl_valid`` (``fs/posix_acl.c``) would not take.
    """
    if len(blob) < _HEAD.size or (len(blob) - _HEAD.size) % _ENTRY.size:
        raise ValueError(f"a POSIX ACL of {len(blob)} bytes")
    (version,) = _HEAD.unpack_from(blob)
    if version != _VERSION:
        raise ValueError(f"POSIX ACL version {version}, not {_VERSION}")
    entries = tuple(_entry(*fields) for fields in _ENTRY.iter_unpack(blob[_HEAD.size :]))
    tags = [e.tag for e in entries]
    if tags != sorted(tags) or any(tags.count(t) != 1 for t in _ONCE) or tags.count(Tag.MASK) > 1:
        raise ValueError("a POSIX ACL whose entries are out of order, missing or double")
    if Tag.MASK not in tags and any(t in tags for t in _NAMED):
        raise ValueError("a POSIX ACL with named entries and no mask")
    return Acl(entries)


def _entry(tag: int, perm: int, id_: int) -> AclEntry:
    known = Tag(tag)
    if perm & ~7:
        raise ValueError(f"POSIX ACL permissions {perm:#o}")
    named = known in _NAMED and id_ != _NO_ID
    return AclEntry(tag=known, perm=perm, id=id_ if named else None)


def encode(acl: Acl) -> bytes:
    """The xattr's value for an ACL; ids as they stand, ``None`` as "no id"."""
    return _HEAD.pack(_VERSION) + b"".join(
        _ENTRY.pack(e.tag, e.perm, _NO_ID if e.id is None else e.id) for e in acl.entries
    )
