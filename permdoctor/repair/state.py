"""The whole state of an inode that a repair can change, and the steps from one to another.

States hold what stat(2) and getxattr(2) give on the host: host ids, raw ACL and capability
values.  The order of steps (owner, mode, ACL, default ACL, capabilities) is the one in which no
step undoes another: chown drops set-id bits and capabilities (``setattr_prepare``,
``security_inode_killpriv``), chmod rewrites the ACL's mask (``posix_acl_chmod``), and an ACL set
last brings mode bits of its own that agree with the mode wanted.  The group's bits that are to be
the ACL's mask come with it: before it they would be the owning group's.  A crash between two steps
leaves one of the values that :func:`passed` names.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.host import acl as acl_xattr
from permdoctor.host.entries import Facts, to_inode
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount

CAPS = b"security.capability"
SET_ID = stat.S_ISUID | stat.S_ISGID


class State(Facts, frozen=True):
    """``Facts`` (uid, gid, mode with type, flags, ACLs) and the file capabilities.

    ``linked`` says whether a file had more than one link, ``unsteady`` whether it was being
    changed, or could not be read, when it was looked at; ``oversized`` that it has ACLs, too large
    to be kept beside all others, which are not in it; ``for_fsck`` that it is a filesystem's
    lost+found.
    """

    caps: bytes | None = None
    linked: bool = False
    unsteady: bool = False
    oversized: bool = False
    for_fsck: bool = False

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def has_set_id(self) -> bool:
        """Bits that make a *file* run as somebody; on a directory setgid means something else."""
        return stat.S_ISREG(self.mode) and bool(self.mode & SET_ID)


class Act(IntEnum):
    """One system call of a repair."""

    CHOWN = 1
    CHMOD = 2
    ACL = 3
    DEFAULT = 4
    CAPS = 5


class Step(Struct, frozen=True):
    """``act`` with its arguments; ``state`` is the inode's state after it."""

    act: Act
    state: State


def same(a: State, b: State) -> bool:
    """Whether owner, mode, ACLs and capabilities agree."""
    return (a.uid, a.gid, a.mode, a.acl, a.default, a.caps) == (
        b.uid, b.gid, b.mode, b.acl, b.default, b.caps,
    )  # fmt: skip


def steps(before: State, after: State) -> tuple[Step, ...]:
    """The system calls from one state to the other, each with what it leaves."""
    return tuple(_steps(before, after))


def _steps(at: State, after: State) -> Iterator[Step]:
    if (at.uid, at.gid) != (after.uid, after.gid):
        at = after_chown(at, after.uid, after.gid)
        yield Step(Act.CHOWN, at)
    mode = after.mode
    if after.acl not in (None, after_chmod(at, mode).acl):
        mode &= ~0o070 | at.mode
    if at.mode != mode:
        at = after_chmod(at, mode)
        yield Step(Act.CHMOD, at)
    if at.acl != after.acl:
        at = replace(at, acl=after.acl, mode=after.mode)
        yield Step(Act.ACL, at)
    if at.default != after.default:
        at = replace(at, default=after.default)
        yield Step(Act.DEFAULT, at)
    if at.caps != after.caps:
        at = replace(at, caps=after.caps)
        yield Step(Act.CAPS, at)


def loses(before: State, after: State) -> bool:
    """Whether set-id bits of a file, or capabilities, go."""
    bits = before.mode & ~after.mode & SET_ID if stat.S_ISREG(before.mode) else 0
    return bool(bits) or (before.caps is not None and after.caps is None)


def without_set_id(state: State) -> State:
    """The state, but for what makes a file run as somebody."""
    if not stat.S_ISREG(state.mode):
        return state
    return replace(state, mode=state.mode & ~SET_ID, caps=None)


def after_chown(state: State, uid: int, gid: int) -> State:
    """chown(2) by root (``chown_common``, ``setattr_should_drop_suidgid``): of what is no
    directory it drops setuid, setgid where the group may execute, and capabilities.
    """
    mode = state.mode
    if not state.is_dir and not stat.S_ISLNK(mode):
        mode &= ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
        return replace(state, uid=uid, gid=gid, mode=mode, caps=None)
    return replace(state, uid=uid, gid=gid)


def after_chmod(state: State, mode: int) -> State:
    """chmod(2): an ACL follows (``posix_acl_chmod``)."""
    acl = state.acl
    if acl is not None:
        acl = acl_xattr.encode(acl_xattr.decode(acl).with_mode(mode))
    return replace(state, mode=mode, acl=acl)


def passed(found: State, before: State, after: State) -> bool:
    """Whether a crash on the way from ``before`` to ``after`` can have left ``found``.

    Asked attribute by attribute: within one system call a filesystem may take several
    transactions (xfs sets an ACL and its mode in two, the capabilities go before the owner).
    """
    way = (before, *(s.state for s in steps(before, after)), after)
    return (
        found.uid in {s.uid for s in way}
        and found.gid in {s.gid for s in way}
        and found.mode in {m for s in way for m in (s.mode, _with_acl_mode(s))}
        and found.acl in {s.acl for s in way}
        and found.default in {s.default for s in way}
        and found.caps in {s.caps for s in way} | {None}
    )


def _with_acl_mode(state: State) -> int:
    if state.acl is None:
        return state.mode
    return state.mode & ~0o777 | acl_xattr.decode(state.acl).mode


def wanted(before: State, inode: Inode, mount: Mount) -> State:
    """The state in which ``before`` would be as a recipe's ``inode`` says.

    What chown(2) drops is dropped: nobody gets a set-id file by a repair.
    """
    old = to_inode(before, mount)
    assert inode.uid is not None
    assert inode.gid is not None
    chowned = (inode.uid, inode.gid) != (old.uid, old.gid)
    state = after_chown(before, inode.uid, inode.gid) if chowned else before
    mode = stat.S_IFMT(before.mode) | inode.mode
    if chowned and state.mode != before.mode:
        mode &= ~(before.mode & ~state.mode)
    return replace(
        state,
        mode=mode,
        acl=before.acl if inode.acl == old.acl else _blob(inode, access=True),
        default=before.default if inode.default_acl == old.default_acl else _blob(inode),
    )


def _blob(inode: Inode, *, access: bool = False) -> bytes | None:
    acl = inode.acl if access else inode.default_acl
    if acl is None or (access and not acl.is_extended):
        return None
    return acl_xattr.encode(acl)
