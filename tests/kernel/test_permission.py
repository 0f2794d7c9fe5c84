"""``permission()``: who may read, write and search, and which rule says so.

Rows named "trap" are where a reader of acl(5) or of a tutorial gets it wrong.
"""

from __future__ import annotations

import pytest

from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import capable_wrt, owner_or_capable, permission
from permdoctor.kernel.verdict import Errno, Outcome, Rule, Want
from tests.kernel.build import (
    CHR,
    DIR,
    FIFO,
    LNK,
    PLAIN,
    REMAP,
    SOCK,
    cred,
    directory,
    inode,
    mount,
    userns,
)

R, W, X = Want.R, Want.W, Want.X
OK = None
EACCES, EPERM, EROFS = Errno.EACCES, Errno.EPERM, Errno.EROFS
ROOT = cred(0, 0, caps=DOCKER_DEFAULT)


@pytest.mark.parametrize(
    ("who", "what", "want", "verdict", "rule"),
    [
        pytest.param(cred(1000), inode(0o600, 1000), R | W, OK, Rule.OWNER_BITS, id="owner"),
        pytest.param(
            cred(1000), inode(0o577, 1000), W, EACCES, Rule.CAPABILITY,
            id="trap: the owner class denies, though other may",
        ),
        pytest.param(
            cred(1000, 50), inode(0o705, 0, 50), R, EACCES, Rule.CAPABILITY,
            id="trap: the group class denies, though other may",
        ),
        pytest.param(cred(1000, 50), inode(0o640, 0, 50), R, OK, Rule.GROUP_BITS, id="fsgid"),
        pytest.param(
            cred(1000, 1, 50), inode(0o640, 0, 50), R, OK, Rule.GROUP_BITS,
            id="supplementary group",
        ),
        pytest.param(
            cred(1000, 1), inode(0o640, 0, 50), R, EACCES, Rule.CAPABILITY, id="not in the group"
        ),
        pytest.param(cred(1000), inode(0o604), R, OK, Rule.OTHER_BITS, id="other"),
        pytest.param(cred(1000), inode(0o000, 1000), Want.NONE, OK, Rule.OWNER_BITS, id="F_OK"),
        pytest.param(
            cred(0, 0), inode(0o700, 1000, 1000, DIR), X, EACCES, Rule.CAPABILITY,
            id="C10: root without capabilities is an ordinary user",
        ),
        pytest.param(
            cred(5000, 0), inode(0o750, 0, 0, DIR), X, OK, Rule.GROUP_BITS,
            id="C1: group 0 is a group like any other",
        ),
        pytest.param(
            cred(0, 7), inode(0o070, 1000, 0), R, EACCES, Rule.CAPABILITY,
            id="uid 0 is not group 0",
        ),
        pytest.param(
            cred(65534, 65534), inode(0o600, 65534), R, OK, Rule.OWNER_BITS,
            id="65534 as a real id",
        ),
        pytest.param(
            cred(0xFFFFFFFE), inode(0o600, 0xFFFFFFFE), R, OK, Rule.OWNER_BITS, id="the last id"
        ),
    ],
)  # fmt: skip
def test_mode_bits(who: Cred, what: Inode, want: Want, verdict: Errno | None, rule: Rule) -> None:
    found = permission(who, what, PLAIN, want)
    assert found.errno == verdict
    assert found.deciding is not None
    assert found.deciding.rule is rule


ACL = "u::rwx u:1000:rw- u:1001:--- g::r-- g:50:-w- g:51:r-x m::rwx o::r--"


