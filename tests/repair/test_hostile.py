"""Trees made to hurt: names, special files, mounts, depth, ACLs.  All repaired, all undone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.diagnosis.plan import Reason, TreePlan
from permdoctor.diagnosis.recipes import Recipe, Scope, ToOwner
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.acl import Acl, AclEntry, Tag
from permdoctor.kernel.inode import Inode
from permdoctor.repair import reach, survey
from permdoctor.repair.options import Asked
from tests.differential import aclxattr
from tests.lab.idmap import idmapped_bind
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.repair.crash import snapshot, supervise, trees, work

TO = ToOwner(name="to", scope=Scope.ALL, uid=7777, gid=7777)


@pytest.fixture
def base(lab: Lab) -> Path:
    return lab.fs("tmpfs")


def both_ways(base: Path, root: str, recipe: Recipe = TO, asked: Asked = work.ALL) -> TreePlan:
    """Repair and undo; every entry that the plan names is changed, and is what it was after."""
    time.sleep(0.06)
    before = snapshot.take(root)
    store = str(base / "state")
    done = supervise.run(lambda: work.repair(store, root, recipe=recipe, asked=asked))
    (tree,) = done.summary.trees
    assert isinstance(tree, TreePlan)
    assert done.outcome.complete, work.everything(done)
    assert done.outcome.applied == tree.count
    after = snapshot.take(root)
    assert len(snapshot.differing(before, after)) == tree.count
    files = (p for p in before if not stat.S_ISDIR(before[p].mode))
    assert all(before[p].atime_ns == after[p].atime_ns for p in files)
    for sample in (s for c in (*tree.changes, *tree.left) for s in c.samples):
        assert sample in before
    undone = supervise.run(lambda: work.undo(store, done.id))
    assert not snapshot.diff(before, snapshot.take(root)), work.everything(undone)
    assert not work.everything(undone)
    return tree


def odd_names() -> list[bytes]:
    """10,000: every byte alone, in pairs and in the longest names; lines, escapes, lies."""
    usable = [bytes([b]) for b in range(1, 256) if b != 0x2F]
    names = {b"x" + b + b"y" for b in usable} | {b * 255 for b in usable if b != b"."}
    names |= {b for b in usable if b != b"."}
    names |= {
        b"\n", b"\n\n", b"a\nb", b"-rf", b"--", b"...", b".. ", b" ", b"\\", b"%s%n", b"$(id)",
        b"\x1b[2J\x1b]0;x\x07", b"\x1b[31mred\x1b[0m", b"\xc3\x28", b"\xff\xfe", b"\xe2\x80\xae",
        b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r", b"\x7f", b"\x9b1m", b"'\"`",
    }  # fmt: skip
    for a in usable:
        for b in usable:
            if len(names) == 10_000:
                return sorted(names)
            if a + b != b"..":
                names.add(a + b)
    raise AssertionError


def test_names_with_every_byte(base: Path) -> None:
    root = os.fsencode(base / "tree")
    os.mkdir(root)
    names = odd_names()
    for n, name in enumerate(names):
        path = root + b"/" + name
        if n % 10 == 0:
            os.mkdir(path)
            os.close(os.open(path + b"/" + name, os.O_CREAT | os.O_WRONLY))
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    tree = both_ways(base, os.fsdecode(root))
    assert tree.count == len(names) * 1.1 + 1


@contextlib.contextmanager
def waiting_writer(path: str) -> Iterator[int]:
    """A process that goes on when somebody opens the FIFO for reading."""
    pid = os.fork()
    if not pid:
        os.close(os.open(path, os.O_WRONLY))
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def special_tree(root: str) -> None:
    os.mkdir(root)
    Path(root, "file").write_text("x")
    os.mkfifo(f"{root}/fifo")
    os.mknod(f"{root}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(f"{root}/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    os.mknod(f"{root}/loop", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(f"{root}/socket")
    for name, target in {
        "dangling": "nowhere", "self": "self", "a": "b", "b": "a", "up": "..", "etc": "/etc",
        "passwd": "/etc/passwd", "long": "x" * 4000, "magic": "/proc/self/root", "fine": "file",
    }.items():  # fmt: skip
        os.symlink(target, f"{root}/{name}")


def test_special_files_and_links_are_left_and_never_opened(base: Path) -> None:
    root = str(base / "tree")
    special_tree(root)
    with waiting_writer(f"{root}/fifo") as pid:
        tree = both_ways(base, root)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the FIFO was opened for reading"
    assert tree.count == 2
    assert {x.reason: x.count for x in tree.left} == {Reason.SPECIAL: 5, Reason.SYMLINK: 10}


def test_links_themselves_when_asked(base: Path) -> None:
    root = str(base / "tree")
    special_tree(root)
    passwd = snapshot.meta(b"/etc/passwd")
    tree = both_ways(base, root, asked=Asked(symlinks=True))
    assert tree.count == 12
    assert {x.reason: x.count for x in tree.left} == {Reason.SPECIAL: 5}
    assert snapshot.meta(b"/etc/passwd") == passwd


class OneMore(Recipe, frozen=True, kw_only=True):
    """One named user more in each ACL that there is."""

    name: str = "one-more"
    scope: Scope = Scope.BELOW

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        if inode.acl is None or any(e.id == 2_000_000 for e in inode.acl.entries):
            return None
        acl = inode.acl.with_entry(Tag.USER, 2_000_000, 7)
        return trees.replace(inode, acl=acl, mode=inode.mode & 0o7000 | acl.mode)


def large_acl(named: int) -> Acl:
    users = tuple(AclEntry(tag=Tag.USER, perm=n % 8, id=100_000 + 3 * n) for n in range(named))
    ends = (Tag.USER_OBJ, 6), (Tag.GROUP_OBJ, 4), (Tag.MASK, 7), (Tag.OTHER, 0)
    owner, group, mask, other = (AclEntry(tag=t, perm=p) for t, p in ends)
    return Acl((owner, *users, group, mask, other))


def with_acls(root: str, files: int, named: int) -> None:
    """So many files, each with an ACL of its own, and a directory with half of one by default."""
    os.mkdir(root)
    for n in range(files):
        Path(root, f"f{n}").touch()
        os.setxattr(f"{root}/f{n}", aclxattr.ACCESS, aclxattr.of_acl(large_acl(named - n)))
    os.mkdir(f"{root}/d")
    os.setxattr(f"{root}/d", aclxattr.DEFAULT, aclxattr.of_acl(large_acl(named // 2)))


@pytest.mark.parametrize(
    ("kind", "named", "recipe", "changed"),
    [
        pytest.param("ext4", 100, OneMore(), 2, id="ext4"),
        pytest.param("xfs", 5000, OneMore(), 2, id="xfs"),
        pytest.param("btrfs", 1500, OneMore(), 2, id="btrfs"),
        pytest.param("tmpfs", 8000, TO, 4, id="tmpfs"),
    ],
)
def test_acls_with_thousands_of_entries(
    kind: str, named: int, recipe: Recipe, changed: int, lab: Lab
) -> None:
    """Nearly as many as each filesystem takes."""
    base = lab.fs(kind)
    with_acls(str(base / "tree"), 2, named)
    tree = both_ways(base, str(base / "tree"), recipe)
    assert (tree.count, tree.left) == (changed, ())


def test_more_acls_than_are_kept_are_left(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_ACL_BYTES", 1 << 16)
    with_acls(str(base / "tree"), 20, 1000)
    tree = both_ways(base, str(base / "tree"))
    (left,) = tree.left
    assert left.reason is Reason.TOO_LARGE
    assert left.count + tree.count == 22
    assert 2 < tree.count < 20


def test_thousands_of_owners_and_modes(base: Path) -> None:
    root = str(base / "tree")
    os.mkdir(root)
    for n in range(4000):
        Path(root, f"f{n}").touch()
        os.chown(f"{root}/f{n}", 10_000 + n, 20_000 + n % 977)
        os.chmod(f"{root}/f{n}", n & 0o777)
    tree = both_ways(base, root)
    assert tree.count == 4001
    assert sum(c.count for c in tree.changes) == 4001


def test_other_mounts_are_left(base: Path, lab: Lab) -> None:
    root, outside = str(base / "tree"), lab.fs("ext4")
    (outside / "precious").touch()
    os.mkdir(root)
    for name in ("tmpfs", "bind", "same", "idmapped", "file"):
        os.mkdir(f"{root}/{name}") if name != "file" else Path(root, name).touch()
    (base / "beside").mkdir()
    (base / "beside" / "precious").touch()
    precious = snapshot.take(str(outside)), snapshot.take(str(base / "beside"))
    with contextlib.ExitStack() as stack:
        for argv in (
            ["-t", "tmpfs", "tmpfs", f"{root}/tmpfs"],
            ["--bind", str(outside), f"{root}/bind"],
            ["--bind", str(base / "beside"), f"{root}/same"],
            ["--bind", str(outside / "precious"), f"{root}/file"],
        ):
            subprocess.run(["mount", *argv], check=True)
            stack.callback(subprocess.run, ["umount", argv[-1]], check=True)
        try:
            stack.enter_context(
                idmapped_bind(str(outside), f"{root}/idmapped", [(0, 100000, 1000)])
            )
        except MissingError as e:
            pytest.skip(str(e))
        Path(root, "tmpfs", "inner").touch()
        done = supervise.run(lambda: work.repair(str(base / "state"), root, recipe=TO))
        (tree,) = done.summary.trees
        assert {x.reason: x.count for x in tree.left} == {Reason.OTHER_MOUNT: 5}
        assert tree.count == 1
        assert os.stat(f"{root}/tmpfs/inner").st_uid == 0
    assert precious == (snapshot.take(str(outside)), snapshot.take(str(base / "beside")))
    assert {m.uid for p, m in snapshot.take(root).items() if p != b"."} == {0}


def test_through_an_idmapped_mount_nothing_is_repaired(base: Path) -> None:
    source, target = base / "source", base / "target"
    for path in (source, target):
        path.mkdir()
    try:
        with (
            idmapped_bind(str(source), str(target), [(0, 100000, 1000)]),
            pytest.raises(PermdoctorError, match="idmapped"),
        ):
            supervise.run(lambda: work.repair(str(base / "state"), str(target), recipe=TO))
    except MissingError as e:
        pytest.skip(str(e))
    assert source.stat().st_uid == 0


def chain(root: str) -> Iterator[tuple[int, int]]:
    """Owner and inode of each level, from the top."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            st = os.fstat(fd)
            yield st.st_uid, st.st_ino
            try:
                below = os.open(b"d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                return
            os.close(fd)
            fd = below
    finally:
        os.close(fd)


@contextlib.contextmanager
def deep(root: str, depth: int) -> Iterator[None]:
    """``depth`` directories, one in the other, a file at the bottom."""
    os.mkdir(root)
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(b"d", dir_fd=fd)
        below = os.open(b"d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    try:
        yield
    finally:
        os.unlink(b"bottom", dir_fd=fd)
        for _ in range(depth):
            above = os.open(b"..", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = above
            os.rmdir(b"d", dir_fd=fd)
        os.close(fd)


@pytest.mark.parametrize("depth", [5000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_thousands_of_levels(depth: int, base: Path, request: pytest.FixtureRequest) -> None:
    if depth > 5000 and "slow" not in request.config.getoption("markexpr"):
        pytest.skip("outside the default run: -m slow")
    root, store = str(base / "tree"), str(base / "state")
    with deep(root, depth):
        time.sleep(0.06)
        before = list(chain(root))
        done = supervise.run(lambda: work.repair(store, root, recipe=TO))
        assert done.outcome.complete, work.everything(done)
        assert done.outcome.applied == depth + 2
        assert {uid for uid, _ in chain(root)} == {7777}
        undone = supervise.run(lambda: work.undo(store, done.id))
        assert list(chain(root)) == before, work.everything(undone)


def test_far_below_what_was_left_is_named_in_short(base: Path) -> None:
    """Three whole paths would be more than one message of a worker holds."""
    root, depth = str(base / "tree"), 700
    os.mkdir(root)
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 255, dir_fd=fd)
        below = os.open("d" * 255, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    for n in range(4):
        os.mknod(f"f{n}", 0o100644, dir_fd=fd)
    time.sleep(0.06)

    def between() -> None:
        for n in range(4):
            os.chmod(f"f{n}", 0o600, dir_fd=fd)

    store = str(base / "state")
    outcome = supervise.run(lambda: work.repair(store, root, recipe=TO, between=between)).outcome
    (left,) = outcome.left
    assert (left.reason, left.count, outcome.applied) == (Reason.CHANGED, 4, depth + 1)
    assert len(left.samples) == 3
    assert all(len(s) < 5000 and s[-4:-1] == b"d/f" for s in left.samples)
    os.close(fd)
    subprocess.run(["rm", "-rf", root], check=True)


def test_more_directories_than_are_kept_in_mind(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_MOST_NODES", 10)
    for n in range(100):
        (base / f"tree/d{n}").mkdir(parents=True)
        (base / f"tree/d{n}/f").touch()
    assert both_ways(base, str(base / "tree")).count == 201


MANY = 100_000


def test_a_directory_of_a_hundred_thousand_names(base: Path) -> None:
    root, store = str(base / "tree"), str(base / "state")
    os.mkdir(root)
    fd = os.open(root, os.O_RDONLY)
    for n in range(MANY):
        os.mknod(f"f{n}", 0o100644, dir_fd=fd)
    os.close(fd)
    time.sleep(0.06)

    def owners() -> dict[int, int]:
        found: dict[int, int] = {}
        with os.scandir(root) as entries:
            for e in entries:
                uid = e.stat(follow_symlinks=False).st_uid
                found[uid] = found.get(uid, 0) + 1
        return found

    done = supervise.run(lambda: work.repair(store, root, recipe=TO))
    assert done.outcome.complete
    assert owners() == {7777: MANY}
    undone = supervise.run(lambda: work.undo(store, done.id))
    assert owners() == {0: MANY}, work.everything(undone)
    assert os.stat(root).st_uid == 0
