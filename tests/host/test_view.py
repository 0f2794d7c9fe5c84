"""A process's view: walks against the kernel's own, and what a hostile container puts there."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.host import syscalls
from permdoctor.host.procfs import NotPermitted, ProcessGone
from permdoctor.host.view import View
from permdoctor.kernel.ids import INITIAL
from permdoctor.kernel.inode import FileType
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.walk import MAXSYMLINKS
from tests.host.cell import MS_BIND, MS_NOEXEC, MS_RDONLY, MS_REMOUNT, cell, mount
from tests.lab.filesystems import mounted_fs
from tests.lab.idmap import idmapped_bind
from tests.lab.needs import MissingError


def paths(view: View, path: bytes) -> list[bytes]:
    return [h.path for h in view.walk(path).hops]


def mount_at(view: View, path: bytes) -> Mount:
    found = view.walk(path).object
    assert found is not None
    return found.mount


def scene(box: Path) -> None:
    """Directories, a file, and links of every kind."""
    (box / "a/b").mkdir(parents=True)
    (box / "a/b/file").write_text("inside")
    (box / "etc").mkdir()
    for name, body in {
        "abs": "/a/b/file",
        "rel": "a/b",
        "up": "../../../../a",
        "chain": "rel/../b/file",
        "loop": "loop",
        "out": "/../../../../../../etc/passwd",
        "dangling": "/nothing/here",
        "slash": "/",
        "throughfile": "a/b/file/x",
    }.items():
        (box / name).symlink_to(body)


@pytest.mark.parametrize(
    ("path", "hops", "missing"),
    [
        pytest.param(b"/", [b"/"], None, id="root"),
        pytest.param(b"", [b"/"], None, id="empty"),
        pytest.param(b"/a/b", [b"/", b"/a", b"/a/b"], None, id="plain"),
        pytest.param(b"//a/./b/", [b"/", b"/a", b"/a/b"], None, id="slashes and dots"),
        pytest.param(b"/../..", [b"/", b"/", b"/"], None, id="above the root"),
        pytest.param(b"/a/..", [b"/", b"/a", b"/"], None, id="dotdot"),
        pytest.param(b"/rel", [b"/", b"/rel", b"/a", b"/a/b"], None, id="relative link"),
        pytest.param(
            b"/abs", [b"/", b"/abs", b"/", b"/a", b"/a/b", b"/a/b/file"], None, id="absolute link"
        ),
        pytest.param(
            b"/chain",
            [b"/", b"/chain", b"/rel", b"/a", b"/a/b", b"/a", b"/a/b", b"/a/b/file"],
            None,
            id="link in a link",
        ),
        pytest.param(b"/a/no/x", [b"/", b"/a"], b"/a/no", id="missing"),
        pytest.param(b"/dangling", [b"/", b"/dangling", b"/"], b"/nothing", id="dangling"),
        pytest.param(
            b"/a/b/file/x",
            [b"/", b"/a", b"/a/b", b"/a/b/file"],
            b"/a/b/file/x",
            id="below a file",
        ),
        pytest.param(
            b"/out", [b"/", b"/out", *[b"/"] * 7, b"/etc"], b"/etc/passwd", id="out of the root"
        ),
    ],
)
def test_walk(box: Path, path: bytes, hops: list[bytes], missing: bytes | None) -> None:
    scene(box)
    with cell(box) as pid, View.of_process(pid) as view:
        walk = view.walk(path)
        assert [h.path for h in walk.hops] == hops
        assert walk.missing == missing
        assert (walk.object is None) == (missing is not None)


def test_only_the_very_last_link_is_trailing(box: Path) -> None:
    scene(box)
    with cell(box) as pid, View.of_process(pid) as view:
        assert [h.trailing for h in view.walk(b"/rel/file").hops if h.link] == [False]
        assert [h.trailing for h in view.walk(b"/chain").hops if h.link] == [True, False]
        assert [h.trailing for h in view.walk(b"/abs").hops if h.link] == [True]
        assert [h.trailing for h in view.walk(b"/rel/.").hops if h.link] == [False]
        assert view.walk(b"/abs", follow=False).hops[-1].inode.type is FileType.SYMLINK


def test_a_loop_ends_like_the_kernels(box: Path) -> None:
    scene(box)
    with cell(box) as pid, View.of_process(pid) as view:
        links = [h for h in view.walk(b"/loop").hops if h.link]
        assert len(links) == MAXSYMLINKS + 1


def test_random_walks_end_where_the_kernel_ends(box: Path) -> None:
    """Links, dots and missing names at random; the truth is stat(2) in a chrooted child."""
    rng = random.Random(7)
    names = ["a", "b", "c", "..", ".", "l0", "l1", "l2", "l3", "l4", "no"]
    for d in ("a", "a/b", "a/b/c", "b", "b/a", "c"):
        (box / d).mkdir(exist_ok=True)
    (box / "b/c").write_text("")

    def some_path(absolute: bool) -> str:
        return "/" * absolute + "/".join(rng.choices(names, k=rng.randint(1, 6)))

    for d in ("", "a", "a/b", "b"):
        for i in range(5):
            (box / d / f"l{i}").symlink_to(some_path(rng.random() < 0.5))
    asked = [some_path(True) + rng.choice(["", "/", "/."]) for _ in range(600)]
    truth: list[tuple[int, int] | None] = []
    reader, writer = os.pipe()
    if not os.fork():
        os.chroot(box)
        for path in asked:
            try:
                st = os.stat(path)
                os.write(writer, b"%d %d\n" % (st.st_dev, st.st_ino))
            except OSError:
                os.write(writer, b"-\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as f:
        for line in f:
            dev, _, ino = line.strip().partition(" ")
            truth.append((int(dev), int(ino)) if ino else None)
    os.wait()
    reached = sum(t is not None for t in truth)
    assert 100 < reached < 500, "the dice make a poor test"
    with cell(box) as pid, View.of_process(pid) as view:
        for path, expected in zip(asked, truth, strict=True):
            walk = view.walk(path.encode())
            looped = sum(h.link is not None for h in walk.hops) > MAXSYMLINKS
            of_file = path.endswith("/") and walk.object and not walk.object.inode.is_dir
            found = walk.object and not looped and not of_file
            assert ((walk.dev, walk.ino) if found else None) == expected, path


def test_an_absolute_link_never_resolves_on_the_host(box: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    (box / "passwd").symlink_to(secret)
    (box / "dir").symlink_to(tmp_path)
    with cell(box) as pid, View.of_process(pid) as view:
        assert Path(f"/proc/{pid}/root/passwd").read_text() == "the host's"  # the trap is real
        for path in (b"/passwd", b"/dir/secret"):
            with pytest.raises(CannotCheckError, match="No such file"):
                view.read_file(path)
            assert view.walk(path).missing is not None
        with pytest.raises(CannotCheckError):
            view.open_dir(b"/dir")


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "directory"])
def test_only_regular_files_are_read(box: Path, kind: str) -> None:
    path = box / "thing"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.chdir(box)
            with socket.socket(socket.AF_UNIX) as s:
                s.bind("thing")
            os.chdir("/")
        case "device":
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        case _:
            path.mkdir()
    with cell(box) as pid, View.of_process(pid) as view:
        with pytest.raises(CannotCheckError, match="no regular file"):
            view.read_file(b"/thing")
        assert view.walk(b"/thing").object is not None


def test_a_file_is_read_up_to_the_limit(box: Path) -> None:
    (box / "big").write_bytes(b"x" * 5000)
    with cell(box) as pid, View.of_process(pid) as view:
        assert view.read_file(b"/big", 100) == b"x" * 100
        assert len(view.read_file(b"/big")) == 5000


HOSTILE = [b"a\nb", b"\x1b[2J", b"\xff\xfe", b" ", b"-rf", "\u202eevil".encode(), b"x" * 255]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_only_bytes(box: Path, name: bytes) -> None:
    fd = os.open(box, os.O_RDONLY)
    os.mkdir(name, dir_fd=fd)
    os.close(fd)
    with cell(box) as pid, View.of_process(pid) as view:
        assert paths(view, b"/" + name) == [b"/", b"/" + name]
        with pytest.raises(CannotCheckError) as caught:
            view.read_file(b"/" + name)
        assert caught.value.message.isprintable()


def test_a_nul_byte_is_a_usage_error() -> None:
    with View.of_host() as view, pytest.raises(UsageError):
        view.walk(b"/etc\0/passwd")


def test_mounts_of_the_cell_govern(box: Path) -> None:
    for name in ("ro", "noexec", "tmp"):
        (box / name).mkdir()
    (box / "one").write_text("covered")

    def setup() -> None:
        mount(str(box), str(box), flags=MS_BIND)
        for name, flags in (("ro", MS_RDONLY), ("noexec", MS_NOEXEC)):
            mount(str(box / name), str(box / name), flags=MS_BIND)
            mount("", str(box / name), flags=MS_BIND | MS_REMOUNT | flags)
        mount("tmpfs", str(box / "tmp"), "tmpfs", data="mode=1777")
        (box / "tmp/inner").mkdir()
        mount("tmpfs", str(box / "tmp/inner"), "tmpfs", flags=MS_RDONLY)
        mount("/proc/version", str(box / "one"), flags=MS_BIND)

    with cell(box, setup=setup) as pid, View.of_process(pid) as view:

        def at(path: bytes) -> tuple[bool, bool, str, bool]:
            mount = mount_at(view, path)
            return mount.read_only, mount.noexec, mount.sb.fstype, mount.sb.read_only

        base = mount_at(view, b"/").sb.fstype
        assert at(b"/ro") == (True, False, base, False)
        assert at(b"/noexec") == (False, True, base, False)
        assert at(b"/tmp") == (False, False, "tmpfs", False)
        assert at(b"/tmp/inner") == (True, False, "tmpfs", True)
        assert at(b"/one")[2] == "proc"
        assert not mount_at(view, b"/one").sb.acls
        by_point = {m.mountpoint: view.mount_of(m) for m in view.mounts}
        assert by_point[b"/tmp/inner"] == mount_at(view, b"/tmp/inner")
        assert by_point[b"/one"] == mount_at(view, b"/one")


@pytest.mark.parametrize(
    ("kind", "options", "acls"),
    [("ext4", "", True), ("btrfs", "noacl", False), ("xfs", "", True)],
)
def test_acl_support_is_the_superblocks(kind: str, options: str, acls: bool) -> None:
    try:
        with mounted_fs(kind, options=options) as path, View.of_host() as view:
            mount = mount_at(view, os.fsencode(path))
            assert (mount.sb.fstype, mount.sb.acls) == (kind, acls)
    except MissingError as e:
        pytest.skip(str(e))


def test_a_superblock_belongs_to_who_mounted_it(box: Path, tmpfs: Path) -> None:
    (box / "own").mkdir()
    (box / "hosts").mkdir()
    tmpfs.chmod(0o755)

    def setup() -> None:
        mount("tmpfs", str(box / "own"), "tmpfs")
        mount(str(tmpfs), str(box / "hosts"), flags=MS_BIND)

    with cell(box, uids=[(0, 100000, 65536)], setup=setup) as pid, View.of_process(pid) as view:
        assert mount_at(view, b"/own").sb.userns == view.userns
        assert mount_at(view, b"/hosts").sb.userns == INITIAL
        assert mount_at(view, b"/").sb.userns == INITIAL


def test_an_idmapped_mount_shows_its_ids_and_its_map(box: Path, tmpfs: Path) -> None:
    for name, uid, gid in (("mapped", 5, 6), ("unmapped", 5000, 6), ("nobody", 65534, 65534)):
        (tmpfs / name).touch()
        os.chown(tmpfs / name, uid, gid)
    (box / "data").mkdir()
    try:
        with (
            idmapped_bind(str(tmpfs), str(box / "data"), [(0, 100000, 1000)]),
            cell(box) as pid,
            View.of_process(pid) as view,
        ):
            mount = mount_at(view, b"/data")
            found = {
                n: view.walk(b"/data/" + n).object for n in (b"mapped", b"unmapped", b"nobody")
            }
    except MissingError as e:
        pytest.skip(str(e))
    ids = {n: (h.inode.uid, h.inode.gid) for n, h in found.items() if h}
    assert ids == {
        b"mapped": (100005, 100006),
        b"unmapped": (None, 100006),
        b"nobody": (None, None),
    }
    if mount.idmap_unknown:
        pytest.skip("statmount(2) does not tell the id map before Linux 6.15")
    assert mount.idmap is not None
    assert mount.idmap.uids.outside(5) == 100005
    assert mount.shown_uid(INITIAL.kuid(view.userns.uid(7))) == 100007  # type: ignore[arg-type]


def test_nobody_of_a_plain_mount_is_somebody(tmpfs: Path) -> None:
    (tmpfs / "x").touch()
    os.chown(tmpfs / "x", 65534, 65534)
    with View.of_host() as view:
        found = view.walk(os.fsencode(tmpfs / "x")).object
    assert found is not None
    assert (found.inode.uid, found.inode.gid) == (65534, 65534)


def test_flags_and_default_acls(tmp_path: Path) -> None:
    if not shutil.which("setfacl") or not shutil.which("chattr"):
        pytest.skip("needs setfacl and chattr: apt-get install acl e2fsprogs")
    try:
        with mounted_fs("ext4") as path, View.of_host() as view:
            base = Path(path)
            (base / "d").mkdir()
            for name in ("fixed", "log"):
                (base / name).touch()
            subprocess.run(["setfacl", "-d", "-m", "u:1001:rwx", base / "d"], check=True)
            subprocess.run(["chattr", "+i", base / "fixed"], check=True)
            subprocess.run(["chattr", "+a", base / "log"], check=True)
            try:
                inode = {
                    n: view.walk(os.fsencode(base / n)).hops[-1].inode
                    for n in ("d", "fixed", "log")
                }
            finally:
                subprocess.run(["chattr", "-ia", base / "fixed", base / "log"], check=True)
    except MissingError as e:
        pytest.skip(str(e))
    assert inode["d"].acl is None
    assert inode["d"].default_acl is not None
    assert inode["fixed"].immutable
    assert not inode["fixed"].append_only
    assert inode["log"].append_only


def test_a_process_that_is_gone(box: Path) -> None:
    with cell(box) as pid:
        pass
    with pytest.raises(ProcessGone):
        View.of_process(pid)


def test_a_view_outlives_its_process(box: Path) -> None:
    (box / "x").mkdir()
    with cell(box) as pid:
        view = View.of_process(pid)
        assert view.walk(b"/x").object
    with view:
        assert view.walk(b"/x").object, "the mounts are held"


def test_no_descriptor_is_left(box: Path) -> None:
    scene(box)
    with cell(box) as pid:
        before = set(os.listdir("/proc/self/fd"))
        with View.of_process(pid) as view:
            for path in (b"/chain", b"/loop", b"/a/no", b"/out", b"/abs"):
                view.walk(path)
            for m in view.mounts:
                view.mount_of(m)
            with pytest.raises(CannotCheckError):
                view.read_file(b"/a")
        assert set(os.listdir("/proc/self/fd")) == before


def test_closed_to_us(box: Path) -> None:
    (box / "private/in").mkdir(parents=True)
    (box / "private").chmod(0o700)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with View.of_host() as view:
                try:
                    view.walk(os.fsencode(box / "private/in"))
                except NotPermitted as e:
                    status = 0 if e.hint else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_statx_agrees_with_stat(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    fd = os.open(tmp_path, os.O_PATH)
    ours, theirs = syscalls.statx(fd, b"f"), os.stat(tmp_path / "f")
    os.close(fd)
    assert (ours.mode, ours.uid, ours.gid, ours.nlink, ours.ino, ours.dev) == tuple(
        getattr(theirs, f"st_{n}") for n in ("mode", "uid", "gid", "nlink", "ino", "dev")
    )


def test_the_mount_above_a_chroot(tmpfs: Path) -> None:
    """The process's mountinfo does not list it."""
    below = tmpfs / "root"
    below.mkdir()
    with cell(below) as pid, View.of_process(pid) as view:
        assert b"/" not in [m.mountpoint for m in view.mounts]
        assert mount_at(view, b"/").sb.fstype == "tmpfs"


