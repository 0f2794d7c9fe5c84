"""The operations: which check comes first, and the errno a program gets.

Numbers in the ids of rows are the traps of the kernel's rules: things that were got wrong.
"""

from __future__ import annotations

import pytest

from permdoctor.kernel import operations as op
from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Gid, Kgid, Kuid, Uid
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.operations import OpenFlags
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Errno, Rule, Verdict, Want
from tests.kernel.build import (
    CHR,
    DIR,
    FIFO,
    LNK,
    PLAIN,
    REG,
    REMAP,
    SOCK,
    cred,
    directory,
    inode,
    mount,
    parse_acl,
    userns,
)

R, W, X = Want.R, Want.W, Want.X
OK = None
EACCES, EPERM, EROFS, EEXIST = Errno.EACCES, Errno.EPERM, Errno.EROFS, Errno.EEXIST
EISDIR, ENOTDIR, EXDEV, ELOOP = Errno.EISDIR, Errno.ENOTDIR, Errno.EXDEV, Errno.ELOOP
EOVERFLOW, EINVAL, EOPNOTSUPP = Errno.EOVERFLOW, Errno.EINVAL, Errno.EOPNOTSUPP

ROOT = cred(0, 0, caps=DOCKER_DEFAULT)
ALICE = cred(1000, 1000)
RO, SB_RO = mount(ro=True), mount(sb_ro=True)
OFFSET = mount(idmap=((0, 100000, 1000),))
STRICT = Sysctls(
    protected_hardlinks=1, protected_symlinks=1, protected_fifos=2, protected_regular=2
)
LAX = Sysctls(protected_hardlinks=0, protected_symlinks=0, protected_fifos=0, protected_regular=0)
HOME = directory(0o755, 1000, 1000)
TMP = directory(0o1777)


def _decided_by(verdict: Verdict) -> Rule | None:
    return None if verdict.deciding is None else verdict.deciding.rule


@pytest.mark.parametrize(
    ("who", "what", "on", "want", "errno"),
    [
        pytest.param(ALICE, inode(0o644, 1000), RO, W, EROFS, id="ro mount"),
        pytest.param(ALICE, inode(0o600), RO, W, EACCES, id="DAC comes before the ro mount"),
        pytest.param(ALICE, inode(0o666, type_=FIFO), RO, W, OK, id="ro mount: not a FIFO"),
        pytest.param(ALICE, inode(0o666, type_=CHR), RO, W, OK, id="ro mount: not a device"),
        pytest.param(ALICE, inode(0o644, 1000), RO, R, OK, id="ro mount: reading"),
        pytest.param(ALICE, inode(0o600), SB_RO, W, EROFS, id="ro superblock: before DAC"),
        pytest.param(ROOT, inode(0o755), mount(noexec=True), X, EACCES, id="noexec"),
        pytest.param(ROOT, directory(0o755), mount(noexec=True), X, OK, id="noexec: directory"),
        pytest.param(ROOT, inode(0o644), PLAIN, X, EACCES, id="root needs one x bit"),
        pytest.param(ALICE, inode(0o000), PLAIN, Want.NONE, OK, id="F_OK"),
    ],
)
def test_access(who: Cred, what: Inode, on: Mount, want: Want, errno: Errno | None) -> None:
    assert op.access(who, what, on, want).errno == errno


def _flags(want: Want = R, **more: bool) -> OpenFlags:
    return OpenFlags(want=want, **more)


