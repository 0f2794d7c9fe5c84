"""ACLs as the xattr holds them: ``uapi/linux/posix_acl_xattr.h``.

The ids in an xattr are ids of the reader's or writer's user namespace.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from permdoctor.kernel.acl import Acl, AclEntry, Tag

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"

Entry = tuple[int, int, int]
"""(tag, perm, id); the id of an entry that names nobody is 0xFFFFFFFF."""

NO_ID = 0xFFFFFFFF


def encode(entries: Iterable[Entry]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def of_acl(acl: Acl) -> bytes:
    """The xattr, as the initial user namespace writes it."""
    return encode((e.tag, e.perm, NO_ID if e.id is None else e.id) for e in acl.entries)


def read(path: bytes, name: str) -> Acl | None:
    """The ACL as the initial user namespace reads it."""
    try:
        raw = os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None
    return Acl(
        tuple(
            AclEntry(tag=Tag(tag), perm=perm, id=id_ if tag in (Tag.USER, Tag.GROUP) else None)
            for tag, perm, id_ in struct.iter_unpack("<HHI", raw[4:])
        )
    )
