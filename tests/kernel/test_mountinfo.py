"""/proc/PID/mountinfo: parsing what the kernel escapes, and finding who governs a path."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from permdoctor.kernel.mountinfo import (
    governing,
    host_paths,
    is_beneath,
    parse_mountinfo,
    unescape,
)

CONTAINER = rb"""
620 580 0:55 / / rw,relatime master:9 - overlay overlay rw,lowerdir=/l,upperdir=/u
621 620 0:60 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
622 620 8:1 /srv/data /data ro,relatime - ext4 /dev/sda1 rw,discard
623 622 8:1 /srv/data/deep /data/deep rw,relatime - ext4 /dev/sda1 rw
624 620 8:1 /srv/with\040space /with\040space rw,relatime,idmapped - ext4 /dev/sda1 ro
625 620 0:70 /gone//deleted /gone rw shared:1 master:2 propagate_from:3 - tmpfs tmpfs rw,uid=7
626 620 0:71 / /empty rw - tmpfs  rw
"""


MOUNTS = {m.mountpoint: m for m in parse_mountinfo(CONTAINER)}


def test_all_fields() -> None:
    m = MOUNTS[b"/data"]
    assert (m.id, m.parent, m.major, m.minor) == (622, 620, 8, 1)
    assert (m.root, m.fstype, m.source) == (b"/srv/data", b"ext4", b"/dev/sda1")
    assert m.options == (b"ro", b"relatime")
    assert m.super_options == (b"rw", b"discard")


@pytest.mark.parametrize(
    ("point", "field", "value"),
    [
        pytest.param(b"/data", "read_only", True, id="ro of the mount"),
        pytest.param(b"/data", "sb_read_only", False, id="rw of the superblock"),
        pytest.param(b"/with space", "read_only", False, id="rw of the mount"),
        pytest.param(b"/with space", "sb_read_only", True, id="ro of the superblock"),
        pytest.param(b"/with space", "idmapped", True, id="idmapped"),
        pytest.param(b"/data", "idmapped", False, id="not idmapped"),
        pytest.param(b"/with space", "root", b"/srv/with space", id="octal"),
        pytest.param(b"/gone", "deleted", True, id="deleted source"),
        pytest.param(b"/", "deleted", False, id="not deleted"),
        pytest.param(b"/gone", "tags", (b"shared:1", b"master:2", b"propagate_from:3"),
                     id="optional fields"),
        pytest.param(b"/data", "tags", (), id="no optional field"),
        pytest.param(b"/empty", "source", b"", id="empty source"),
        pytest.param(b"/empty", "super_options", (b"rw",), id="options after an empty source"),
    ],
)  # fmt: skip
def test_fields(point: bytes, field: str, value: object) -> None:
    assert getattr(MOUNTS[point], field) == value


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        (rb"a\040b\011c\012d\134e", b"a b\tc\nd\\e"),
        pytest.param(rb"\134040", rb"\040", id="an escaped backslash, then digits"),
        pytest.param(b"\x1b[31m", b"\x1b[31m", id="ESC is not escaped by the kernel"),
        pytest.param(b"\xff\xfe", b"\xff\xfe", id="odd bytes"),
        pytest.param(rb"\04", rb"\04", id="too short"),
        pytest.param(rb"\999", rb"\999", id="not octal"),
    ],
)
def test_unescape(escaped: bytes, name: bytes) -> None:
    assert unescape(escaped) == name


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"620 580 0:55 / / rw",
        b"620 580 0:55 / / rw - ext4",
        b"x 580 0:55 / / rw - ext4 /dev/a rw",
        b"620 580 055 / / rw - ext4 /dev/a rw",
        b"620 580 0:5:5 / / rw - ext4 /dev/a rw",
        b" - ",
    ],
)
def test_a_garbled_line_is_left_out(line: bytes) -> None:
    good = b"1 0 0:1 / / rw - tmpfs tmpfs rw"
    assert len(parse_mountinfo(line + b"\n" + good)) == 1


@given(st.binary())
@example(b"1 0 0:1 / / rw - tmpfs tmpfs rw\xff\n \n\n - \n")
def test_garbage_never_crashes(text: bytes) -> None:
    mounts = parse_mountinfo(text)
    assert len(mounts) <= text.count(b" - ")
    assert governing(mounts, b"/a") in (*mounts, None)


_NAME = st.binary(min_size=1, max_size=8).filter(lambda b: b"\0" not in b and b"/" not in b)


def _mangle(name: bytes) -> bytes:
    return b"".join(b"\\%03o" % c if c in b" \t\n\\" else bytes([c]) for c in name)


@given(_NAME)
@example(b" - ")
@example(b"\\040")
def test_every_name_survives(name: bytes) -> None:
    line = b"1 0 0:1 /%s /%s rw - tmpfs %s rw" % ((_mangle(name),) * 3)
    (m,) = parse_mountinfo(line)
    assert (m.root, m.mountpoint, m.source) == (b"/" + name, b"/" + name, name)


@pytest.mark.parametrize(
    ("path", "top", "beneath"),
    [
        (b"/a", b"/a", True),
        (b"/a/b", b"/a", True),
        (b"/ab", b"/a", False),
        (b"/a", b"/a/b", False),
        (b"/a", b"/", True),
        (b"/", b"/", True),
    ],
)
def test_beneath(path: bytes, top: bytes, beneath: bool) -> None:
    assert is_beneath(path, top) is beneath


@pytest.mark.parametrize(
    ("path", "point"),
    [
        (b"/etc/passwd", b"/"),
        (b"/data", b"/data"),
        (b"/data/x", b"/data"),
        (b"/database", b"/"),
        pytest.param(b"/data/deep/x", b"/data/deep", id="the deepest governs"),
    ],
)
def test_governing(path: bytes, point: bytes) -> None:
    found = governing(tuple(MOUNTS.values()), path)
    assert found is not None
    assert found.mountpoint == point


def test_the_later_of_two_mounts_on_one_point_governs() -> None:
    two = parse_mountinfo(b"1 0 0:1 / /a rw - tmpfs t rw\n2 1 0:2 / /a ro - tmpfs t rw\n")
    found = governing(two, b"/a/b")
    assert found is not None
    assert found.id == 2


def test_a_mount_beneath_a_later_one_on_its_parent_is_covered() -> None:
    """/a/b was mounted, then something over /a: /a/b/c is now a name in the new /a."""
    text = (
        b"1 0 0:1 / / rw - tmpfs t rw\n"
        b"2 1 0:2 / /a/b rw - tmpfs t rw\n"
        b"3 1 0:3 / /a rw - tmpfs t rw\n"
    )
    found = governing(parse_mountinfo(text), b"/a/b/c")
    assert found is not None
    assert found.id == 3


def test_nothing_governs_where_nothing_is_mounted() -> None:
    assert governing((), b"/a") is None


HOST = parse_mountinfo(rb"""
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /home rw - ext4 /dev/sda2 rw
3 1 8:1 /srv/data /export rw - ext4 /dev/sda1 rw
4 1 0:9 / /srv/cover rw - tmpfs tmpfs rw
""")


@pytest.mark.parametrize(
    ("line", "inside", "paths"),
    [
        pytest.param(b"8:1 /srv/data", b"", (b"/export", b"/srv/data"), id="the nearest first"),
        pytest.param(b"8:1 /srv/data", b"x", (b"/export/x", b"/srv/data/x"), id="a path in it"),
        pytest.param(b"8:1 /", b"etc", (b"/etc",), id="the filesystem's root"),
        pytest.param(b"8:2 /alice", b"", (b"/home/alice",), id="another filesystem"),
        pytest.param(b"8:1 /srv/cover/x", b"", (), id="covered on the host"),
        pytest.param(b"0:70 /", b"", (), id="the container's own tmpfs"),
        pytest.param(b"8:1 /srv/data//deleted", b"", (), id="deleted"),
    ],
)
def test_host_paths(line: bytes, inside: bytes, paths: tuple[bytes, ...]) -> None:
    device, root = line.split()
    (m,) = parse_mountinfo(b"9 1 %s %s /m rw - ext4 x rw" % (device, root))
    assert host_paths(m, HOST, inside) == paths