@pytest.mark.parametrize(
    ("who", "what", "on", "flags", "errno"),
    [
        pytest.param(ALICE, inode(0o644), PLAIN, _flags(), OK, id="read"),
        pytest.param(ALICE, inode(0o644), PLAIN, _flags(W), EACCES, id="write"),
        pytest.param(ALICE, inode(0o600), RO, _flags(W), EACCES, id="ro mount comes last"),
        pytest.param(ALICE, inode(0o666), RO, _flags(W), EROFS, id="ro mount"),
        pytest.param(ALICE, inode(0o600), RO, _flags(W, truncate=True), EROFS,
                     id="ro mount comes first with O_TRUNC"),
        pytest.param(ALICE, inode(0o600, type_=FIFO), RO, _flags(W, truncate=True), EACCES,
                     id="but not for a FIFO"),
        pytest.param(ALICE, inode(0o666, type_=FIFO), RO, _flags(W), OK, id="ro mount: FIFO"),
        pytest.param(ALICE, inode(0o644, 0), PLAIN, _flags(R, truncate=True), EACCES,
                     id="O_TRUNC writes, O_RDONLY or not"),
        pytest.param(ROOT, directory(0o777), PLAIN, _flags(W), EISDIR, id="directory, writing"),
        pytest.param(ALICE, directory(0o700), RO, _flags(W), EISDIR, id="EISDIR before DAC"),
        pytest.param(ROOT, directory(0o777), PLAIN, _flags(create=True), EISDIR, id="O_CREAT"),
        pytest.param(ALICE, directory(0o755), PLAIN, _flags(directory=True), OK, id="list"),
        pytest.param(ROOT, inode(0o644), PLAIN, _flags(directory=True), ENOTDIR,
                     id="O_DIRECTORY"),
        pytest.param(ROOT, inode(0o777, type_=LNK), PLAIN, _flags(), ELOOP, id="O_NOFOLLOW"),
        pytest.param(ROOT, inode(0o777, type_=LNK), PLAIN, _flags(directory=True), ENOTDIR,
                     id="O_NOFOLLOW with O_DIRECTORY"),
        pytest.param(ALICE, inode(0o000), PLAIN, _flags(create=True, exclusive=True), EEXIST,
                     id="O_EXCL comes before everything"),
        pytest.param(ROOT, inode(0o666, type_=CHR), mount(nodev=True), _flags(), EACCES,
                     id="nodev"),
        pytest.param(ROOT, inode(0o666, type_=CHR), mount(sb_userns=REMAP), _flags(), EACCES,
                     id="device on a superblock of a container"),
        pytest.param(ROOT, inode(0o666, append_only=True), PLAIN, _flags(W), EPERM,
                     id="append-only: without O_APPEND"),
        pytest.param(ROOT, inode(0o666, append_only=True), PLAIN, _flags(W, append=True), OK,
                     id="append-only: with O_APPEND"),
        pytest.param(ROOT, inode(0o666, append_only=True), PLAIN,
                     _flags(W, append=True, truncate=True), EPERM, id="append-only: O_TRUNC"),
        pytest.param(ALICE, inode(0o600, append_only=True), PLAIN, _flags(W), EACCES,
                     id="append-only comes after DAC"),
        pytest.param(ALICE, inode(0o644), PLAIN, _flags(noatime=True), EPERM, id="O_NOATIME"),
        pytest.param(ALICE, inode(0o644, 1000), PLAIN, _flags(noatime=True), OK,
                     id="O_NOATIME of the owner"),
        pytest.param(ROOT, inode(0o644, 1000), PLAIN, _flags(noatime=True), OK,
                     id="O_NOATIME with CAP_FOWNER"),
        pytest.param(ROOT, inode(0o666, immutable=True), PLAIN, _flags(W), EPERM, id="immutable"),
        pytest.param(ROOT, inode(0o666, type_=SOCK), PLAIN, _flags(W), OK,
                     id="a socket's ENXIO comes after every permission"),
    ],
)  # fmt: skip
def test_open(who: Cred, what: Inode, on: Mount, flags: OpenFlags, errno: Errno | None) -> None:
    assert op.open_existing(who, what, on, flags).errno == errno


@pytest.mark.parametrize(
    ("what", "parent", "sysctls", "errno"),
    [
        pytest.param(inode(0o666, 7), TMP, STRICT, EACCES, id="somebody else's file in /tmp"),
        pytest.param(inode(0o666, 1000), TMP, STRICT, OK, id="one's own"),
        pytest.param(inode(0o666, 0), TMP, STRICT, OK, id="the directory's owner's"),
        pytest.param(inode(0o666, 7), directory(0o777), STRICT, OK, id="not sticky"),
        pytest.param(inode(0o666, 7), directory(0o1775), STRICT, EACCES, id="g+w, level 2"),
        pytest.param(inode(0o666, 7), directory(0o1775), Sysctls(protected_regular=1), OK,
                     id="g+w, level 1"),
        pytest.param(inode(0o666, 7), directory(0o1755), STRICT, OK, id="nobody else may write"),
        pytest.param(inode(0o666, 7), TMP, LAX, OK, id="level 0"),
        pytest.param(inode(0o666, 7, type_=FIFO), TMP, STRICT, EACCES, id="FIFO"),
        pytest.param(inode(0o666, 7, type_=FIFO), TMP, LAX, OK, id="FIFO, level 0"),
        pytest.param(inode(0o666, 7, type_=SOCK), TMP, LAX, EACCES,
                     id="other types have no sysctl: always"),
        pytest.param(inode(0o666, None), directory(0o1777, None), STRICT, EACCES,
                     id="two unmapped owners are not the same owner"),
    ],
)  # fmt: skip
def test_o_creat_in_a_sticky_directory(
    what: Inode, parent: Inode, sysctls: Sysctls, errno: Errno | None
) -> None:
    """fs.protected_regular and fs.protected_fifos; without O_CREAT nobody asks."""
    flags = _flags(create=True)
    found = op.open_existing(ALICE, what, PLAIN, flags, parent=parent, sysctls=sysctls)
    assert found.errno == errno
    plain = op.open_existing(ALICE, what, PLAIN, _flags(), parent=parent, sysctls=sysctls)
    assert plain.allowed