@pytest.mark.parametrize(
    ("who", "acl", "mode", "want", "verdict", "rule"),
    [
        pytest.param(cred(0, 9), ACL, 0o774, R | W | X, OK, Rule.OWNER_BITS,
                     id="the owner never looks at the ACL"),
        pytest.param(cred(1000), ACL, 0o774, R | W, OK, Rule.ACL_USER, id="named user"),
        pytest.param(cred(1000), ACL.replace("m::rwx", "m::r--"), 0o744, W, EACCES,
                     Rule.CAPABILITY, id="the mask limits a named user"),
        pytest.param(cred(1001, 51), ACL, 0o774, R, EACCES, Rule.CAPABILITY,
                     id="a named user's entry denies, though a group's would grant"),
        pytest.param(cred(7, 50), ACL, 0o774, W, OK, Rule.ACL_GROUP, id="named group"),
        pytest.param(cred(7, 0), ACL, 0o774, R, OK, Rule.ACL_OWNING_GROUP, id="owning group"),
        pytest.param(cred(7, 0, 50), ACL, 0o774, R | W, EACCES, Rule.CAPABILITY,
                     id="trap: r of one group and w of another are not rw"),
        pytest.param(cred(7, 50, 51), ACL, 0o774, R, OK, Rule.ACL_GROUP,
                     id="a later group that covers all of it grants"),
        pytest.param(cred(7, 50), ACL, 0o774, R, EACCES, Rule.CAPABILITY,
                     id="trap: after any group entry other is not asked"),
        pytest.param(cred(7, 7), ACL, 0o774, R, OK, Rule.ACL_OTHER, id="other"),
        pytest.param(cred(7, 7), ACL, 0o774, W, EACCES, Rule.CAPABILITY, id="other denies"),
        pytest.param(cred(7, 7), ACL.replace("m::rwx", "m::-w-"), 0o724, R, OK, Rule.ACL_OTHER,
                     id="the mask does not limit other"),
        pytest.param(cred(1000, 7), ACL.replace("m::rwx", "m::---"), 0o704, R, OK,
                     Rule.OTHER_BITS,
                     id="trap: mode & 070 == 0 switches the ACL off: a named user is other"),
        pytest.param(cred(1001, 7), ACL.replace("m::rwx", "m::---"), 0o704, R, OK,
                     Rule.OTHER_BITS, id="trap: and one whom the ACL denied is let in"),
        pytest.param(cred(7, 0), ACL.replace("m::rwx", "m::---"), 0o704, R, EACCES,
                     Rule.CAPABILITY, id="and the owning group has the (empty) group bits"),
        pytest.param(cred(8), "u::r-- u:8:r-- u:8:rwx g::--- m::rwx o::---", 0o470, W, EACCES,
                     Rule.CAPABILITY, id="of two entries for one user the first counts"),
        pytest.param(cred(8, 9), "u::r-- u:?:rwx g:?:rwx g::--- m::rwx o::---", 0o470, R,
                     EACCES, Rule.CAPABILITY, id="entries without a mapping match nobody"),
    ],
)  # fmt: skip
def test_acl(who: Cred, acl: str, mode: int, want: Want, verdict: Errno | None, rule: Rule) -> None:
    found = permission(who, inode(mode, 0, 0, acl=acl), PLAIN, want)
    assert found.errno == verdict
    assert found.deciding is not None
    assert found.deciding.rule is rule


def test_a_filesystem_without_acls_asks_the_mode_bits() -> None:
    what = inode(0o644, 0, 0, acl="u::rw- u:1000:rw- g::r-- m::r-- o::r--")
    assert permission(cred(1000), what, mount(acls=False), R).deciding.rule is Rule.OTHER_BITS  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("caps", "what", "want", "verdict"),
    [
        (Cap.DAC_READ_SEARCH, directory(0o000), R | X, OK),
        (Cap.DAC_READ_SEARCH, directory(0o000), W, EACCES),
        (Cap.DAC_READ_SEARCH, inode(0o000), R, OK),
        (Cap.DAC_READ_SEARCH, inode(0o000), R | W, EACCES),
        (Cap.DAC_READ_SEARCH, inode(0o110), X, EACCES),
        (Cap.DAC_READ_SEARCH, inode(0o110), R | X, EACCES),
        (Cap.DAC_OVERRIDE, directory(0o000), R | W | X, OK),
        (Cap.DAC_OVERRIDE, inode(0o000), R | W, OK),
        pytest.param(Cap.DAC_OVERRIDE, inode(0o666), X, EACCES, id="even root needs one x bit"),
        (Cap.DAC_OVERRIDE, inode(0o010), R | W | X, OK),
        (ALL & ~Cap.DAC_OVERRIDE & ~Cap.DAC_READ_SEARCH, inode(0o000), R, EACCES),
        (Cap.FOWNER, inode(0o000), R, EACCES),
    ],
)
def test_capabilities(caps: Cap, what: Inode, want: Want, verdict: Errno | None) -> None:
    assert permission(cred(1000, caps=caps), what, PLAIN, want).errno == verdict


