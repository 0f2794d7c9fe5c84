"""Who took a file over while its set-id bits were gone does not get them back on what he wrote."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from permdoctor.diagnosis.plan import Reason
from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.repair import executor
from permdoctor.repair.journal import Status
from permdoctor.repair.store import Store
from tests.lab.lab import Lab
from tests.repair.crash import snapshot, supervise, work
from tests.repair.crash.supervise import Call, Run

ATTACKER = 7777
TO = ToOwner(name="to", scope=Scope.ALL, uid=ATTACKER, gid=ATTACKER)
FILES = [f"d{n}/f" for n in range(8)]


@pytest.fixture
def tree(lab: Lab) -> Path:
    """Set-id files of root, which will be the attacker's, each in a directory (so: block)."""
    base = lab.fs("tmpfs")
    base.chmod(0o755)
    for name in FILES:
        path = base / "tree" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"good")
        path.chmod(0o4755)
    time.sleep(0.06)
    return base / "tree"


def attack(path: Path, seconds: float = 0.0) -> int:
    """A process of the attacker that opens the file, whenever that is allowed, and writes to it."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setgid(ATTACKER)
        os.setuid(ATTACKER)
        time.sleep(seconds)
        with path.open("r+b") as f:
            f.write(b"evil")
    finally:
        os._exit(0)


def evil(tree: Path) -> list[str]:
    """Files that run as root what the attacker wrote."""
    files = [tree / name for name in FILES]
    return [
        str(f)
        for f in files
        if f.read_bytes() == b"evil" and f.stat().st_mode & 0o4000 and not f.stat().st_uid
    ]


def repair(store: str, tree: Path) -> work.Done:
    return work.repair(store, str(tree), recipe=TO)


def test_written_to_after_a_repair_that_was_interrupted(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tree.parent / "state")

    def interrupted() -> work.Done:
        listen, calls = executor._Run._listen, []

        def listening(run: executor._Run) -> bool:
            calls.append(listen(run))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return calls[-1]

        monkeypatch.setattr(executor._Run, "_listen", listening)
        return repair(store, tree)

    done = supervise.run(interrupted)
    assert Store(store).find(done.id).status is Status.STOPPED
    taken = [f for f in FILES if (tree / f).stat().st_uid == ATTACKER]
    assert taken
    os.waitpid(attack(tree / taken[0], 0.05), 0)
    undone = supervise.run(lambda: work.undo(store, done.id))
    assert [(x.reason, x.samples) for x in undone.before.left] == [
        (Reason.SET_ID, (taken[0].encode(),))
    ]
    assert not evil(tree)


@pytest.mark.parametrize("noticed", [False, True], ids=["nobody-noticed", "resumed-since"])
def test_written_to_after_a_repair_that_was_killed(noticed: bool, tree: Path) -> None:
    """What was changed in the moment of its death comes back; what was changed once its containers
    went on does not.
    """
    store = str(tree.parent / "state")
    before = snapshot.take(str(tree))
    with Run(lambda: repair(store, tree), supervise.OWNER) as run:

        def at(call: Call) -> None:
            if call.number == 4:
                run.kill()

        run.end(at)
    (record,) = Store(store).interrupted()
    marks = tree.parent / "state" / "journal" / record.id / "marks"
    os.truncate(marks, 0)  # as if they had not reached the disk
    Path(marks).write_bytes(bytes(4096))
    taken = [f for f in FILES if (tree / f).stat().st_uid == ATTACKER]
    if noticed:
        Store(store).notice(record.id)
        time.sleep(0.02)
        os.waitpid(attack(tree / taken[0]), 0)
    supervise.run(lambda: work.undo(store, record.id))
    assert not evil(tree)
    changed = snapshot.differing(before, snapshot.take(str(tree)))
    assert changed == ({taken[0].encode()} if noticed else set())


def test_who_waits_for_the_lease_is_seen(tree: Path) -> None:
    """His open(2) has been allowed, and he may write whatever the file becomes."""
    store = str(tree.parent / "state")
    done = supervise.run(lambda: repair(store, tree))
    files = {(tree / f).stat().st_ino: tree / f for f in FILES}
    waiting: list[int] = []

    def at(call: Call) -> None:
        path = files.get(os.stat(f"/proc/{call.pid}/fd/{call.args[0]}").st_ino)
        if path is not None and not waiting:
            waiting.append(attack(path))
            time.sleep(0.2)

    with Run(lambda: work.undo(store, done.id), supervise.OWNER) as run:
        undone = run.end(at).get()
    os.waitpid(waiting[0], 0)
    (left,) = undone.outcome.left
    assert (left.reason, left.count, left.detail) == (
        Reason.FAILED, 1, "somebody has it open for writing",
    )  # fmt: skip
    assert not evil(tree)
    assert undone.outcome.applied == undone.outcome.planned - 1