@pytest.mark.parametrize(
    ("who", "parent", "on", "exists", "errno"),
    [
        pytest.param(ALICE, HOME, PLAIN, False, OK, id="one's own directory"),
        pytest.param(cred(1001, 1001), HOME, PLAIN, False, EACCES, id="S4: class other, r-x"),
        pytest.param(cred(1001, 0), directory(0o755), PLAIN, False, EACCES,
                     id="C1: group 0 without w"),
        pytest.param(ALICE, directory(0o733), PLAIN, False, OK, id="w and x, no r"),
        pytest.param(ALICE, directory(0o766), PLAIN, False, EACCES, id="w without x"),
        pytest.param(ALICE, HOME, RO, False, EROFS, id="S1 b: ro mount"),
        pytest.param(ALICE, HOME, RO, True, EEXIST, id="EEXIST comes before EROFS"),
        pytest.param(ALICE, directory(0o700), RO, False, EROFS, id="EROFS comes before DAC"),
        pytest.param(ROOT, directory(0o777, immutable=True), PLAIN, False, EPERM, id="immutable"),
        pytest.param(ROOT, directory(0o755, append_only=True), PLAIN, False, OK,
                     id="append-only takes new names"),
        pytest.param(cred(100500, 100500), directory(0o777, 100000, 100000), OFFSET, False, OK,
                     id="idmapped, both ids can be stored"),
        pytest.param(cred(5000, 100000), directory(0o777, 100000, 100000), OFFSET, False,
                     EOVERFLOW, id="trap 5: uid cannot be stored"),
        pytest.param(cred(100500, 0), directory(0o777, 100000, 100000), OFFSET, False,
                     EOVERFLOW, id="trap 5: gid cannot be stored (-u 5000 has gid 0)"),
        pytest.param(cred(5000, 0), directory(0o700, 100000, 100000), OFFSET, False, EOVERFLOW,
                     id="EOVERFLOW comes before DAC"),
        pytest.param(ROOT, directory(0o777, 100000), mount(sb_userns=REMAP), False, EOVERFLOW,
                     id="trap 1: a container's tmpfs, the host's root too"),
        pytest.param(ROOT, directory(0o777, None, 0), OFFSET, False, EOVERFLOW,
                     id="root is nobody on an idmapped mount without it"),
    ],
)  # fmt: skip
def test_create(who: Cred, parent: Inode, on: Mount, exists: bool, errno: Errno | None) -> None:
    assert op.create(who, parent, on, exists=exists).errno == errno


FOWNER_IN_REMAP = cred(105000, 105000, caps=Cap.FOWNER, ns=REMAP)


@pytest.mark.parametrize(
    ("who", "parent", "victim", "on", "errno"),
    [
        pytest.param(ALICE, HOME, inode(0o000, 0), PLAIN, OK, id="the directory decides"),
        pytest.param(ALICE, directory(0o755), inode(0o666, 1000), PLAIN, EACCES,
                     id="not the file"),
        pytest.param(ALICE, HOME, inode(0o644), RO, EROFS, id="ro mount"),
        pytest.param(ALICE, directory(0o700), inode(0o644, None), PLAIN, EOVERFLOW,
                     id="unmapped victim, before the directory is asked"),
        pytest.param(ROOT, HOME, inode(0o644, 0, None), PLAIN, EOVERFLOW, id="unmapped gid"),
        pytest.param(ALICE, TMP, inode(0o666, 7), PLAIN, EPERM, id="sticky: somebody else's"),
        pytest.param(ALICE, TMP, inode(0o666, 1000), PLAIN, OK, id="sticky: one's own"),
        pytest.param(ALICE, directory(0o1777, 1000), inode(0o666, 7), PLAIN, OK,
                     id="sticky: one's own directory"),
        pytest.param(ROOT, directory(0o1777, 7), inode(0o666, 8), PLAIN, OK,
                     id="sticky: CAP_FOWNER"),
        pytest.param(FOWNER_IN_REMAP, directory(0o1777, 100000, 100000), inode(0o666, 7, 7),
                     PLAIN, EPERM, id="sticky: CAP_FOWNER over the victim, not the directory"),
        pytest.param(FOWNER_IN_REMAP, directory(0o1777, 7, 7), inode(0o666, 100000, 100000),
                     PLAIN, OK, id="sticky: CAP_FOWNER over the victim"),
        pytest.param(FOWNER_IN_REMAP, directory(0o1777, 7, 7), inode(0o666, 100000, 7), PLAIN,
                     EPERM, id="sticky: CAP_FOWNER asks for the victim's gid too"),
        pytest.param(ROOT, directory(0o777, append_only=True), inode(0o666), PLAIN, EPERM,
                     id="append-only directory"),
        pytest.param(ROOT, TMP, inode(0o666, immutable=True), PLAIN, EPERM, id="immutable"),
        pytest.param(ROOT, TMP, inode(0o666, append_only=True), PLAIN, EPERM, id="append-only"),
        pytest.param(ALICE, HOME, directory(0o000), PLAIN, OK, id="rmdir"),
    ],
)  # fmt: skip
def test_delete(who: Cred, parent: Inode, victim: Inode, on: Mount, errno: Errno | None) -> None:
    assert op.delete(who, parent, victim, on).errno == errno


