"""States and the steps between them, compared with what the kernel really leaves.

Each case is done on a real file, step by step, and after each step the state must be the one that
``steps`` foretold.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from permdoctor.host import acl as acl_xattr
from permdoctor.kernel.acl import Acl, Tag, from_mode
from permdoctor.repair.change import do
from permdoctor.repair.look import state_of_fd
from permdoctor.repair.state import Act, State, passed, same, steps
from permdoctor.repair.syscalls import Statx

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def blob(mode: int, *entries: tuple[Tag, int, int]) -> bytes:
    acl: Acl = from_mode(mode)
    for tag, id_, perm in entries:
        acl = acl.with_entry(tag, id_, perm)
    return acl_xattr.encode(acl)


def masked(acl: bytes, mode: int) -> bytes:
    return acl_xattr.encode(acl_xattr.decode(acl).with_mode(mode))


def file(mode: int, uid: int = 0, gid: int = 0, **more: bytes) -> State:
    return State(uid, gid, stat.S_IFREG | mode, **more)


def folder(mode: int, uid: int = 0, gid: int = 0, **more: bytes) -> State:
    return State(uid, gid, stat.S_IFDIR | mode, **more)


USER7 = blob(0o640, (Tag.USER, 7, 7))
USER8 = blob(0o750, (Tag.USER, 8, 5), (Tag.GROUP, 9, 7))
WAYS = [
    pytest.param(file(0o644), file(0o644, 5, 6), [Act.CHOWN], id="owner"),
    pytest.param(file(0o644, 5, 6), file(0o664, 5, 7), [Act.CHOWN, Act.CHMOD], id="group, mode"),
    pytest.param(file(0o4755), file(0o755, 5, 5), [Act.CHOWN], id="setuid goes with chown"),
    pytest.param(file(0o2775), file(0o775, 0, 5), [Act.CHOWN], id="setgid goes with chgrp"),
    pytest.param(file(0o2745), file(0o2745, 0, 5), [Act.CHOWN], id="no g+x: setgid stays (root)"),
    pytest.param(
        file(0o755, caps=NET_RAW), file(0o755, 5, 5), [Act.CHOWN], id="capabilities go with chown"
    ),
    pytest.param(
        file(0o755, 5, 5),
        file(0o6755, 1, 1, caps=NET_RAW),
        [Act.CHOWN, Act.CHMOD, Act.CAPS],
        id="everything back",
    ),
    pytest.param(folder(0o2755), folder(0o2755, 5, 5), [Act.CHOWN], id="a directory keeps setgid"),
    pytest.param(folder(0o755), folder(0o2775, 0, 5), [Act.CHOWN, Act.CHMOD], id="shared group"),
    pytest.param(
        file(0o640), file(0o670, acl=USER7), [Act.ACL], id="an ACL's mask is the mode's"
    ),
    pytest.param(
        folder(0o750), folder(0o3771, acl=blob(0o751, (Tag.USER, 7, 7))),
        [Act.CHMOD, Act.ACL], id="an ACL, and bits that are not its own",
    ),
    pytest.param(
        file(0o670, acl=USER7), file(0o640, acl=masked(USER7, 0o640)), [Act.CHMOD], id="its mask",
    ),
    pytest.param(file(0o670, acl=USER7), file(0o640), [Act.CHMOD, Act.ACL], id="the ACL goes"),
    pytest.param(
        file(0o670, acl=USER7), file(0o770, 3, 3, acl=USER8),
        [Act.CHOWN, Act.CHMOD, Act.ACL], id="another ACL",
    ),
    pytest.param(
        folder(0o755), folder(0o755, default=USER7), [Act.DEFAULT], id="a default ACL comes"
    ),
    pytest.param(
        folder(0o770, acl=USER8, default=USER7), folder(0o700, 4, 4),
        [Act.CHOWN, Act.CHMOD, Act.ACL, Act.DEFAULT], id="both ACLs go",
    ),
]  # fmt: skip


def seen(fd: int) -> State:
    """The state as it is now, however fresh."""
    statx = Statx(1)
    assert not statx.fds([fd])
    return state_of_fd(fd, statx.row(0))


def make(path: Path, state: State) -> int:
    """A real inode in this state; its O_PATH descriptor."""
    if state.is_dir:
        path.mkdir()
    else:
        path.touch()
    fd = os.open(path, os.O_PATH)
    bare = seen(fd)
    for step in steps(bare, state):
        do(step, fd)
    return fd


@pytest.mark.parametrize(("before", "after", "acts"), WAYS)
def test_each_step_leaves_what_it_says(
    tmp_path: Path, before: State, after: State, acts: list[Act]
) -> None:
    fd = make(tmp_path / "x", before)
    assert same(seen(fd), before)
    way = steps(before, after)
    assert [s.act for s in way] == acts
    for step in way:
        do(step, fd)
        found = seen(fd)
        assert same(found, step.state), (step.act, found, step.state)
        assert passed(found, before, after)
    assert same(seen(fd), after)
    os.close(fd)


def groups(state: State) -> int:
    """What the owning group may do."""
    if state.acl is None:
        return state.mode >> 3 & 7
    perms = {e.tag: e.perm for e in acl_xattr.decode(state.acl).entries}
    return perms[Tag.GROUP_OBJ] & perms[Tag.MASK]


@pytest.mark.parametrize(("before", "after", "acts"), WAYS)
def test_on_the_way_the_group_has_no_more_than_at_its_ends(
    before: State, after: State, acts: list[Act]
) -> None:
    for step in steps(before, after):
        assert not groups(step.state) & ~(groups(before) | groups(after)), step


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(file(0o644, 9, 6), id="another owner"),
        pytest.param(file(0o640, 5, 6), id="another mode"),
        pytest.param(file(0o644, 5, 6, acl=USER7), id="an ACL"),
    ],
)
def test_what_somebody_else_did_is_on_no_way(found: State) -> None:
    assert not passed(found, file(0o644), file(0o644, 5, 6))


def test_a_filesystem_may_take_two_transactions_for_one_call() -> None:
    """xfs sets an ACL first and the mode that belongs to it later; capabilities go first."""
    before, after = file(0o640), file(0o670, acl=USER7)
    assert passed(file(0o640, acl=USER7), before, after)
    assert passed(file(0o755), file(0o755, caps=NET_RAW), file(0o755, 5, 5))
