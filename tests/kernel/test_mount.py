"""Id-mapped mounts: what the disk stores, what the mount shows, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from tests.kernel.build import PLAIN, id_map, inode, mount, userns

OFFSET = mount(idmap=((0, 100000, 65536),))
SWAPPED = mount(idmap=((0, 1000, 1), (1000, 0, 1)))
ONE = mount(idmap=((1000, 1001, 1),), gidmap=((1000, 2001, 1),))
INSIDE = userns((0, 5000, 10))
OF_A_NAMESPACE = mount(sb_userns=INSIDE)
BOTH = mount(idmap=((0, 100, 5),), sb_userns=INSIDE)


@pytest.mark.parametrize(
    ("on", "stored", "shown"),
    [
        pytest.param(PLAIN, 1000, 1000, id="plain"),
        pytest.param(OFFSET, 0, 100000, id="offset"),
        pytest.param(OFFSET, 65536, None, id="offset: beyond"),
        pytest.param(SWAPPED, 0, 1000, id="swapped: root is alice"),
        pytest.param(SWAPPED, 1000, 0, id="swapped: alice is root"),
        pytest.param(SWAPPED, 1, None, id="swapped: anybody else"),
        pytest.param(OF_A_NAMESPACE, 1000, 1000, id="another s_user_ns alone maps nothing"),
        pytest.param(BOTH, 5001, 101, id="with s_user_ns: by its inside id"),
        pytest.param(BOTH, 5007, None, id="with s_user_ns: in it, not in the map"),
        pytest.param(BOTH, 0, None, id="with s_user_ns: not in it"),
    ],
)
def test_uids(on: Mount, stored: int, shown: int | None) -> None:
    assert on.shown_uid(Kuid(stored)) == shown
    if shown is not None:
        assert on.stored_uid(Kuid(shown)) == stored


def test_gids_have_their_own_map() -> None:
    assert (ONE.shown_uid(Kuid(1000)), ONE.shown_gid(Kgid(1000))) == (1001, 2001)
    assert (ONE.stored_uid(Kuid(1001)), ONE.stored_gid(Kgid(2001))) == (1000, 1000)
    assert (ONE.stored_uid(Kuid(2001)), ONE.stored_gid(Kgid(1001))) == (None, None)


@pytest.mark.parametrize("on", [PLAIN, OFFSET, BOTH])
def test_nobody_stays_nobody(on: Mount) -> None:
    assert on.shown_uid(None) is None
    assert on.stored_gid(None) is None


def test_a_plain_mount_stores_what_the_superblock_cannot() -> None:
    """``from_vfsuid`` without a map asks nobody; the check comes later, where it comes."""
    assert OF_A_NAMESPACE.stored_uid(Kuid(0)) == 0


@pytest.mark.parametrize(
    ("on", "stored", "shown"),
    [
        pytest.param(
            OFFSET,
            inode(0o640, 0, 5, acl="u::rw- u:1:r-- u:70000:r-- g::r-- g:2:r-- m::r-- o::---"),
            inode(
                0o640,
                100000,
                100005,
                acl="u::rw- u:100001:r-- u:?:r-- g::r-- g:100002:r-- m::r-- o::---",
            ),
            id="owner, group and the ACL's named ids",
        ),
        pytest.param(SWAPPED, inode(0o600, 5, 0), inode(0o600, None, 1000), id="half mapped"),
        pytest.param(PLAIN, inode(0o600, 5, 0), inode(0o600, 5, 0), id="plain"),
    ],
)
def test_an_inode_as_shown(on: Mount, stored: Inode, shown: Inode) -> None:
    assert on.show(stored) == shown


def test_default_acls_are_mapped_too() -> None:
    parent = inode(0o755, 0, 0, default="u::rwx u:1:rwx g::--- m::rwx o::---")
    shown = inode(0o755, 100000, 100000, default="u::rwx u:100001:rwx g::--- m::rwx o::---")
    assert OFFSET.show(parent) == shown


@given(st.integers(0, 70000))
def test_what_is_shown_is_stored_back(stored: int) -> None:
    shown = OFFSET.shown_uid(Kuid(stored))
    assert shown is None or OFFSET.stored_uid(shown) == stored


@pytest.mark.parametrize(
    ("on", "devices"),
    [(PLAIN, True), (mount(nodev=True), False), (OF_A_NAMESPACE, False)],
)
def test_devices(on: Mount, devices: bool) -> None:
    assert on.no_devices is not devices


def test_the_builders_maps_are_the_models() -> None:
    assert OFFSET.idmap is not None
    assert OFFSET.idmap.uids == id_map((0, 100000, 65536))