@pytest.mark.parametrize(
    ("victim", "rmdir", "parent", "errno"),
    [
        (inode(0o644), True, HOME, ENOTDIR),
        (directory(0o755), False, HOME, EISDIR),
        pytest.param(directory(0o755), False, directory(0o755), EACCES, id="after DAC"),
    ],
)
def test_the_wrong_call(victim: Inode, rmdir: bool, parent: Inode, errno: Errno) -> None:
    assert op.delete(ALICE, parent, victim, PLAIN, rmdir=rmdir).errno == errno


OTHER_HOME = directory(0o700, 1000, 1000)


@pytest.mark.parametrize(
    ("source", "target", "new_parent", "same", "on", "errno"),
    [
        pytest.param(inode(0o644), None, OTHER_HOME, (False, True), PLAIN, OK, id="file"),
        pytest.param(inode(0o644), None, OTHER_HOME, (False, False), RO, EXDEV,
                     id="another mount, before EROFS"),
        pytest.param(inode(0o644), None, OTHER_HOME, (False, True), RO, EROFS, id="ro mount"),
        pytest.param(directory(0o555, 1000), None, OTHER_HOME, (False, True), PLAIN, EACCES,
                     id="a directory that moves is written itself"),
        pytest.param(directory(0o555, 1000), None, HOME, (True, True), PLAIN, OK,
                     id="one that only changes its name is not"),
        pytest.param(inode(0o644), None, directory(0o755), (False, True), PLAIN, EACCES,
                     id="no w on the new directory"),
        pytest.param(inode(0o644), inode(0o644, 7), directory(0o1777), (False, True), PLAIN,
                     EPERM, id="replacing in a sticky directory"),
        pytest.param(inode(0o644), directory(0o755), OTHER_HOME, (False, True), PLAIN, EISDIR,
                     id="file over directory"),
        pytest.param(directory(0o755, 1000), inode(0o644), OTHER_HOME, (False, True), PLAIN,
                     ENOTDIR, id="directory over file"),
        pytest.param(inode(0o644, None), None, OTHER_HOME, (False, True), PLAIN, EOVERFLOW,
                     id="unmapped source"),
        pytest.param(inode(0o644), inode(0o644, None), OTHER_HOME, (False, True), PLAIN,
                     EOVERFLOW, id="unmapped target"),
    ],
)  # fmt: skip
def test_rename(
    source: Inode,
    target: Inode | None,
    new_parent: Inode,
    same: tuple[bool, bool],
    on: Mount,
    errno: Errno | None,
) -> None:
    found = op.rename(
        ALICE,
        HOME,
        source,
        on,
        new_parent,
        target,
        same_directory=same[0],
        same_mount=same[1],
    )
    assert found.errno == errno


@pytest.mark.parametrize(
    ("source", "sysctls", "errno"),
    [
        pytest.param(inode(0o600, 1000), STRICT, OK, id="one's own"),
        pytest.param(inode(0o666, 7), STRICT, OK, id="readable and writable"),
        pytest.param(inode(0o644, 7), STRICT, EPERM, id="not writable"),
        pytest.param(inode(0o644, 7), LAX, OK, id="not writable, sysctl off"),
        pytest.param(inode(0o4666, 7), STRICT, EPERM, id="setuid"),
        pytest.param(inode(0o2676, 7), STRICT, EPERM, id="setgid and g+x"),
        pytest.param(inode(0o2666, 7), STRICT, OK, id="setgid without g+x is no program"),
        pytest.param(inode(0o666, 7, type_=FIFO), STRICT, EPERM, id="not a regular file"),
        pytest.param(inode(0o600, None), LAX, EOVERFLOW, id="unmapped"),
        pytest.param(inode(0o600, 1000, immutable=True), LAX, EPERM, id="immutable"),
        pytest.param(directory(0o700, 1000), LAX, EPERM, id="a directory"),
    ],
)
def test_link(source: Inode, sysctls: Sysctls, errno: Errno | None) -> None:
    assert op.link(ALICE, source, HOME, PLAIN, sysctls).errno == errno


@pytest.mark.parametrize(
    ("on", "exists", "same_mount", "new_parent", "errno"),
    [
        (RO, True, False, HOME, EEXIST),
        (RO, False, False, HOME, EROFS),
        (PLAIN, False, False, directory(0o500), EXDEV),
        (PLAIN, False, True, directory(0o555), EACCES),
    ],
)
def test_link_in_order(
    on: Mount, exists: bool, same_mount: bool, new_parent: Inode, errno: Errno
) -> None:
    found = op.link(
        ALICE, inode(0o600, 1000), new_parent, on, STRICT, exists=exists, same_mount=same_mount
    )
    assert found.errno == errno


