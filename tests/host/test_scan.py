"""The tree scan: counts against os.walk, hostile trees, budgets, and two workers against one."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from permdoctor.diagnosis.facts import EntryClass, Tree
from permdoctor.errors import CannotCheckError
from permdoctor.host import look, scan, sharing
from permdoctor.host.deadline import Giveup
from permdoctor.host.dirs import Mountpoints, OpenDirs
from permdoctor.host.entries import Facts, Node
from permdoctor.host.scan import Budget
from permdoctor.host.sharing import scan_tree
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, Superblock
from tests.host.cell import MS_BIND, deep, fill, mount, unmount
from tests.lab.filesystems import mounted_fs
from tests.lab.needs import MissingError
from tests.lab.patience import within
from tests.lab.silent import silent_fuse

EVERYTHING = Budget(deep=True)
PLAIN = Mount()


def scanned(
    path: Path | str, budget: Budget = EVERYTHING, workers: int = 1, mount: Mount = PLAIN
) -> Tree:
    fd = os.open(path, os.O_PATH)
    before = len(os.listdir("/proc/self/fd"))
    try:
        tree = scan_tree(fd, mount, budget, workers=workers)
    finally:
        assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left"
        os.close(fd)
    return tree


Key = tuple[int | None, int | None, int, int | None, int | None, int]


def key(parent: Inode, inode: Inode) -> Key:
    mode = inode.type | inode.mode
    return parent.uid, parent.gid, parent.mode, inode.uid, inode.gid, mode


def counts(tree: Tree) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for c in tree.classes:
        found[key(c.parent, c.inode)] += c.count
    return found


def truth(path: Path | str) -> Counter[Key]:
    """The same from os.walk and lstat."""
    found: Counter[Key] = Counter()
    for directory, dirs, files in os.walk(path):
        above = os.lstat(directory)
        for name in dirs + files:
            st = os.lstat(os.path.join(directory, name))
            found[
                above.st_uid,
                above.st_gid,
                stat.S_IMODE(above.st_mode),
                st.st_uid,
                st.st_gid,
                st.st_mode,
            ] += 1
    return found


def lopsided(root: Path, seed: int, entries: int = 15_000) -> None:
    """A random tree: a few big directories, many small ones, several owners and types."""
    rng = random.Random(seed)
    dirs = [root]
    made = 0
    while made < entries:
        here = rng.choice(dirs[-20:] if rng.random() < 0.7 else dirs)
        kind = rng.random()
        name = here / f"e{made}"
        if kind < 0.3:
            name.mkdir(mode=rng.choice([0o755, 0o700, 0o1777]))
            os.chown(name, rng.choice([0, 1000]), rng.choice([0, 100]))
            dirs.append(name)
            made += 1
        elif kind < 0.32:
            fill(here, [b"big%d" % i for i in range(3000)])
            made += 3000
        elif kind < 0.35:
            name.symlink_to("/etc/passwd")
            made += 1
        elif kind < 0.37:
            os.mkfifo(name)
            made += 1
        else:
            name.touch(mode=rng.choice([0o644, 0o600]))
            os.chown(name, rng.choice([0, 1000, 65534]), rng.choice([0, 100]))
            made += 1


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_finds_what_walk_finds(tmpfs: Path, seed: int, workers: int) -> None:
    lopsided(tmpfs, seed)
    tree = scanned(tmpfs, workers=workers)
    expected = truth(tmpfs)
    assert counts(tree) == expected
    assert tree.coverage.entries == expected.total()
    assert not tree.coverage.stopped
    for c in tree.classes:
        assert len(c.samples) == min(c.count, 3)
        assert len(set(c.samples)) == len(c.samples)
        for sample in c.samples:
            st = os.lstat(os.fsencode(tmpfs) + b"/" + sample)
            assert (st.st_uid, st.st_gid, st.st_mode) == (
                c.inode.uid,
                c.inode.gid,
                c.inode.type | c.inode.mode,
            )


def test_one_big_directory_is_shared(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmpfs, [b"%d" % i for i in range(60_000)])
    forks: list[int] = []
    fork = os.fork

    def counted() -> int:
        pid = fork()
        forks.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", counted)
    tree = scanned(tmpfs, workers=2)
    assert tree.coverage.entries == 60_000
    assert [c.count for c in tree.classes] == [60_000]
    assert len(forks) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(forks[0], os.WNOHANG)


def test_a_small_tree_is_not_worth_a_fork(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmpfs, [b"%d" % i for i in range(sharing.ALONE // 2)])
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    assert scanned(tmpfs, workers=2).coverage.entries == sharing.ALONE // 2


def test_an_empty_directory(tmpfs: Path) -> None:
    tree = scanned(tmpfs)
    assert tree.classes == ()
    assert tree.coverage.entries == 0
    assert tree.coverage.stopped == ""


HOSTILE = [b"a\nb", b"\x1b[31mred", b"\xff\xfe\xfd", b"-rf", b"x" * 255, b" ", "\u202e".encode()]


def test_hostile_names(tmpfs: Path) -> None:
    fill(tmpfs, HOSTILE[:3])
    for name in HOSTILE[3:]:
        os.mkdir(os.fsencode(tmpfs) + b"/" + name)
        fill(os.fsdecode(os.fsencode(tmpfs) + b"/" + name), HOSTILE)
    tree = scanned(tmpfs)
    assert counts(tree) == truth(tmpfs)
    assert {s for c in tree.classes for s in c.samples} >= set(HOSTILE[:3])


def test_nothing_is_opened_or_followed(tmpfs: Path) -> None:
    os.mkfifo(tmpfs / "fifo")
    os.mknod(tmpfs / "tty", 0o666 | stat.S_IFCHR, os.makedev(5, 0))
    (tmpfs / "up").symlink_to("..")
    (tmpfs / "proc").symlink_to("/proc")
    tree = scanned(tmpfs)
    types = {c.inode.type for c in tree.classes}
    assert types == {FileType.FIFO, FileType.CHARDEV, FileType.SYMLINK}
    assert tree.coverage.entries == 4


@pytest.mark.parametrize("side", [False, True], ids=["chain", "comb"])
def test_20000_levels(tmpfs: Path, side: bool) -> None:
    """Longer than PATH_MAX many times over; in the comb each level is come back to."""
    deep(tmpfs, 20_000, side=side)
    began = time.process_time()
    tree = scanned(tmpfs)
    assert tree.coverage.entries == (40_000 if side else 20_000)
    assert (tree.coverage.vanished, tree.coverage.unreadable) == (0, 0)
    assert time.process_time() - began < 30
    assert all(len(s) <= 4096 for c in tree.classes for s in c.samples)


def test_20000_levels_with_two_workers(tmpfs: Path) -> None:
    deep(tmpfs, 20_000, side=True)
    fill(tmpfs, [b"f%d" % i for i in range(20_000)])
    assert scanned(tmpfs, workers=2).coverage.entries == 60_000


def test_a_sample_too_deep_for_a_path_is_cut(tmpfs: Path) -> None:
    deep(tmpfs, 3000)
    fd = os.open(tmpfs, os.O_RDONLY)
    for _ in range(3000):
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mkfifo("bottom", dir_fd=fd)
    os.close(fd)
    (fifo,) = (c for c in scanned(tmpfs).classes if c.inode.type is FileType.FIFO)
    assert fifo.samples[0].startswith(b"d/d/d/")
    assert fifo.samples[0].endswith(b"/d/bottom")
    assert b"/.../" in fifo.samples[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_mounts_below_are_counted_and_left_alone(tmpfs: Path, workers: int) -> None:
    for name in ("dir", "self", "file"):
        (tmpfs / name).mkdir() if name != "file" else (tmpfs / name).touch()
    fill(tmpfs, [b"f%d" % i for i in range(10_000)])
    mount("tmpfs", str(tmpfs / "dir"), "tmpfs")
    mount(str(tmpfs), str(tmpfs / "self"), flags=MS_BIND)
    mount("/proc/version", str(tmpfs / "file"), flags=MS_BIND)
    try:
        fill(tmpfs / "dir", [b"hidden"])
        tree = scanned(tmpfs, workers=workers)
    finally:
        for name in ("dir", "self", "file"):
            unmount(str(tmpfs / name))
    assert tree.coverage.foreign_mounts == 3
    assert tree.coverage.entries == 10_000
    assert len(tree.classes) == 1


NAMES = ("m", "sub/m", "sub/a/b/m", "x/m")


@pytest.mark.parametrize("workers", [1, 2])
def test_known_mountpoints_are_told_by_their_paths(tmpfs: Path, workers: int) -> None:
    """They need not even be mounts; the same names elsewhere are entries as any other."""
    for name in (*NAMES, "y/m", "sub/a/m"):
        (tmpfs / name).mkdir(parents=True)
        fill(tmpfs / name, [b"hidden"])
    for name in ("sub", "y"):
        fill(tmpfs / name, [b"f%d" % i for i in range(6_000)])
    fd = os.open(tmpfs, os.O_PATH)
    known = frozenset(os.fsencode(n) for n in NAMES)
    tree = scan_tree(fd, PLAIN, EVERYTHING, workers=workers, mountpoints=known)
    os.close(fd)
    assert tree.coverage.foreign_mounts == len(NAMES)
    assert tree.coverage.entries == 12_000 + len(("sub", "sub/a", "sub/a/b", "x", "y")) + 2 * 2


def test_a_mountpoint_in_a_directory_given_away() -> None:
    """A parcel names the root ``.`` and others by several names at once."""
    root = Node.root_of(-1, Facts(0, 0, 0o40755))
    given = Node(root, b".", root.facts)
    below = Node(Node(given, b"a", root.facts), b"b", root.facts)
    known = Mountpoints([b"m", b"a/b/m", b"a/b/n"])
    assert known.names_in(root) == known.names_in(given) == {b"m"}
    assert known.names_in(below) == {b"m", b"n"}
    assert known.names_in(Node(root, b"a/b", root.facts)) == {b"m", b"n"}
    assert known.names_in(Node(given, b"b", root.facts)) == frozenset()


@pytest.mark.parametrize("budget", [EVERYTHING, Budget(seconds=5.0)], ids=["deep", "not-deep"])
def test_a_dead_filesystem_below_is_not_waited_for(tmpfs: Path, budget: Budget) -> None:
    (tmpfs / "d/dead").mkdir(parents=True)
    (tmpfs / "d/later").mkdir()
    fill(tmpfs / "d/later", [b"%d" % i for i in range(100)])
    where = look.Where()
    try:
        with silent_fuse(str(tmpfs / "d/dead")), Giveup() as worker:
            walk = worker.call(look.walk, where, os.fsencode(tmpfs), seconds=30)
            tree = worker.call(look.tree, where, walk.object, (), budget, 2, seconds=30)
    except MissingError as e:
        pytest.skip(str(e))
    assert tree.coverage.foreign_mounts == 1
    assert tree.coverage.entries == 102
    assert not tree.coverage.stopped


def test_what_is_hidden_under_a_mount_is_no_mountpoint(tmpfs: Path) -> None:
    """mountinfo lists a/b, but that lies under the mount on a, which has a b of its own."""
    (tmpfs / "a/b").mkdir(parents=True)
    mount("tmpfs", str(tmpfs / "a/b"), "tmpfs")
    mount("tmpfs", str(tmpfs / "a"), "tmpfs")
    try:
        (tmpfs / "a/b").mkdir()
        with Giveup() as worker:
            walk = worker.call(look.walk, look.Where(), os.fsencode(tmpfs / "a"), seconds=30)
            tree = worker.call(look.tree, look.Where(), walk.object, (), EVERYTHING, 1, seconds=30)
    finally:
        unmount(str(tmpfs / "a"))
        unmount(str(tmpfs / "a/b"))
    assert (tree.coverage.foreign_mounts, tree.coverage.entries) == (0, 1)


def test_a_root_that_fails_is_an_error_of_ours(
    tmpfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server died between the walk and the scan."""
    walk = look.walk(look.Where(), os.fsencode(tmpfs))

    def stale(_: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(sharing, "facts_of_fd", stale)
    assert walk.object is not None
    with pytest.raises(CannotCheckError, match="Stale"):
        look.tree(look.Where(), walk.object, (), EVERYTHING, 1)


@pytest.fixture
def empty_directories(tmpfs: Path) -> Path:
    """Listed soon, and then 5,000 times nothing."""
    for i in range(5_000):
        (tmpfs / str(i)).mkdir()
    return tmpfs


@pytest.mark.parametrize("workers", [1, 2])
def test_empty_directories_obey_the_budget(
    empty_directories: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    opened = OpenDirs.open

    def slow(self: OpenDirs, node: Node) -> int:
        time.sleep(0.024)
        return opened(self, node)

    monkeypatch.setattr(OpenDirs, "open", slow)
    with within(30, "all of them would take twice that"):
        tree = scanned(empty_directories, Budget(seconds=1.0), workers)
    assert tree.coverage.stopped == "stopped after 1 seconds"
    assert tree.coverage.entries == 5_000


@pytest.mark.parametrize("workers", [1, 2])
def test_empty_directories_are_signs_of_life(
    empty_directories: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    opened = OpenDirs.open

    def slow(self: OpenDirs, node: Node) -> int:
        time.sleep(0.0005)
        return opened(self, node)

    monkeypatch.setattr(OpenDirs, "open", slow)
    told = [time.monotonic()]
    fd = os.open(empty_directories, os.O_PATH)
    scan_tree(
        fd,
        PLAIN,
        EVERYTHING,
        workers=workers,
        progress=lambda _: told.append(time.monotonic()),
    )
    os.close(fd)
    told.append(time.monotonic())
    assert len(told) > 4
    assert max(b - a for a, b in pairwise(told)) < max(0.5, (told[-1] - told[0]) / 4)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_budget_of_entries_is_exact(tmpfs: Path, workers: int) -> None:
    lopsided(tmpfs, 4)
    tree = scanned(tmpfs, Budget(entries=9_000), workers)
    assert tree.coverage.stopped == "stopped at 9,000 entries"
    assert tree.coverage.entries == 9_000 == sum(c.count for c in tree.classes)


def test_a_budget_just_large_enough_is_complete(tmpfs: Path) -> None:
    fill(tmpfs, [b"%d" % i for i in range(1000)])
    assert scanned(tmpfs, Budget(entries=1000)).coverage.stopped == ""
    assert scanned(tmpfs, Budget(entries=999)).coverage.stopped == "stopped at 999 entries"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_budget_of_time(tmpfs: Path, workers: int) -> None:
    fill(tmpfs, [b"%d" % i for i in range(20_000)])
    tree = scanned(tmpfs, Budget(seconds=0.0), workers)
    assert tree.coverage.stopped == "stopped after 0 seconds"
    assert 0 < tree.coverage.entries < 20_000


def test_kinds_are_bounded(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_CLASSES", 100)
    fill(tmpfs, [b"%d" % i for i in range(1000)])
    for i in range(1000):
        os.chown(tmpfs / str(i), i, i)
    tree = scanned(tmpfs)
    assert tree.coverage.stopped == "stopped at 100 kinds of entries"
    assert len(tree.classes) <= 100 + scan.BATCH


def test_hard_links_are_no_kinds_of_their_own(tmpfs: Path) -> None:
    for i in range(50):
        (tmpfs / f"f{i}").touch()
        for j in range(i):
            os.link(tmpfs / f"f{i}", tmpfs / f"f{i}-{j}")
    (one,) = scanned(tmpfs).classes
    assert one.count == 50 + sum(range(50))


@pytest.mark.parametrize("workers", [1, 2])
def test_entries_that_come_and_go(tmpfs: Path, workers: int) -> None:
    """Files and whole directories are renamed and removed under the scan: it never fails."""
    for i in range(30):
        (tmpfs / f"d{i}").mkdir()
        fill(tmpfs / f"d{i}", [b"%d" % j for j in range(500)])

    program = (
        "import os,random,sys,shutil\n"
        "os.chdir(sys.argv[1])\n"
        "while True:\n"
        "  d = f'd{random.randrange(30)}'\n"
        "  try:\n"
        "    os.rename(d, d + 'x'); os.rename(d + 'x', d)\n"
        "    for j in range(20): os.unlink(f'{d}/{random.randrange(500)}')\n"
        "    os.rename(d, f'd{random.randrange(30)}/in')\n"
        "  except OSError: pass\n"
    )
    process = subprocess.Popen(["python3", "-c", program, str(tmpfs)])
    try:
        time.sleep(0.05)
        trees = [scanned(tmpfs, workers=workers) for _ in range(8)]
    finally:
        process.kill()
        process.wait()
    assert all(t.coverage.entries for t in trees)
    assert not any(t.coverage.stopped for t in trees)


def test_a_name_that_vanished_is_counted(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmpfs, [b"stays", b"goes"])
    (tmpfs / "dir").mkdir()
    real = scan.Scanner.read_names

    def race(self: scan.Scanner, node: object, fd: int, names: object) -> None:
        listed = list(names)  # type: ignore[call-overload]
        (tmpfs / "goes").unlink(missing_ok=True)
        real(self, node, fd, iter(listed))  # type: ignore[arg-type]
        if (tmpfs / "dir").exists():
            (tmpfs / "dir").rmdir()

    monkeypatch.setattr(scan.Scanner, "read_names", race)
    tree = scanned(tmpfs)
    assert tree.coverage.vanished == 2
    assert tree.coverage.entries == 2


@pytest.mark.parametrize("swap", ["symlink", "file"])
def test_a_directory_swapped_for_something_else(
    tmpfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    (tmpfs / "dir").mkdir()
    (tmp_path / "outside").write_text("")
    real = OpenDirs.open

    def race(self: OpenDirs, node: Node) -> int:
        if node.name == b"dir" and (tmpfs / "dir").is_dir() and not (tmpfs / "dir").is_symlink():
            (tmpfs / "dir").rmdir()
            if swap == "symlink":
                (tmpfs / "dir").symlink_to(tmp_path)
            else:
                (tmpfs / "dir").touch()
        return real(self, node)

    monkeypatch.setattr(OpenDirs, "open", race)
    tree = scanned(tmpfs)
    assert tree.coverage.entries == 1
    assert tree.coverage.vanished == 1


def as_nobody(path: Path, workers: int) -> tuple[int, int]:
    """(entries, unreadable) of a scan without privileges."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            coverage = scanned(path, workers=workers).coverage
            os.write(writer, b"%d %d" % (coverage.entries, coverage.unreadable))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    said = os.read(reader, 100).split()
    os.close(reader)
    return int(said[0]), int(said[1])


def test_closed_directories_are_counted(tmpfs: Path) -> None:
    tmpfs.chmod(0o755)
    for name, mode in (("open", 0o755), ("closed", 0o700), ("listed", 0o744)):
        (tmpfs / name).mkdir()
        fill(tmpfs / name, [b"1", b"2"])
        (tmpfs / name).chmod(mode)
    assert as_nobody(tmpfs, 1) == (5, 3), "one directory, and two names that cannot be looked at"


@pytest.fixture
def with_acls(tmpfs: Path) -> Path:
    if not shutil.which("setfacl"):
        pytest.skip("needs setfacl: apt-get install acl")
    fill(tmpfs, [b"%d" % i for i in range(700)], 0o664)
    (tmpfs / "dir").mkdir()
    named = [tmpfs / str(i) for i in range(0, 700, 7)]
    subprocess.run(["setfacl", "-m", "u:1001:rw,m:rw", *named], check=True)
    subprocess.run(["setfacl", "-m", "d:u:1002:rwx", tmpfs / "dir"], check=True)
    return tmpfs


def test_acls_are_told_apart(with_acls: Path) -> None:
    tree = scanned(with_acls)
    files = {c.inode.acl: c for c in tree.classes if not c.inode.is_dir}
    assert sorted((acl is None, c.count) for acl, c in files.items()) == [
        (False, 100),
        (True, 600),
    ]
    (directory,) = (c for c in tree.classes if c.inode.is_dir)
    assert directory.inode.default_acl is not None


def test_acls_are_read_only_where_they_matter(with_acls: Path) -> None:
    asked: list[Inode] = []

    def matters(inode: Inode) -> bool:
        asked.append(inode)
        return False

    fd = os.open(with_acls, os.O_PATH)
    tree = scan_tree(fd, Mount(), EVERYTHING, acl_matters=matters)
    os.close(fd)
    assert all(c.inode.acl is None for c in tree.classes)
    assert len(asked) == len(tree.classes), "once a kind, not once an entry"
    without = scanned(with_acls, mount=Mount(sb=Superblock(acls=False)))
    assert all(c.inode.acl is None for c in without.classes)


def test_flags_split_classes() -> None:
    if not shutil.which("chattr"):
        pytest.skip("needs chattr: apt-get install e2fsprogs")
    try:
        with mounted_fs("ext4") as path:
            fill(path, [b"plain", b"fixed", b"log"])
            subprocess.run(["chattr", "+i", f"{path}/fixed"], check=True)
            subprocess.run(["chattr", "+a", f"{path}/log"], check=True)
            classes = scanned(path).classes
            subprocess.run(["chattr", "-ia", f"{path}/fixed", f"{path}/log"], check=True)
    except MissingError as e:
        pytest.skip(str(e))

    def sample(c: EntryClass) -> bytes:
        return c.samples[0]

    files = {sample(c): c.inode for c in classes if c.inode.type is FileType.REGULAR}
    assert {n: (i.immutable, i.append_only) for n, i in files.items()} == {
        b"plain": (False, False),
        b"fixed": (True, False),
        b"log": (False, True),
    }


def test_progress_is_rare_and_grows(tmpfs: Path) -> None:
    fill(tmpfs, [b"%d" % i for i in range(50_000)])
    told: list[tuple[float, int]] = []
    fd = os.open(tmpfs, os.O_PATH)
    scan_tree(
        fd, Mount(), EVERYTHING, progress=lambda n: told.append((time.monotonic(), n)), workers=2
    )
    os.close(fd)
    assert told
    numbers = [n for _, n in told]
    assert numbers == sorted(numbers)
    assert numbers[-1] <= 50_000
    gaps = [b[0] - a[0] for a, b in pairwise(told)]
    assert all(g >= 0.099 for g in gaps)


def test_a_helper_that_dies_is_told(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmpfs, [b"%d" % i for i in range(50_000)])
    fork = os.fork

    def stillborn() -> int:
        pid = fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGKILL)
        return pid

    monkeypatch.setattr(os, "fork", stillborn)
    tree = scanned(tmpfs, workers=2)
    assert tree.coverage.stopped == "stopped: the second worker died"
    assert tree.coverage.entries == sum(c.count for c in tree.classes)


def test_a_helper_that_hangs_is_given_up(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmpfs, [b"%d" % i for i in range(3 * sharing.ALONE)])
    monkeypatch.setattr(sharing, "_serve", lambda *_: signal.pause())
    tree = scanned(tmpfs, Budget(seconds=2.0), workers=2)
    assert tree.coverage.stopped == "stopped: the second worker does not answer"
