"""The path walk: search permission on the way, and which links are followed."""

from __future__ import annotations

import pytest

from permdoctor.kernel.caps import ALL, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Errno, Rule, Verdict
from permdoctor.kernel.walk import Hop, walk
from tests.kernel.build import LNK, PLAIN, cred, directory, inode, mount

ON = Sysctls(protected_symlinks=1)
OFF = Sysctls(protected_symlinks=0)
ALICE = cred(1000)
ROOT_DIR = directory(0o755)
TMP = directory(0o1777)
FILE = inode(0o644)


def hop(what: Inode, *, on: Mount = PLAIN, link: bytes | None = None, last: bool = False) -> Hop:
    return Hop(path=b"/x", inode=what, mount=on, link=link, trailing=last)


def link(owner: int | None = 1000, *, last: bool = True) -> Hop:
    return hop(inode(0o777, owner, type_=LNK), link=b"y", last=last)


def _at(verdict: Verdict) -> tuple[Errno | None, str | None, Rule | None]:
    step = verdict.steps[-1] if verdict.steps else None
    refused = step is not None and not verdict.allowed
    return (
        verdict.errno,
        step.about if step and refused else None,
        step.rule if step and refused else None,
    )


@pytest.mark.parametrize(
    ("who", "inodes", "expected"),
    [
        pytest.param(ALICE, [ROOT_DIR, ROOT_DIR, FILE], (None, None, None), id="all searchable"),
        pytest.param(ALICE, [ROOT_DIR, directory(0o700), FILE],
                     (Errno.EACCES, "1", Rule.CAPABILITY), id="/root is 0700"),
        pytest.param(ALICE, [directory(0o700), directory(0o700), FILE],
                     (Errno.EACCES, "0", Rule.CAPABILITY), id="the start is asked first"),
        pytest.param(ALICE, [ROOT_DIR, directory(0o700)], (None, None, None),
                     id="the last one is not asked"),
        pytest.param(ALICE, [ROOT_DIR, directory(0o711), FILE], (None, None, None),
                     id="x is enough"),
        pytest.param(ALICE, [ROOT_DIR, directory(0o744), FILE],
                     (Errno.EACCES, "1", Rule.CAPABILITY), id="r is not"),
        pytest.param(cred(0, caps=Cap.DAC_READ_SEARCH), [directory(0), directory(0), FILE],
                     (None, None, None), id="CAP_DAC_READ_SEARCH"),
        pytest.param(ALICE, [ROOT_DIR, FILE, FILE], (Errno.ENOTDIR, "1", Rule.WRONG_TYPE),
                     id="a file on the way"),
        pytest.param(ALICE, [ROOT_DIR, directory(0o700), FILE, FILE],
                     (Errno.EACCES, "1", Rule.CAPABILITY), id="EACCES comes before it"),
        pytest.param(ALICE, [FILE], (None, None, None), id="a single hop"),
        pytest.param(ALICE, [], (None, None, None), id="no hop at all"),
    ],
)  # fmt: skip
def test_search(
    who: Cred, inodes: list[Inode], expected: tuple[Errno | None, str | None, Rule | None]
) -> None:
    assert _at(walk(who, [hop(i) for i in inodes], ON)) == expected


@pytest.mark.parametrize("on", [mount(ro=True), mount(sb_ro=True), mount(noexec=True)])
def test_no_flag_of_a_mount_stops_a_search(on: Mount) -> None:
    assert walk(ALICE, [hop(ROOT_DIR, on=on), hop(FILE, on=on)], ON).allowed


@pytest.mark.parametrize(
    ("parent", "the_link", "sysctls", "errno"),
    [
        pytest.param(TMP, link(7), ON, Errno.EACCES, id="somebody else's link in /tmp"),
        pytest.param(TMP, link(7), OFF, None, id="sysctl off"),
        pytest.param(TMP, link(1000), ON, None, id="one's own"),
        pytest.param(TMP, link(0), ON, None, id="the directory's owner's"),
        pytest.param(TMP, link(7, last=False), ON, None, id="not the last component"),
        pytest.param(directory(0o777), link(7), ON, None, id="not sticky"),
        pytest.param(directory(0o1775), link(7), ON, None, id="not writable for others"),
        pytest.param(TMP, link(None), ON, Errno.EACCES, id="an unmapped owner is nobody"),
        pytest.param(directory(0o1777, None), link(None), ON, Errno.EACCES,
                     id="two unmapped owners are not the same"),
    ],
)  # fmt: skip
def test_protected_symlinks(
    parent: Inode, the_link: Hop, sysctls: Sysctls, errno: Errno | None
) -> None:
    for who in (ALICE, cred(1000, caps=ALL)):  # no capability helps
        found = walk(who, [hop(ROOT_DIR), hop(parent), the_link, hop(FILE)], sysctls)
        assert found.errno == errno


def test_the_directory_is_that_of_the_link() -> None:
    """/tmp/d/l: the link lies in d, which is not sticky."""
    hops = [hop(TMP), hop(directory(0o755, 7)), link(8), hop(FILE)]
    assert walk(ALICE, hops, ON).allowed


def test_a_link_to_a_link_in_tmp() -> None:
    """The first link's directory is harmless, its target's is not."""
    hops = [hop(ROOT_DIR), link(7), hop(TMP), link(7), hop(FILE)]
    found = walk(ALICE, hops, ON)
    assert _at(found) == (Errno.EACCES, "3", Rule.PROTECTED_SYMLINKS)


@pytest.mark.parametrize(
    ("links", "errno"), [(0, None), (1, None), (40, None), (41, Errno.ELOOP), (500, Errno.ELOOP)]
)
def test_too_many_links(links: int, errno: Errno | None) -> None:
    hops = [hop(ROOT_DIR), *[link()] * links, hop(FILE)]
    assert walk(ALICE, hops, ON).errno == errno


def test_a_link_that_is_not_followed_is_a_last_hop_like_any_other() -> None:
    hops = [hop(TMP), hop(inode(0o777, 7, type_=LNK))]
    assert walk(ALICE, hops, ON).allowed


def test_steps_carry_the_number_of_their_hop() -> None:
    steps = walk(ALICE, [hop(ROOT_DIR), hop(TMP), hop(FILE)], ON).steps
    assert [(s.about, s.rule) for s in steps] == [("0", Rule.OTHER_BITS), ("1", Rule.OTHER_BITS)]