@pytest.mark.parametrize(
    ("who", "what", "on", "errno"),
    [
        pytest.param(ALICE, inode(0o600, 1000), PLAIN, OK, id="owner"),
        pytest.param(cred(999, 0), directory(0o777), PLAIN, EPERM,
                     id="C6: PostgreSQL may write and not own"),
        pytest.param(ROOT, inode(0o600, 1000), PLAIN, OK, id="CAP_FOWNER"),
        pytest.param(cred(100000, caps=ALL, ns=REMAP), inode(0o600, 7), PLAIN, EPERM,
                     id="CAP_FOWNER, uid not in the namespace"),
        pytest.param(cred(100000, caps=ALL, ns=REMAP), inode(0o600, 100007, 7), PLAIN, OK,
                     id="CAP_FOWNER asks for the uid only"),
        pytest.param(ALICE, inode(0o600, 1000), RO, EROFS, id="ro mount"),
        pytest.param(ROOT, inode(0o600, immutable=True), PLAIN, EPERM, id="immutable"),
        pytest.param(ROOT, inode(0o600, append_only=True), PLAIN, EPERM, id="append-only"),
        pytest.param(ROOT, inode(0o600, None), PLAIN, EOVERFLOW, id="unmapped uid"),
        pytest.param(ALICE, inode(0o600, 1000, None), PLAIN, EOVERFLOW,
                     id="unmapped gid, the owner too"),
        pytest.param(ALICE, inode(0o777, 1000, type_=LNK), PLAIN, EOPNOTSUPP, id="symlink"),
    ],
)  # fmt: skip
def test_chmod(who: Cred, what: Inode, on: Mount, errno: Errno | None) -> None:
    assert op.chmod(who, what, on).errno == errno


@pytest.mark.parametrize(
    ("who", "what", "mode", "after"),
    [
        pytest.param(cred(1000, 50), inode(0o644, 1000, 50), 0o2755, 0o2755, id="in the group"),
        pytest.param(ALICE, inode(0o644, 1000, 50), 0o2755, 0o755,
                     id="setgid dropped silently outside the group"),
        pytest.param(cred(1000, caps=Cap.FSETID), inode(0o644, 1000, 50), 0o2755, 0o2755,
                     id="CAP_FSETID"),
        pytest.param(ALICE, directory(0o2755, 1000, 50), 0o2775, 0o775,
                     id="trap 3: an explicit chmod clears what mkdir had inherited"),
        pytest.param(ALICE, inode(0o644, 1000, 50), 0o5755, 0o5755, id="setuid and sticky stay"),
    ],
)  # fmt: skip
def test_chmod_result(who: Cred, what: Inode, mode: int, after: int) -> None:
    assert op.chmod_result(who, what, mode).mode == after


def test_chmod_with_an_acl_sets_the_mask() -> None:
    what = inode(0o674, 1000, 0, acl="u::rw- u:7:rwx g::r-- m::rwx o::r--")
    after = op.chmod_result(ALICE, what, 0o640)
    assert after.mode == 0o640
    assert after.acl == parse_acl("u::rw- u:7:rwx g::r-- m::r-- o::---")


FILE = inode(0o644, 1000, 1000)