IN_REMAP = cred(100000, 100000, caps=ALL, ns=REMAP)


@pytest.mark.parametrize(
    ("what", "verdict", "why"),
    [
        pytest.param(inode(0o600, 101000, 101000), OK, "", id="both ids in the namespace"),
        pytest.param(inode(0o600, 1000, 1000), EACCES, "uid-unmapped", id="C8: neither"),
        pytest.param(inode(0o600, 101000, 0), EACCES, "gid-unmapped", id="trap: not the gid"),
        pytest.param(inode(0o600, 0, 101000), EACCES, "uid-unmapped", id="not the uid"),
    ],
)
def test_capabilities_count_over_both_ids(what: Inode, verdict: Errno | None, why: str) -> None:
    found = permission(IN_REMAP, what, PLAIN, R)
    assert found.errno == verdict
    assert found.deciding is not None
    assert found.deciding.why == why


def test_the_reason_of_a_capability_that_is_not_there() -> None:
    found = permission(cred(1000), inode(0o600), PLAIN, R)
    assert found.deciding is not None
    assert (found.deciding.cap, found.deciding.why) == (Cap.DAC_OVERRIDE, "absent")


def test_fowner_asks_for_the_uid_only() -> None:
    half = inode(0o600, 100005, 0)
    assert owner_or_capable(IN_REMAP, half)
    assert not capable_wrt(IN_REMAP, half, Cap.FOWNER)
    assert not owner_or_capable(IN_REMAP, inode(0o600, 0, 100005))


@pytest.mark.parametrize(
    ("who", "what", "on", "want", "verdict", "rule"),
    [
        pytest.param(ROOT, inode(0o666), mount(sb_ro=True), W, EROFS, Rule.SB_READ_ONLY,
                     id="superblock ro, root too"),
        pytest.param(ROOT, directory(0o777), mount(sb_ro=True), W, EROFS, Rule.SB_READ_ONLY,
                     id="superblock ro: directory"),
        pytest.param(ROOT, inode(0o777, type_=LNK), mount(sb_ro=True), W, EROFS,
                     Rule.SB_READ_ONLY, id="superblock ro: symlink"),
        pytest.param(ROOT, inode(0o666, type_=FIFO), mount(sb_ro=True), W, OK, Rule.OWNER_BITS,
                     id="superblock ro: not a FIFO"),
        pytest.param(ROOT, inode(0o666, type_=SOCK), mount(sb_ro=True), W, OK, Rule.OWNER_BITS,
                     id="superblock ro: not a socket"),
        pytest.param(ROOT, inode(0o666, type_=CHR), mount(sb_ro=True), W, OK, Rule.OWNER_BITS,
                     id="superblock ro: not a device"),
        pytest.param(ROOT, inode(0o666), mount(sb_ro=True), R, OK, Rule.OWNER_BITS,
                     id="superblock ro: reading"),
        pytest.param(ROOT, inode(0o666), mount(ro=True), W, OK, Rule.OWNER_BITS,
                     id="the mount's own ro is not asked here"),
        pytest.param(ROOT, inode(0o666, immutable=True), PLAIN, W, EPERM, Rule.IMMUTABLE,
                     id="immutable"),
        pytest.param(ROOT, inode(0o666, immutable=True), mount(sb_ro=True), W, EROFS,
                     Rule.SB_READ_ONLY, id="the superblock comes before the flag"),
        pytest.param(ROOT, inode(0o666, append_only=True), PLAIN, W, OK, Rule.OWNER_BITS,
                     id="append-only is open's business"),
        pytest.param(ROOT, inode(0o666, None, 0), PLAIN, W, EACCES, Rule.UNMAPPED,
                     id="unmapped uid: nobody writes, root neither"),
        pytest.param(ROOT, inode(0o666, 0, None), PLAIN, W, EACCES, Rule.UNMAPPED,
                     id="unmapped gid likewise"),
        pytest.param(ROOT, inode(0o604, None, None), PLAIN, R, OK, Rule.OTHER_BITS,
                     id="unmapped: reading as other"),
        pytest.param(cred(0, 0), inode(0o660, None, None), PLAIN, R, EACCES, Rule.CAPABILITY,
                     id="unmapped: no group either"),
        pytest.param(ROOT, inode(0o600, None, 0), PLAIN, R, EACCES, Rule.CAPABILITY,
                     id="unmapped: no capability over it"),
    ],
)  # fmt: skip
def test_what_comes_before_the_bits(
    who: Cred, what: Inode, on: Mount, want: Want, verdict: Errno | None, rule: Rule
) -> None:
    found = permission(who, what, on, want)
    assert found.errno == verdict
    assert found.deciding is not None
    assert found.deciding.rule is rule


