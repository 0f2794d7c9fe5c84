"""ACL xattrs, against setfacl(1) and the kernel."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from permdoctor.host import acl, inodes
from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode

needs_setfacl = pytest.mark.skipif(
    shutil.which("setfacl") is None, reason="needs setfacl: apt-get install acl"
)


def entry(tag: Tag, perm: int, id_: int | None = None) -> AclEntry:
    return AclEntry(tag=tag, perm=perm, id=id_)


EXTENDED = Acl(
    (
        entry(Tag.USER_OBJ, 6),
        entry(Tag.USER, 7, 1001),
        entry(Tag.USER, 0, 4_000_000_000),
        entry(Tag.GROUP_OBJ, 4),
        entry(Tag.GROUP, 5, 33),
        entry(Tag.MASK, 5),
        entry(Tag.OTHER, 1),
    )
)
SPEC = "u::rw,u:1001:rwx,u:4000000000:-,g::r,g:33:rx,m::rx,o::x"


@needs_setfacl
def test_setfacl_is_read(tmpfs: Path) -> None:
    file, directory = tmpfs / "file", tmpfs / "dir"
    file.touch()
    directory.mkdir()
    subprocess.run(["setfacl", "--set", SPEC, file], check=True)
    subprocess.run(["setfacl", "-d", "--set", SPEC, directory], check=True)
    held = os.open(file, os.O_PATH)
    at = os.open(directory, os.O_PATH)
    try:
        assert inodes.read_acl(held, acl.ACCESS) == EXTENDED
        assert inodes.read_acl(held, acl.DEFAULT) is None
        assert inodes.read_acl(at, acl.DEFAULT) == EXTENDED
        assert inodes.read_acl(at, acl.ACCESS) is None
    finally:
        os.close(held)
        os.close(at)


@needs_setfacl
def test_the_kernel_takes_what_is_encoded(tmpfs: Path) -> None:
    file = tmpfs / "file"
    file.touch()
    os.setxattr(file, acl.ACCESS, acl.encode(EXTENDED))
    said = subprocess.run(["getfacl", "-nc", file], check=True, capture_output=True, text=True)
    assert [line.split("\t")[0] for line in said.stdout.split()] == [
        "user::rw-",
        "user:1001:rwx",
        "#effective:r-x",
        "user:4000000000:---",
        "group::r--",
        "group:33:r-x",
        "mask::r-x",
        "other::--x",
    ]


@pytest.mark.parametrize("mode", [0o000, 0o640, 0o777])
def test_minimal_acls_come_back(mode: int) -> None:
    assert acl.decode(acl.encode(from_mode(mode))) == from_mode(mode)


def test_an_id_without_mapping_is_none() -> None:
    unmapped = Acl(
        (
            entry(Tag.USER_OBJ, 7),
            entry(Tag.USER, 7),
            entry(Tag.GROUP_OBJ, 7),
            entry(Tag.MASK, 7),
            entry(Tag.OTHER, 0),
        )
    )
    assert struct.pack("<HHI", Tag.USER, 7, 0xFFFFFFFF) in acl.encode(unmapped)
    assert acl.decode(acl.encode(unmapped)) == unmapped


def blob(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *e) for e in entries)


NO = 0xFFFFFFFF
MINIMAL = ((1, 6, NO), (4, 4, NO), (0x20, 4, NO))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\2\0\0", id="short"),
        pytest.param(blob(*MINIMAL) + b"\0", id="odd length"),
        pytest.param(blob(*MINIMAL, version=1), id="version"),
        pytest.param(blob(), id="no entries"),
        pytest.param(blob(*MINIMAL[1:]), id="no owner"),
        pytest.param(blob(*MINIMAL, MINIMAL[2]), id="twice other"),
        pytest.param(blob(*reversed(MINIMAL)), id="order"),
        pytest.param(blob((1, 6, NO), (2, 7, 5), *MINIMAL[1:]), id="named without mask"),
        pytest.param(blob((1, 9, NO), *MINIMAL[1:]), id="permissions"),
        pytest.param(blob((3, 6, NO), *MINIMAL[1:]), id="unknown tag"),
    ],
)
def test_garbage_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        acl.decode(value)