@pytest.mark.parametrize(
    ("who", "what", "on", "uid", "gid", "errno"),
    [
        pytest.param(ROOT, FILE, PLAIN, 1001, 1001, OK, id="CAP_CHOWN"),
        pytest.param(ALICE, FILE, PLAIN, 1001, None, EPERM, id="the owner gives nothing away"),
        pytest.param(ALICE, FILE, PLAIN, 1000, None, OK, id="the owner, unchanged"),
        pytest.param(cred(1000, 1, 50), FILE, PLAIN, None, 50, OK, id="to one of one's groups"),
        pytest.param(ALICE, FILE, PLAIN, None, 50, EPERM, id="to another group"),
        pytest.param(cred(1000, 1), FILE, PLAIN, None, 1000, OK, id="the same group"),
        pytest.param(ALICE, inode(0o644, 0), PLAIN, None, None, OK, id="-1, -1: anybody"),
        pytest.param(ALICE, inode(0o644, None), PLAIN, None, None, EOVERFLOW,
                     id="-1, -1 of an unmapped inode"),
        pytest.param(ROOT, inode(0o644, immutable=True), mount(fstype="xfs"), None, None, OK,
                     id="-1, -1 of an immutable inode"),
        pytest.param(ROOT, inode(0o644, immutable=True), mount(fstype="ext4"), None, None, EPERM,
                     id="ext4 asks for the flag again"),
        pytest.param(ROOT, FILE, RO, 1, 1, EROFS, id="ro mount"),
        pytest.param(cred(100000, caps=ALL, ns=REMAP), inode(0o644, 100000, 100000), RO, 70000, 1,
                     EROFS, id="EROFS comes before EINVAL"),
        pytest.param(cred(100000, caps=ALL, ns=REMAP),
                     inode(0o644, 100000, 100000, immutable=True), PLAIN, 70000, 1, EINVAL,
                     id="an id that the namespace has not"),
        pytest.param(cred(100000, caps=ALL, ns=REMAP), inode(0o644, 100000, 100000), PLAIN,
                     1000, 1000, OK, id="inside ids are meant"),
        pytest.param(cred(100000, caps=ALL, ns=REMAP), inode(0o644, 1000, 1000), PLAIN, 0, 0,
                     EPERM, id="an inode of nobody in the namespace"),
        pytest.param(ROOT, inode(0o644, 100000, 100000), OFFSET, 5, None, EOVERFLOW,
                     id="a uid that the mount cannot store"),
        pytest.param(ROOT, inode(0o644, None, 100000), OFFSET, None, 100001, EOVERFLOW,
                     id="a uid that stays invalid"),
        pytest.param(ROOT, inode(0o644, None, None), OFFSET, 100001, 100001, OK,
                     id="two that are made valid"),
        pytest.param(ROOT, inode(0o644, immutable=True), PLAIN, 1, None, EPERM, id="immutable"),
        pytest.param(cred(0, 0, caps=Cap.CHOWN), inode(0o4755, 1000), PLAIN, 1, None, EPERM,
                     id="setuid to drop: CAP_CHOWN is not enough"),
        pytest.param(cred(0, 0, caps=Cap.CHOWN | Cap.FOWNER), inode(0o4755, 1000), PLAIN, 1,
                     None, OK, id="with CAP_FOWNER it is"),
        pytest.param(cred(0, 0, caps=Cap.CHOWN), inode(0o2745, 1000), PLAIN, 1, None, OK,
                     id="setgid without g+x stays: nothing to drop"),
        pytest.param(cred(0, 9, caps=Cap.CHOWN), inode(0o2745, 1000), PLAIN, 1, None, EPERM,
                     id="unless one is not in the group"),
        pytest.param(cred(0, 0, caps=Cap.CHOWN), directory(0o6755, 1000), PLAIN, 1, None, OK,
                     id="a directory drops nothing"),
    ],
)  # fmt: skip
def test_chown(
    who: Cred, what: Inode, on: Mount, uid: int | None, gid: int | None, errno: Errno | None
) -> None:
    new_uid = None if uid is None else Uid(uid)
    new_gid = None if gid is None else Gid(gid)
    assert op.chown(who, what, on, new_uid, new_gid).errno == errno


MAY_CHOWN = Cap.CHOWN | Cap.FOWNER


@pytest.mark.parametrize(
    ("who", "what", "gid", "mode"),
    [
        pytest.param(ROOT, inode(0o6755), None, 0o755, id="root's chown drops both"),
        pytest.param(ROOT, inode(0o2745), None, 0o2745, id="setgid without g+x stays"),
        pytest.param(cred(0, 9, caps=MAY_CHOWN), inode(0o2745), None, 0o745,
                     id="unless one is in neither group"),
        pytest.param(cred(0, 0, caps=MAY_CHOWN), inode(0o6745), 50, 0o745,
                     id="a mode that changes anyway loses it with the new group"),
        pytest.param(cred(0, 0, caps=MAY_CHOWN), inode(0o2745), 50, 0o2745,
                     id="one that does not change keeps it"),
        pytest.param(ROOT, directory(0o6755), None, 0o6755, id="directories keep all"),
    ],
)  # fmt: skip
def test_chown_result(who: Cred, what: Inode, gid: int | None, mode: int) -> None:
    after = op.chown_result(who, what, Kuid(7), None if gid is None else Kgid(gid))
    assert (after.uid, after.gid) == (7, what.gid if gid is None else gid)
    assert after.mode == mode


@pytest.mark.parametrize(
    ("who", "what", "on", "now", "given"),
    [
        pytest.param(ALICE, FILE, PLAIN, OK, OK, id="owner"),
        pytest.param(ALICE, inode(0o666), PLAIN, OK, EPERM, id="who may write may touch to now"),
        pytest.param(ALICE, inode(0o644), PLAIN, EACCES, EPERM, id="nobody"),
        pytest.param(ROOT, FILE, PLAIN, OK, OK, id="CAP_FOWNER"),
        pytest.param(ROOT, FILE, RO, EROFS, EROFS, id="ro mount"),
        pytest.param(ROOT, inode(0o644, immutable=True), PLAIN, EPERM, EPERM, id="immutable"),
        pytest.param(ROOT, inode(0o644, append_only=True), PLAIN, OK, EPERM, id="append-only"),
        pytest.param(ROOT, inode(0o666, None), PLAIN, EACCES, EOVERFLOW, id="unmapped uid"),
        pytest.param(ALICE, inode(0o666, 1000, None), PLAIN, EOVERFLOW, EOVERFLOW,
                     id="unmapped gid, the owner"),
    ],
)  # fmt: skip
def test_utimes(who: Cred, what: Inode, on: Mount, now: Errno | None, given: Errno | None) -> None:
    assert op.utimes(who, what, on, to_now=True).errno == now
    assert op.utimes(who, what, on, to_now=False).errno == given


