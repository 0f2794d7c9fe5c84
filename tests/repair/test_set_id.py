"""Set-id bits and file capabilities: chown(2) drops them in silence, a repair never does."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from permdoctor.diagnosis.plan import Reason, TreePlan
from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.repair.options import Asked
from tests.lab.lab import Lab
from tests.repair.crash import snapshot, supervise, work
from tests.repair.crash.trees import CAPS, capability

TO = ToOwner(name="to", scope=Scope.BELOW, uid=7777, gid=7777)
NET_RAW = 1 << 13

CASES = {
    "setuid": (0o4755, None, Reason.SET_ID, ("setuid",)),
    "setgid": (0o2755, None, Reason.SET_ID, ("setgid",)),
    "both": (0o6711, None, Reason.SET_ID, ("setuid", "setgid")),
    "and-sticky": (0o7777, None, Reason.SET_ID, ("setuid", "setgid")),
    "not-executable": (0o4000, None, Reason.SET_ID, ("setuid",)),
    "capabilities": (0o755, capability(NET_RAW), Reason.FILE_CAPS, ("file capabilities",)),
    "of-a-namespace": (
        0o755, capability(NET_RAW, 100000), Reason.FILE_CAPS, ("file capabilities",),
    ),
    "everything": (
        0o6755, capability(NET_RAW), Reason.SET_ID, ("setuid", "setgid", "file capabilities"),
    ),
}  # fmt: skip
"""Mode and capabilities of a file; why it is left; what is dropped when that is asked for."""


class Tried(NamedTuple):
    """What a repair said, and the tree before it, after it, and after its undo."""

    said: TreePlan
    before: snapshot.Snapshot
    after: snapshot.Snapshot
    undone: snapshot.Snapshot


def attempt(base: Path, asked: Asked) -> Tried:
    root, store = str(base / "tree"), str(base / "state")
    os.mkdir(root)
    for name, (mode, caps, _, _) in {**CASES, "plain": (0o644, None, None, ())}.items():
        path = f"{root}/{name}"
        Path(path).touch()
        os.chown(path, 1000, 1000)
        os.chmod(path, mode)
        if caps is not None:
            os.setxattr(path, CAPS, caps)
    os.mkdir(f"{root}/shared")
    os.chown(f"{root}/shared", 1000, 1000)
    os.chmod(f"{root}/shared", 0o3770)
    time.sleep(0.06)
    before = snapshot.take(root)
    done = supervise.run(lambda: work.repair(store, root, recipe=TO, asked=asked))
    after = snapshot.take(root)
    supervise.run(lambda: work.undo(store, done.id))
    return Tried(done.summary.trees[0], before, after, snapshot.take(root))


@pytest.fixture(params=["ext4", "xfs", "btrfs", "tmpfs"], scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def unasked(kind: str, lab: Lab) -> Tried:
    return attempt(lab.fs(kind), Asked())


@pytest.fixture(scope="module")
def asked(kind: str, lab: Lab) -> Tried:
    return attempt(lab.fs(kind), Asked(set_id=True))


def test_left_and_counted_unless_asked(unasked: Tried) -> None:
    counts = Counter(reason for _, _, reason, _ in CASES.values())
    assert {x.reason: x.count for x in unasked.said.left} == counts
    assert snapshot.differing(unasked.before, unasked.after) == {b"plain", b"shared"}
    assert not any(c.drops for c in unasked.said.changes)
    assert not snapshot.diff(unasked.before, unasked.undone)


@pytest.mark.parametrize("name", CASES)
def test_dropped_when_asked_and_said(name: str, asked: Tried) -> None:
    mode, _, _, drops = CASES[name]
    (change,) = [c for c in asked.said.changes if name.encode() in c.samples]
    assert change.drops == drops
    after = asked.after[name.encode()]
    assert (after.uid, after.gid, after.mode & 0o7777) == (7777, 7777, mode & 0o1777)
    assert not after.xattrs


def test_restored_by_the_undo(asked: Tried) -> None:
    assert not asked.said.left
    assert not snapshot.diff(asked.before, asked.undone)


def test_setgid_and_sticky_of_a_directory_are_kept(unasked: Tried) -> None:
    assert unasked.after[b"shared"].mode & 0o7777 == 0o3770
