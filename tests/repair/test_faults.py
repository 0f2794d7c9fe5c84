"""Filesystems that refuse, fill up, freeze, vanish or never answer, in the middle of a repair.

Each time: the outcome says what happened and accounts for every entry, the run ends, the journal
is whole, and once the fault is gone an undo restores every byte.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from msgspec.structs import replace

from permdoctor.diagnosis.plan import Outcome, Reason
from permdoctor.diagnosis.recipes import Recipe, Scope, ToOwner
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.inode import Inode
from permdoctor.repair import executor
from permdoctor.repair import store as store_module
from permdoctor.repair.change import Done
from permdoctor.repair.journal import Status, read_marks
from permdoctor.repair.options import Asked, Limits
from permdoctor.repair.store import Store
from tests.lab.filesystems import mounted_fs
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.patience import until
from tests.lab.silent import silent_fuse
from tests.repair.crash import snapshot, supervise, trees, work
from tests.repair.crash.supervise import Answer, Call, Run

FILES = 400
TO = ToOwner(name="to", scope=Scope.ALL, uid=7777, gid=7777)
IMPATIENT = Limits(deadline=4.0)
FEW = 50
"""More than the first few."""


class Scene:
    """A tree of ``FILES`` files in eight directories, all of somebody else, and a store."""

    def __init__(self, root: str, store: str) -> None:
        self.root, self.store = root, store
        os.mkdir(root)
        for d in range(8):
            os.mkdir(f"{root}/d{d}")
            for f in range(FILES // 8):
                Path(f"{root}/d{d}/f{f}").touch()
        for path, _, files in os.walk(root):
            for name in (".", *files):
                os.chown(os.path.join(path, name), 1000, 1000)
        self.before = snapshot.take(root)
        time.sleep(0.06)

    @property
    def now(self) -> snapshot.Snapshot:
        return snapshot.take(self.root)

    @property
    def changed(self) -> int:
        return len(snapshot.differing(self.before, self.now))

    def repair(
        self,
        at: Callable[[Call], Answer] | None = None,
        *,
        recipe: Recipe = TO,
        limits: Limits = work.LIMITS,
        asked: Asked = work.ALL,
        between: Callable[[], object] | None = None,
        leave: bool = False,
    ) -> work.Done:
        """In a process of its own; ``at`` is asked about the calls that change the tree."""

        def doing() -> work.Done:
            return work.repair(
                self.store, self.root, recipe=recipe, limits=limits, asked=asked, between=between
            )

        with Run(doing, supervise.TREE if at is not None else ()) as run:
            done = run.end(at, leave=leave, seconds=30).get()
        assert isinstance(done, work.Done)
        if done.outcome is not None:
            accounts(done.outcome)
        return done

    def undo(self, id_: str) -> None:
        """It restores everything."""
        done = supervise.run(lambda: work.undo(self.store, id_))
        assert not snapshot.diff(self.before, self.now), work.everything(done)
        assert not work.everything(done)

    def status(self, id_: str) -> Status:
        return Store(self.store).find(id_).status


def accounts(outcome: Outcome) -> None:
    """Every planned entry is somewhere in the outcome, once."""
    left = sum(x.count for x in outcome.left)
    assert outcome.applied + outcome.already + left == outcome.planned, outcome


def reasons(outcome: Outcome) -> dict[Reason, int]:
    return {x.reason: x.count for x in outcome.left}


@contextlib.contextmanager
def a_mount(kind: str = "tmpfs", size: int = 0, options: str = "") -> Iterator[str]:
    try:
        with (
            mounted_fs("tmpfs", 1 << 30) as memory,
            mounted_fs(kind, size, options=options, parent=memory) as path,
        ):
            yield path
    except MissingError as e:
        pytest.skip(str(e))


@pytest.fixture
def scene(lab: Lab) -> Scene:
    base = lab.fs("tmpfs")
    return Scene(str(base / "tree"), str(base / "state"))


# --- what the kernel says to a change ---


def failing(code: int, *names: str) -> Callable[[Call], Answer]:
    """Changes of the owner fail for the entries of these names; without: from the 20th call on."""
    seen = [0]

    def at(call: Call) -> Answer:
        if call.name not in supervise.OWNER:
            return None
        seen[0] += 1
        if not names:
            return code if seen[0] >= 20 else None
        held = os.readlink(f"/proc/{call.pid}/fd/{call.args[0]}")
        return code if held.endswith(names) else None

    return at


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES], ids=errno.errorcode.get)
def test_one_entry_that_may_not_be_changed_is_reported_and_the_run_goes_on(
    code: int, scene: Scene
) -> None:
    done = scene.repair(failing(code, "d3/f7"))
    assert done.outcome is not None
    (left,) = done.outcome.left
    assert (left.reason, left.count, left.samples) == (Reason.FAILED, 1, (b"d3/f7",))
    assert errno.errorcode[code] in left.detail
    assert not done.outcome.stopped
    assert done.outcome.applied == scene.changed == len(scene.before) - 1
    scene.undo(done.id)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_a_filesystem_that_is_broken_or_read_only_stops_the_run(code: int, scene: Scene) -> None:
    done = scene.repair(failing(code, "d3/f7"))
    assert done.outcome is not None
    assert (
        os.strerror(code) in done.outcome.stopped or errno.errorcode[code] in done.outcome.stopped
    )
    assert reasons(done.outcome)[Reason.NOT_REACHED] > 0
    assert done.outcome.applied == scene.changed
    assert scene.status(done.id) is Status.STOPPED
    scene.undo(done.id)


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.ESTALE], ids=errno.errorcode.get
)
def test_a_full_disk_quota_or_stale_server_stops_the_run_after_the_first_few(
    code: int, scene: Scene
) -> None:
    done = scene.repair(failing(code))
    assert done.outcome is not None
    assert done.outcome.stopped
    assert 1 < reasons(done.outcome)[Reason.FAILED] < FEW
    assert reasons(done.outcome)[Reason.NOT_REACHED] > FILES // 2
    assert done.outcome.applied == scene.changed
    scene.undo(done.id)


class OwnerAndMode(ToOwner, frozen=True, kw_only=True):
    """Two steps for each file."""

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        given = super().change(parent, inode)
        return given and replace(given, mode=inode.mode ^ 0o004)


@pytest.mark.parametrize("then", ["put-back", "still-broken"])
def test_what_was_half_done_when_the_run_stops_is_never_forgotten(then: str, scene: Scene) -> None:
    """All owners of a directory are changed, and the filesystem breaks at the third mode."""
    modes = [0]

    def at(call: Call) -> Answer:
        if call.name in supervise.MODE:
            modes[0] += 1
            return errno.EROFS if modes[0] >= 3 else None
        return errno.EROFS if modes[0] >= 3 and then == "still-broken" else None

    recipe = OwnerAndMode(name="two", scope=Scope.BELOW, uid=7777, gid=7777)
    done = scene.repair(at, recipe=recipe)
    assert done.outcome is not None
    assert done.outcome.stopped
    if then == "still-broken":
        assert scene.changed > done.outcome.applied
    else:
        assert scene.changed == done.outcome.applied
    scene.undo(done.id)


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.ESTALE], ids=errno.errorcode.get
)
def test_a_single_such_error_does_not_stop_it(code: int, scene: Scene) -> None:
    done = scene.repair(failing(code, "d3/f7"))
    assert done.outcome is not None
    assert not done.outcome.stopped
    assert reasons(done.outcome) == {Reason.FAILED: 1}
    scene.undo(done.id)


# --- full disks, for real ---


def fill(path: str) -> str:
    """A file that takes all the room there is."""
    filler = os.path.join(path, "filler")
    with open(filler, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(1 << 16))
    with open(filler, "ab", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(512))
    return filler


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_journal_that_finds_no_room_changes_nothing(kind: str, lab: Lab) -> None:
    with a_mount(kind, 1 << 20) as small:
        scene = Scene(str(lab.fs("tmpfs") / "tree"), f"{small}/state")
        filler = fill(small)
        with pytest.raises(PermdoctorError) as failed:
            scene.repair()
        assert failed.value.exit_status == 3
        assert "No space left" in failed.value.message
        assert not scene.changed
        os.unlink(filler)
        done = scene.repair()
        assert done.outcome is not None
        assert done.outcome.complete
        scene.undo(done.id)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_is_full_from_the_first_change_on_keeps_nobody_from_finishing(
    kind: str, lab: Lab
) -> None:
    with a_mount(kind, 2 << 20) as small:
        scene = Scene(str(lab.fs("tmpfs") / "tree"), f"{small}/state")
        filler: list[str] = []

        def at(_: Call) -> Answer:
            if not filler:
                filler.append(fill(small))
            return None

        done = scene.repair(at)
        assert done.outcome is not None
        assert done.outcome.complete
        assert scene.changed == len(scene.before)
        marks = read_marks(f"{scene.store}/journal/{done.id}")
        assert sum(map(len, marks.by_block.values())) == done.outcome.planned
        with pytest.raises(PermdoctorError) as failed:
            supervise.run(lambda: work.undo(scene.store, done.id))
        assert "No space left" in failed.value.message
        assert scene.changed == len(scene.before)
        os.unlink(filler[0])
        scene.undo(done.id)


class LargeAcl(Recipe, frozen=True, kw_only=True):
    """Forty named users: more than fits into an inode."""

    name: str = "large-acl"
    scope: Scope = Scope.ALL

    def change(self, parent: object, inode: trees.Inode) -> trees.Inode | None:
        if inode.acl is not None:
            return None
        acl = trees.from_mode(inode.mode)
        for uid in range(5000, 5040):
            # different for each mode, so that blocks of attributes are not shared
            acl = acl.with_entry(trees.Tag.USER, uid + 100 * inode.mode, 7)
        return trees.replace(inode, acl=acl, mode=inode.mode & 0o7000 | acl.mode)


def test_the_trees_own_disk_is_full(lab: Lab) -> None:
    with a_mount("ext4", 1 << 20) as small:
        scene = Scene(f"{small}/tree", str(lab.fs("tmpfs") / "state"))
        for n, path in enumerate(sorted(scene.before)):
            meta = scene.before[path]
            if not meta.mode & 0o040000:
                os.chmod(os.path.join(scene.root.encode(), path), n % 512)
        scene.before = scene.now
        time.sleep(0.06)
        fill(small)
        done = scene.repair(recipe=LargeAcl())
        assert done.outcome is not None
        assert "No space left" in done.outcome.stopped or "ENOSPC" in done.outcome.stopped
        assert 1 < reasons(done.outcome)[Reason.FAILED] < FEW
        assert done.outcome.applied == scene.changed
        scene.undo(done.id)


# --- what appears, changes and goes away between plan and change ---


def chattr(flags: str, *paths: str) -> None:
    subprocess.run(["chattr", flags, *paths], check=True)


@pytest.mark.parametrize("flag", ["i", "a"])
@pytest.mark.parametrize("what", ["d3/f1", "d3"])
def test_immutable_and_append_only_entries_are_left(flag: str, what: str, lab: Lab) -> None:
    base = lab.fs("ext4")
    scene = Scene(str(base / "tree"), str(base / "state"))
    path = f"{scene.root}/{what}"
    chattr(f"+{flag}", path)
    try:
        done = scene.repair()
        (tree,) = done.summary.trees
        assert {x.reason: (x.count, x.samples) for x in tree.left} == {
            Reason.FLAGS: (1, (what.encode(),))
        }
        assert done.outcome is not None
        assert done.outcome.complete
        assert scene.changed == len(scene.before) - 1
        scene.undo(done.id)
    finally:
        chattr(f"-{flag}", path)


@pytest.mark.parametrize("flag", ["i", "a"])
def test_an_entry_that_becomes_immutable_after_the_plan(flag: str, lab: Lab) -> None:
    base = lab.fs("ext4")
    scene = Scene(str(base / "tree"), str(base / "state"))
    path = f"{scene.root}/d3/f1"
    try:
        done = scene.repair(between=lambda: chattr(f"+{flag}", path))
        assert done.outcome is not None
        assert sum(reasons(done.outcome).values()) == 1
        assert reasons(done.outcome).keys() <= {Reason.FLAGS, Reason.CHANGED, Reason.FAILED}
        assert done.outcome.left[0].samples == (b"d3/f1",)
        assert not done.outcome.stopped
        assert scene.changed == len(scene.before) - 1
        scene.undo(done.id)
    finally:
        chattr(f"-{flag}", path)


def test_an_entry_that_becomes_immutable_after_its_change_is_undone_when_it_is_not(
    lab: Lab,
) -> None:
    base = lab.fs("ext4")
    scene = Scene(str(base / "tree"), str(base / "state"))
    done = scene.repair()
    path = f"{scene.root}/d3/f1"
    chattr("+i", path)
    try:
        undone = supervise.run(lambda: work.undo(scene.store, done.id))
        said = [*undone.before.left, *undone.outcome.left]
        assert [x.samples for x in said] == [(b"d3/f1",)]
        assert scene.changed == 1
    finally:
        chattr("-i", path)
    scene.undo(done.id)


def test_a_tree_that_vanished_after_the_plan(scene: Scene) -> None:
    done = scene.repair(between=lambda: shutil.rmtree(scene.root))
    assert done.outcome is not None
    assert not done.outcome.applied
    assert reasons(done.outcome).keys() <= {Reason.GONE, Reason.NOT_REACHED}


def test_another_tree_in_its_place_is_not_touched(scene: Scene) -> None:
    def replaced() -> None:
        os.rename(scene.root, scene.root + ".old")
        shutil.copytree(scene.root + ".old", scene.root)

    done = scene.repair(between=replaced)
    assert done.outcome is not None
    assert not done.outcome.applied
    assert all(m.uid == 0 for m in scene.now.values())
    assert not snapshot.diff(scene.before, snapshot.take(scene.root + ".old"))


def test_directories_that_vanish_in_the_middle_are_counted(scene: Scene) -> None:
    seen = [0]

    def at(_: Call) -> Answer:
        seen[0] += 1
        if seen[0] == 5:
            for d in range(8):
                for f in range(FILES // 8):
                    os.unlink(f"{scene.root}/d{d}/f{f}")
        return None

    done = scene.repair(at)
    assert done.outcome is not None
    gone = reasons(done.outcome)
    assert gone.keys() <= {Reason.GONE, Reason.RACED, Reason.CHANGED}
    assert sum(gone.values()) > FILES // 4


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_filesystem_that_becomes_read_only_in_the_middle(kind: str, lab: Lab) -> None:
    with a_mount(kind) as path:
        scene = Scene(f"{path}/tree", str(lab.fs("tmpfs") / "state"))
        seen = [0]

        def at(_: Call) -> Answer:
            seen[0] += 1
            if seen[0] == 100:
                subprocess.run(["mount", "-o", "remount,ro", path], check=True)
            return None

        done = scene.repair(at)
        assert done.outcome is not None
        assert "ead-only" in done.outcome.stopped or "EROFS" in done.outcome.stopped
        assert 0 < done.outcome.applied == scene.changed < len(scene.before)
        subprocess.run(["mount", "-o", "remount,rw", path], check=True)
        scene.undo(done.id)


def test_a_filesystem_that_is_unmounted_after_the_plan(lab: Lab) -> None:
    parent = lab.directory()
    with a_mount("ext4") as path:
        scene = Scene(f"{path}/tree", str(lab.fs("tmpfs") / "state"))
        subprocess.run(["mount", "--bind", path, parent], check=True)
        scene.root = f"{parent}/tree"

        def unmounted() -> None:
            subprocess.run(["umount", parent], check=True)
            os.mkdir(scene.root)

        done = scene.repair(between=unmounted)
        assert done.outcome is not None
        assert not done.outcome.applied
        assert os.stat(scene.root).st_uid == 0
        scene.root = f"{path}/tree"
        assert not scene.changed


_GOINGDOWN = 0x8004587D
_NOLOGFLUSH = 2


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_filesystem_that_breaks_in_the_middle(kind: str, lab: Lab) -> None:
    """FS_IOC_SHUTDOWN: every call gets EIO, and what was not yet in the log is lost."""
    base = lab.directory()
    image, path = f"{base}/img", f"{base}/mnt"
    os.mkdir(path)
    with open(image, "wb") as f:
        f.truncate((320 if kind == "xfs" else 64) << 20)
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"needs mkfs.{kind}")
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    mount = ["mount", "-t", kind, "-o", "loop", image, path]
    subprocess.run(mount, check=True)
    try:
        scene = Scene(f"{path}/tree", str(lab.fs("tmpfs") / "state"))
        os.sync()
        seen = [0]

        def at(_: Call) -> Answer:
            seen[0] += 1
            if seen[0] == 60:
                sync(path)
            if seen[0] == 100:
                fd = os.open(path, os.O_RDONLY)
                fcntl.ioctl(fd, _GOINGDOWN, struct.pack("=I", _NOLOGFLUSH))
                os.close(fd)
            return None

        done = scene.repair(at)
        assert done.outcome is not None
        assert done.outcome.stopped
        subprocess.run(["umount", path], check=True)
        # What reached the disk: engines of other tests may hold the broken one in their namespaces.
        shutil.copy(image, f"{image}-again")
        more = ["-o", "nouuid"] if kind == "xfs" else []
        subprocess.run([*mount[:-2], *more, f"{image}-again", path], check=True)
        assert 0 < scene.changed < len(scene.before)
        scene.undo(done.id)
    finally:
        subprocess.run(["umount", path], check=True)


def sync(path: str) -> None:
    fd = os.open(os.path.join(path, "unrelated"), os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    os.fsync(fd)
    os.close(fd)


# --- who never answers ---


def test_a_frozen_filesystem_is_given_up_and_holds_up_nobody_else(lab: Lab) -> None:
    with a_mount("ext4") as path:
        state = str(lab.fs("tmpfs") / "state")
        scene, other = Scene(f"{path}/tree", state), Scene(str(lab.fs("tmpfs") / "tree"), state)
        meanwhile: list[work.Done] = []
        seen = [0]

        def at(_: Call) -> Answer:
            seen[0] += 1
            if seen[0] == 50:
                subprocess.run(["fsfreeze", "-f", path], check=True)
                meanwhile.append(other.repair())
            return None

        started = time.monotonic()
        try:
            done = scene.repair(at, limits=IMPATIENT, leave=True)
            took = time.monotonic() - started
        finally:
            subprocess.run(["fsfreeze", "-u", path], check=True)
        assert took < 40, "it is frozen for as long as we wait"
        assert done.outcome is not None
        assert "answer" in done.outcome.stopped
        assert reasons(done.outcome)[Reason.NOT_REACHED] > 0
        wait_for_nobody(scene.root)
        scene.undo(done.id)
        (unhindered,) = meanwhile
        assert unhindered.outcome is not None
        assert unhindered.outcome.complete
        other.undo(unhindered.id)


def wait_for_nobody(root: str) -> None:
    """Until no process holds anything below ``root``."""
    until(lambda: subprocess.run(["fuser", "-m", root], capture_output=True).returncode, every=0.05)


def test_a_mount_that_never_answers_inside_the_tree_is_not_touched(scene: Scene) -> None:
    inside = f"{scene.root}/d2/dead"
    os.mkdir(inside)
    time.sleep(0.06)
    try:
        with silent_fuse(inside):
            done = scene.repair(limits=IMPATIENT)
    except MissingError as e:
        pytest.skip(str(e))
    assert done.outcome is not None
    assert done.outcome.complete
    (tree,) = done.summary.trees
    assert [(x.reason, x.count) for x in tree.left] == [(Reason.OTHER_MOUNT, 1)]
    os.rmdir(inside)
    undone = supervise.run(lambda: work.undo(scene.store, done.id))
    assert not undone.outcome.left
    assert all((m.uid, m.gid) == (1000, 1000) for m in scene.now.values())


def test_a_root_that_never_answers_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_LOOK_SECONDS", 1.0)
    dead, store = lab.directory(), str(lab.fs("tmpfs") / "state")
    try:
        with (
            silent_fuse(str(dead)),
            pytest.raises(PermdoctorError) as failed,
            Run(lambda: work.repair(store, str(dead), recipe=TO, limits=IMPATIENT)) as run,
        ):
            run.end(leave=True, seconds=60).get()
    except MissingError as e:
        pytest.skip(str(e))
    assert failed.value.exit_status == 3
    assert str(dead) in failed.value.message


@pytest.mark.parametrize(
    "limits", [pytest.param((256, 4096), id="soft"), pytest.param((256, 256), id="hard")]
)
def test_few_descriptors_are_enough(limits: tuple[int, int], lab: Lab) -> None:
    base = lab.fs("tmpfs")
    (base / "tree").mkdir()
    for n in range(600):
        (base / "tree" / str(n)).touch()
    time.sleep(0.06)

    def doing() -> work.Done:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        return work.repair(str(base / "state"), str(base / "tree"), recipe=TO)

    outcome = supervise.run(doing).outcome
    assert (outcome.applied, outcome.left) == (601, ())


def test_without_a_second_process_there_is_an_outcome(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object) -> NoReturn:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    done = scene.repair(between=lambda: monkeypatch.setattr(os, "fork", no_more))
    assert done.outcome is not None
    assert "cannot start a worker" in done.outcome.stopped
    assert not scene.changed


def test_nobody_waits_for_children_that_are_not_ours_to_wait_for(scene: Scene) -> None:
    """SIGCHLD may be ignored by whoever starts us, and exec(2) keeps that."""
    done = scene.repair(between=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.outcome is not None
    assert done.outcome.complete
    scene.undo(done.id)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name
)
def test_a_signal_to_the_workers_does_not_end_them(number: signal.Signals, scene: Scene) -> None:
    """The terminal sends it to all of the group; the parent says when they end."""
    sent: list[int] = []

    def at(call: Call) -> None:
        if not sent and call.name in supervise.OWNER:
            sent.append(call.pid)
            os.kill(call.pid, number)

    done = scene.repair(at)
    assert sent
    assert done.outcome is not None
    assert done.outcome.complete


def test_an_interrupt_while_the_last_answers_come_is_not_swallowed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, seen = executor._Run._record, list[int]()

    def recording(run: executor._Run, done: Done) -> None:
        record(run, done)
        seen.append(done.where)
        if len(seen) == 1:
            raise KeyboardInterrupt

    recipe = ToOwner(name="to", scope=Scope.ROOT, uid=7777, gid=7777)  # one block: all is drained
    monkeypatch.setattr(executor._Run, "_record", recording)
    done = scene.repair(recipe=recipe)
    assert done.outcome is not None
    assert (done.outcome.applied, done.outcome.stopped) == (1, "interrupted")
    assert scene.status(done.id) is Status.STOPPED


def test_a_worker_that_dies_is_reported_and_the_run_ends(scene: Scene) -> None:
    killed: list[int] = []

    def at(call: Call) -> Answer:
        if len(killed) == 0 and call.number == 50:
            killed.append(call.pid)
            os.kill(call.pid, signal.SIGKILL)
        return None

    done = scene.repair(at)
    assert killed
    assert done.outcome is not None
    assert done.outcome.stopped
    scene.undo(done.id)