def test_steps_tell_the_whole_way() -> None:
    """Two groups looked at, a capability missed: each is a step, in order."""
    what = inode(0o770, 0, 50, acl="u::rwx g::r-- g:51:-w- m::rwx o::---")
    steps = permission(cred(1000, 50, 51), what, PLAIN, R | W, about="object").steps
    assert [(s.rule, s.outcome, s.has) for s in steps] == [
        (Rule.ACL_OWNING_GROUP, Outcome.PASSES, R),
        (Rule.ACL_GROUP, Outcome.PASSES, W),
        (Rule.ACL_GROUP_CLASS, Outcome.PASSES, None),
        (Rule.CAPABILITY, Outcome.REFUSES, None),
    ]
    assert {s.about for s in steps} == {"object"}


OUTER = userns((0, 100000, 65536), inum=11, owner=1000)
INNER = userns((0, 101000, 10), inum=12, owner=100000, parent=OUTER)


@pytest.mark.parametrize(
    ("who", "capable"),
    [
        pytest.param(cred(0, caps=Cap.CHOWN), True, id="initial namespace, has it"),
        pytest.param(cred(0), False, id="initial namespace, has it not"),
        pytest.param(cred(100000, caps=Cap.CHOWN, ns=OUTER), True, id="parent, has it"),
        pytest.param(cred(100000, ns=OUTER), True, id="the owner, from the parent"),
        pytest.param(cred(100001, ns=OUTER), False, id="somebody in the parent"),
        pytest.param(cred(100001, ns=OUTER, euid=100000), True, id="by the effective uid"),
        pytest.param(cred(100000, ns=OUTER, euid=100001), False, id="not by the fsuid"),
        pytest.param(cred(101000, caps=Cap.CHOWN, ns=INNER), True, id="inside, has it"),
        pytest.param(cred(100000, ns=INNER), False, id="the owner's uid, but inside"),
        pytest.param(cred(1000), True, id="who owns the parent owns what is below it"),
        pytest.param(cred(1001), False, id="a neighbour of the parent's owner"),
        pytest.param(
            cred(0, caps=ALL, ns=userns((0, 0, 1), inum=13)), False, id="another namespace"
        ),
    ],
)
def test_capable_in_a_namespace(who: Cred, capable: bool) -> None:
    assert who.capable_in(INNER, Cap.CHOWN) is capable
