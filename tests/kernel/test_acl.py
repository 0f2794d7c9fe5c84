"""What ACL entries mean beside the decision: mask, mode, chmod, setfacl."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from tests.kernel.build import parse_acl

EXTENDED = "u::rwx u:1000:r-- g::r-x g:50:rw- m::r-x o::--x"


@pytest.mark.parametrize(
    ("text", "mask", "extended", "mode"),
    [
        pytest.param("u::rw- g::r-- o::---", None, False, 0o640, id="minimal"),
        pytest.param(EXTENDED, 5, True, 0o751, id="the mask is what the group bits show"),
        pytest.param("u::rwx g::rwx m::--- o::---", 0, True, 0o700, id="an empty mask"),
    ],
)
def test_mask_and_mode(text: str, mask: int | None, extended: bool, mode: int) -> None:
    acl = parse_acl(text)
    assert (acl.mask, acl.is_extended, acl.mode) == (mask, extended, mode)


@pytest.mark.parametrize(
    ("before", "mode", "after"),
    [
        pytest.param(
            EXTENDED, 0o604, "u::rw- u:1000:r-- g::r-x g:50:rw- m::--- o::r--",
            id="trap: chmod's group bits set the mask, not the owning group",
        ),
        pytest.param("u::rw- g::r-- o::---", 0o777, "u::rwx g::rwx o::rwx", id="minimal"),
        pytest.param(EXTENDED, 0o7751, EXTENDED, id="set-id bits are no entry"),
    ],
)  # fmt: skip
def test_chmod(before: str, mode: int, after: str) -> None:
    assert parse_acl(before).with_mode(mode) == parse_acl(after)


@pytest.mark.parametrize(
    ("before", "tag", "id_", "perm", "after"),
    [
        pytest.param(
            "u::rw- g::r-- o::---", Tag.USER, 1000, 6, "u::rw- u:1000:rw- g::r-- m::rw- o::---",
            id="a first named user brings the mask",
        ),
        pytest.param(
            EXTENDED, Tag.USER, 1000, 7,
            "u::rwx u:1000:rwx g::r-x g:50:rw- m::rwx o::--x",
            id="an entry is replaced, the mask recomputed",
        ),
        pytest.param(
            EXTENDED, Tag.GROUP, 7, 0,
            "u::rwx u:1000:r-- g::r-x g:7:--- g:50:rw- m::rwx o::--x",
            id="trap: recomputing the mask wakes g:50's w",
        ),
    ],
)  # fmt: skip
def test_setfacl(before: str, tag: Tag, id_: int, perm: int, after: str) -> None:
    assert parse_acl(before).with_entry(tag, id_, perm) == parse_acl(after)


@given(st.integers(0, 0o777))
def test_a_mode_is_a_minimal_acl(mode: int) -> None:
    acl = from_mode(mode)
    assert acl.mode == mode
    assert not acl.is_extended


_PERM = st.integers(0, 7)


@st.composite
def acls(draw: st.DrawFn) -> Acl:
    def named(tag: Tag) -> list[AclEntry]:
        ids = draw(st.lists(st.integers(0, 9), max_size=3, unique=True))
        return [AclEntry(tag=tag, perm=draw(_PERM), id=i) for i in sorted(ids)]

    users, groups = named(Tag.USER), named(Tag.GROUP)
    mask = [AclEntry(tag=Tag.MASK, perm=draw(_PERM))] if users or groups else []
    owner, group, other = (
        [AclEntry(tag=t, perm=draw(_PERM))] for t in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)
    )
    return Acl((*owner, *users, *group, *groups, *mask, *other))


@given(acls(), st.integers(0, 0o777))
def test_chmod_and_mode_agree(acl: Acl, mode: int) -> None:
    changed = acl.with_mode(mode)
    assert changed.mode == mode
    assert [(e.tag, e.id) for e in changed.entries] == [(e.tag, e.id) for e in acl.entries]


@given(acls(), st.sampled_from((Tag.USER, Tag.GROUP)), st.integers(0, 9), _PERM)
def test_setfacl_grants_what_it_says(acl: Acl, tag: Tag, id_: int, perm: int) -> None:
    changed = acl.with_entry(tag, id_, perm)
    (entry,) = [e for e in changed.entries if (e.tag, e.id) == (tag, id_)]
    assert changed.mask is not None
    assert entry.perm & changed.mask == perm
    assert [e.tag for e in changed.entries] == sorted(e.tag for e in changed.entries)