IN_REMAP = cred(100000, 100000, ns=REMAP)
OF_REMAP = inode(0o644, 100000, 100000)


@pytest.mark.parametrize(
    ("who", "what", "on", "uid", "default", "errno"),
    [
        pytest.param(ALICE, FILE, PLAIN, 7, False, OK, id="owner"),
        pytest.param(ALICE, inode(0o666), PLAIN, 7, False, EPERM, id="not the owner"),
        pytest.param(ALICE, FILE, RO, 7, False, EROFS, id="ro mount"),
        pytest.param(IN_REMAP, OF_REMAP, PLAIN, 70000, False, EINVAL, id="not in the namespace"),
        pytest.param(IN_REMAP, inode(0o644, 100000, 100000, immutable=True), PLAIN, 70000, False,
                     EINVAL, id="the text is read before the inode"),
        pytest.param(ROOT, inode(0o644, immutable=True), PLAIN, 7, False, EPERM, id="immutable"),
        pytest.param(ROOT, inode(0o644, None), PLAIN, 7, False, EPERM,
                     id="unmapped inode: EPERM, not EOVERFLOW"),
        pytest.param(ALICE, FILE, mount(acls=False), 7, False, EOPNOTSUPP, id="no ACL support"),
        pytest.param(ALICE, inode(0o777, 1000, type_=LNK), PLAIN, 7, False, EOPNOTSUPP,
                     id="symlink"),
        pytest.param(ALICE, FILE, PLAIN, 7, True, EACCES, id="default ACL of a file"),
        pytest.param(ALICE, directory(0o755, 1000), PLAIN, 7, True, OK, id="of a directory"),
        pytest.param(cred(100000), inode(0o644, 100000, 100000), OFFSET, 7, False, EINVAL,
                     id="an id that the mount cannot store"),
        pytest.param(cred(100001), inode(0o644, 100000, 100000), OFFSET, 7, False, EPERM,
                     id="trap 2: ownership comes before what can be stored"),
    ],
)  # fmt: skip
def test_set_acl(
    who: Cred, what: Inode, on: Mount, uid: int, default: bool, errno: Errno | None
) -> None:
    assert op.set_acl(who, what, on, (Uid(uid),), (), default=default).errno == errno
    group = op.set_acl(who, what, on, (), (Gid(uid),), default=default)
    assert group.errno == errno


@pytest.mark.parametrize(
    ("who", "what", "acl", "mode", "kept"),
    [
        pytest.param(cred(1000, 50), inode(0o2644, 1000, 50), "u::rwx g::r-x o::---", 0o2750,
                     False, id="a minimal ACL is only a mode"),
        pytest.param(ALICE, inode(0o2644, 1000, 50), "u::rw- u:7:r-- g::--- m::r-- o::---",
                     0o640, True, id="setgid goes outside the group"),
    ],
)  # fmt: skip
def test_set_acl_result(who: Cred, what: Inode, acl: str, mode: int, kept: bool) -> None:
    after = op.set_acl_result(who, what, parse_acl(acl))
    assert after.mode == mode
    assert after.acl == (parse_acl(acl) if kept else None)


def test_a_default_acl_changes_no_mode() -> None:
    acl = parse_acl("u::rwx g::--- o::---")
    after = op.set_acl_result(ALICE, directory(0o755, 1000), acl, default=True)
    assert (after.mode, after.acl, after.default_acl) == (0o755, None, acl)


@pytest.mark.parametrize(
    ("who", "what", "on", "errno"),
    [
        pytest.param(ALICE, inode(0o755), PLAIN, OK, id="x for other"),
        pytest.param(ALICE, inode(0o644), PLAIN, EACCES, id="no x"),
        pytest.param(ROOT, inode(0o644), PLAIN, EACCES, id="even root needs one x bit"),
        pytest.param(ROOT, inode(0o641, 7), PLAIN, OK, id="any will do"),
        pytest.param(ROOT, inode(0o755), mount(noexec=True), EACCES, id="noexec"),
        pytest.param(ALICE, inode(0o111), PLAIN, OK, id="without r"),
        pytest.param(ROOT, directory(0o755), PLAIN, EACCES, id="directory"),
        pytest.param(ROOT, inode(0o777, type_=FIFO), PLAIN, EACCES, id="FIFO"),
        pytest.param(ROOT, inode(0o777, type_=LNK), PLAIN, ELOOP, id="symlink not followed"),
        pytest.param(ROOT, inode(0o755), RO, OK, id="ro mount"),
    ],
)
def test_execute(who: Cred, what: Inode, on: Mount, errno: Errno | None) -> None:
    assert op.execute(who, what, on).errno == errno