# --- the host, seen from a mount namespace of our own ---

ELSEWHERE = """
import json, os, subprocess, sys
from permdoctor.host import machine, syscalls
from permdoctor.host.view import View
path = os.fsencode(sys.argv[1])
machine.FIRST = os.getppid()
before = machine.has_own_mounts()
syscalls.unshare(syscalls.CLONE_NEWNS)
for command in sys.argv[2:]:
    subprocess.run(command, shell=True, check=True)
def of(view):
    with view:
        walk = view.walk(path)
        return None if walk.object is None else [walk.ino, walk.object.mount.read_only]
mounted = path in {m.mountpoint for m in machine.host_mountinfo()}
print(json.dumps([before, machine.has_own_mounts(), of(View.of_host()), of(View.ours()), mounted]))
"""


@pytest.mark.parametrize(
    ("commands", "ours"),
    [
        pytest.param(["mount --bind {0} {0}", "mount -o remount,bind,ro {0}"], True, id="ro"),
        pytest.param(["mount -t tmpfs -o mode=0 none {0}/.."], None, id="hidden"),
    ],
)
def test_a_service_with_mounts_of_its_own_sees_the_hosts(
    tmp_path: Path, commands: list[str], ours: bool | None
) -> None:
    """As systemd's ProtectSystem=strict and PrivateTmp=yes make them."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a mount namespace")
    path = tmp_path / "a" / "b"
    path.mkdir(parents=True)
    private = ["mount --make-rprivate /", *(c.format(path) for c in commands)]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(path), *private],
        capture_output=True,
        text=True,
        check=True,
    )
    ino = path.stat().st_ino
    seen = None if ours is None else [ino, ours]
    assert json.loads(done.stdout) == [False, True, [ino, False], seen, False]
