"""A new file that got a repaired one's inode number: undo leaves it alone, and says so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from permdoctor.diagnosis.plan import Reason
from permdoctor.diagnosis.recipes import Scope, ToOwner
from tests.lab.lab import Lab
from tests.repair.crash import snapshot, supervise, work

TO = ToOwner(name="to", scope=Scope.BELOW, uid=7777, gid=7777)
TRIES = 2000


def reuse(path: str, ino: int, directory: bool) -> None:
    """Remove the entry and make a new one, until it has the old number."""
    kept: list[str] = []
    try:
        os.rmdir(path) if directory else os.unlink(path)
        for n in range(TRIES):
            os.mkdir(path) if directory else Path(path).touch()
            if os.lstat(path).st_ino == ino:
                return
            kept.append(f"{path}.kept{n}")
            os.rename(path, kept[-1])
        pytest.skip(f"inode {ino} did not come back in {TRIES} new ones")
    finally:
        for other in kept:
            os.rmdir(other) if directory else os.unlink(other)


@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_new_owner_of_an_old_number(kind: str, directory: bool, lab: Lab) -> None:
    base = lab.fs(kind)
    root, store = f"{base}/tree", f"{base}/state"
    os.mkdir(root)
    for n in range(10):
        path = f"{root}/e{n}"
        os.mkdir(path) if directory else Path(path).touch()
        os.chown(path, 1000, 1000)
    time.sleep(0.06)
    before = snapshot.take(root)
    done = supervise.run(lambda: work.repair(store, root, recipe=TO))
    assert snapshot.take(root)[b"e4"].uid == 7777
    path = f"{root}/e4"
    reuse(path, before[b"e4"].ino, directory)
    os.chown(path, 7777, 7777)
    os.chmod(path, before[b"e4"].mode & 0o7777)
    time.sleep(0.06)
    new = snapshot.take(root)[b"e4"]
    assert new.ino == before[b"e4"].ino
    undone = supervise.run(lambda: work.undo(store, done.id))
    left = [x for o in (undone.before, undone.outcome) if o is not None for x in o.left]
    assert [(x.count, x.samples) for x in left] == [(1, (b"e4",))]
    assert left[0].reason in (Reason.GONE, Reason.CHANGED)
    now = snapshot.take(root)
    assert now[b"e4"] == new
    assert snapshot.differing(before, now) <= {b".", b"e4"}
