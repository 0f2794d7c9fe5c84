"""POSIX ACLs and file capabilities, as getxattr(2) gives them."""

from __future__ import annotations

import stat
import struct
from random import Random

import msgspec

from permdoctor.host import acl as xattr
from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from permdoctor.repair.state import State, after_chmod, passed, same, steps
from tests.fuzz.mutate import bytes_of
from tests.fuzz.oracle import ID, fits, must
from tests.fuzz.run import Target, simple

REGULAR = stat.S_IFREG | 0o640
EXTENDED = Acl(
    (
        AclEntry(tag=Tag.USER_OBJ, perm=6),
        AclEntry(tag=Tag.USER, perm=7, id=1001),
        AclEntry(tag=Tag.USER, perm=0, id=4_000_000_000),
        AclEntry(tag=Tag.GROUP_OBJ, perm=4),
        AclEntry(tag=Tag.GROUP, perm=5, id=33),
        AclEntry(tag=Tag.MASK, perm=5),
        AclEntry(tag=Tag.OTHER, perm=1),
    )
)
V1 = struct.pack("<III", 0x01000001, 1 << 10, 0)
V2 = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
V3 = struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 165536)


def entries(chance: Random) -> bytes:
    """A sound blob, but for one or two of its fields."""
    rows = [
        [e.tag, e.perm, 0xFFFFFFFF if e.id is None else e.id] for e in EXTENDED.entries
    ] * chance.choice((1, 1, 1, 2, 200))
    for _ in range(chance.randrange(3)):
        row = chance.choice(rows)
        column = chance.randrange(3)
        few = ((1, 2, 4, 8, 16, 32), (0, 7, 8), (0, 0xFFFFFFFF))[column]
        row[column] = chance.choice((*few, chance.randrange(1 << 16)))
    if chance.random() < 0.5:
        rows.sort(key=lambda r: r[0])
    head = struct.pack("<I", chance.choice((2, 2, 2, 2, 1, 3)))
    return head + b"".join(struct.pack("<HHI", *r) for r in rows)


DAMAGED = bytes_of((xattr.encode(EXTENDED), xattr.encode(from_mode(0o750))), (b"\2\0\0\0",))


def acl(data: bytes) -> None:
    found = xattr.decode(data)
    fits(found, Acl)
    for e in found.entries:
        must(e.perm in range(8), f"permissions {e.perm}")
        must(e.id is None or e.id in ID, f"id {e.id}")
        must(e.id is None or e.tag in (Tag.USER, Tag.GROUP), "an id of nobody's")
    must(xattr.decode(xattr.encode(found)) == found, "another one when it is written again")
    must(found.mode in range(0o1000), f"mode {found.mode:o}")
    must(found.with_mode(0o640).mode == 0o640, "chmod is not followed")
    fits(found.with_entry(Tag.USER, 7, 5), Acl)
    state = State(0, 0, REGULAR, acl=data)
    after = State(5, 6, REGULAR | 0o111, acl=xattr.encode(found.with_mode(0o751)))
    way = steps(state, after)
    must(same(way[-1].state, after), "the steps lead elsewhere")
    must(all(passed(s.state, state, after) for s in way), "a step is not on the way")
    after_chmod(state, REGULAR)


def capabilities(data: bytes) -> None:
    """Nobody looks into them: they are carried, dropped and put back as they are."""
    state = State(0, 0, REGULAR, caps=data)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
    must(stored.caps == data, "another one when it is read again")
    bare = State(5, 6, REGULAR)
    for before, after in ((state, bare), (bare, state)):
        way = steps(before, after)
        must(same(way[-1].state, after), "the steps lead elsewhere")
        must(all(passed(s.state, before, after) for s in way), "a step is not on the way")


TARGETS = (
    Target(
        name="acl",
        make=lambda chance: (entries if chance.random() < 0.5 else DAMAGED)(chance),
        open=simple(acl),
        errors=(ValueError,),
        seconds=1.5,  # it is decoded and encoded a dozen times
    ),
    Target(
        name="file-capabilities",
        make=bytes_of((V1, V2, V3)),
        open=simple(capabilities),
        errors=(),
    ),
)