SETGID = directory(0o2775, 0, 50)
DEFAULTED = directory(0o755, default="u::rwx u:7:rwx g::r-x m::rwx o::---")


@pytest.mark.parametrize(
    ("who", "parent", "type_", "mode", "umask", "gid", "expected"),
    [
        pytest.param(ALICE, TMP, REG, 0o666, 0o022, 1000, 0o644, id="the umask"),
        pytest.param(ALICE, TMP, DIR, 0o777, 0o077, 1000, 0o700, id="of a directory"),
        pytest.param(ALICE, SETGID, REG, 0o666, 0o002, 50, 0o664, id="setgid: the group"),
        pytest.param(ALICE, SETGID, DIR, 0o777, 0o002, 50, 0o2775,
                     id="trap 3: setgid: mkdir inherits it"),
        pytest.param(ALICE, SETGID, LNK, 0o000, 0o077, 50, 0o777, id="a symlink is 0777"),
        pytest.param(ALICE, SETGID, REG, 0o2775, 0, 50, 0o775,
                     id="setgid programs of a foreign group are not made"),
        pytest.param(cred(1000, 50), SETGID, REG, 0o2775, 0, 50, 0o2775, id="of one's own are"),
        pytest.param(ALICE, SETGID, REG, 0o2765, 0, 50, 0o2765, id="without g+x it is no program"),
        pytest.param(ALICE, TMP, REG, 0o2775, 0, 1000, 0o2775, id="with one's own gid"),
        pytest.param(ALICE, TMP, DIR, 0o7777, 0, 1000, 0o1777, id="mkdir takes no set-id bits"),
        pytest.param(ALICE, DEFAULTED, REG, 0o666, 0o077, 1000, 0o660,
                     id="a default ACL replaces the umask"),
    ],
)  # fmt: skip
def test_created(
    who: Cred, parent: Inode, type_: FileType, mode: int, umask: int, gid: int, expected: int
) -> None:
    new = op.created(who, parent, PLAIN, mode=mode, umask=umask, type=type_)
    assert (new.uid, new.gid, new.mode, new.type) == (1000, gid, expected, type_)


def test_created_inherits_the_default_acl() -> None:
    new = op.created(ALICE, DEFAULTED, PLAIN, mode=0o640, umask=0o777)
    assert new.acl == parse_acl("u::rw- u:7:rwx g::r-x m::r-- o::---")
    assert new.mode == 0o640
    assert new.default_acl is None
    below = op.created(ALICE, DEFAULTED, PLAIN, mode=0o777, umask=0, type=DIR)
    assert below.default_acl == DEFAULTED.default_acl


def test_created_from_a_minimal_default_acl_has_none() -> None:
    parent = directory(0o755, default="u::rw- g::rw- o::---")
    new = op.created(ALICE, parent, PLAIN, mode=0o777, umask=0o077)
    assert (new.mode, new.acl) == (0o660, None)


def test_created_without_acl_support_has_the_umask() -> None:
    new = op.created(ALICE, DEFAULTED, mount(acls=False), mode=0o666, umask=0o022)
    assert (new.mode, new.acl) == (0o644, None)


@pytest.mark.parametrize(
    ("verdict", "rule", "about"),
    [
        (op.create(ALICE, directory(0o755), PLAIN), Rule.CAPABILITY, "parent"),
        (op.create(ALICE, HOME, RO), Rule.MOUNT_READ_ONLY, "parent"),
        (op.create(ALICE, HOME, SB_RO), Rule.SB_READ_ONLY, "parent"),
        (op.create(ALICE, HOME, OFFSET), Rule.UNREPRESENTABLE, "parent"),
        (op.delete(ALICE, TMP, inode(0o666, 7), PLAIN), Rule.STICKY, "object"),
        (op.rename(ALICE, HOME, FILE, PLAIN, TMP, inode(0o6, 7)), Rule.STICKY, "target"),
        (op.rename(ALICE, HOME, FILE, PLAIN, directory(0o5)), Rule.CAPABILITY, "new-parent"),
        (op.chmod(ALICE, inode(0o666), PLAIN), Rule.NOT_OWNER, "object"),
        (op.chmod(ALICE, FILE, PLAIN), Rule.OWNER, "object"),
    ],
)
def test_the_deciding_step_says_what_it_is_about(verdict: Verdict, rule: Rule, about: str) -> None:
    assert _decided_by(verdict) is rule
    assert verdict.deciding is not None
    assert verdict.deciding.about == about


def test_why_an_owner_is_not_helped_by_a_capability() -> None:
    found = op.chmod(cred(100000, caps=ALL, ns=userns((0, 100000, 1))), inode(0o666, 7), PLAIN)
    assert found.deciding is not None
    assert (found.deciding.cap, found.deciding.why) == (Cap.FOWNER, "uid-unmapped")
