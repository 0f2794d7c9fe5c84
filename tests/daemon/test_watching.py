"""The process that watches: what it notices, and where it does not let itself be led."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from permdoctor.daemon.channel import Channel, Closed
from permdoctor.daemon.events import Watched
from permdoctor.daemon.nursery import WATCHER, Nursery
from permdoctor.daemon.watch import Watch
from permdoctor.daemon.watching import Noticed, Wanted, watching
from tests.lab.needs import MissingError, need_root, need_tools

HIDDEN = """\
mount -t tmpfs tmpfs {hidden}
exec {python} -c '
import socket
from permdoctor.daemon.channel import Closed
from permdoctor.daemon.events import Watched
from permdoctor.daemon.nursery import WATCHER, Nursery
from permdoctor.daemon.watch import Watch
from permdoctor.daemon.watching import watching
from permdoctor.host import machine
machine.FIRST = {first}
try:
    watching(socket.socket(fileno={fd}))
except Closed:
    pass
'
"""


class Watching:
    """The service's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel: Channel[Noticed] = Channel(sock, Noticed)
        self.heard: list[Noticed] = []

    def want(
        self,
        *roots: Path,
        files: tuple[Path, ...] = (),
        within: Path | None = None,
        most: int = 4096,
    ) -> Noticed:
        """All of it is looked at when this returns."""
        wanted = Wanted(
            roots=tuple(map(os.fsencode, roots)),
            files=tuple(map(os.fsencode, files)),
            directories=() if within is None else ((os.fsencode(within), b".toml"),),
            most=most,
        )
        self.channel.send(wanted, 5)
        return self.until(lambda n: n.done)

    def until(self, what: Callable[[Noticed], bool], seconds: float = 10.0) -> Noticed:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for noticed in self.channel.received():
                self.heard.append(noticed)
            for noticed in self.heard:
                if what(noticed):
                    self.heard.remove(noticed)
                    return noticed
            time.sleep(0.01)
        raise AssertionError(f"not within {seconds:g} s: {self.heard}")

    def notices(self, path: Path) -> bool:
        return self.until(lambda n: n.changed == os.fsencode(path)).changed != b""

    def quiet(self, seconds: float = 0.2) -> bool:
        """Nothing more is noticed."""
        time.sleep(seconds)
        self.heard += self.channel.received()
        changed = [n for n in self.heard if n.changed]
        self.heard.clear()
        return not changed


@pytest.fixture
def watch() -> Iterator[Watching]:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(theirs,))
    thread.start()
    yield Watching(ours)
    ours.close()
    thread.join(60)
    assert not thread.is_alive()
    theirs.close()


def _serve(sock: socket.socket) -> None:
    try:
        watching(sock)
    except Closed:
        return


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A mount's root with a directory in it, as real paths."""
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path.resolve() / "tree"


# --- roots ---


def test_what_is_dropped_into_a_tree(watch: Watching, tree: Path) -> None:
    watch.want(tree)
    for place in (tree / "x", tree / "below/x", tree / "new"):
        place.mkdir()
        assert watch.notices(tree)
        assert watch.quiet()
    (tree / "new/x").touch()  # a directory that came later
    assert watch.notices(tree)


def with_directories(root: Path, count: int) -> Path:
    for n in range(count):
        (root / f"{n:02}").mkdir(parents=True)
    return root


def test_one_takes_all_there_is_until_another_comes(watch: Watching, tmp_path: Path) -> None:
    """Its root is watched, and as many directories as are its share."""
    greedy, other = with_directories(tmp_path / "a", 30), with_directories(tmp_path / "b", 3)
    assert watch.want(greedy, most=20).watched == 20
    done = watch.want(greedy, other, most=20)
    assert (done.watched, done.dark) == (20, (os.fsencode(greedy),))
    assert done.why == "service.watch_max is reached"
    for n in range(3):
        (other / f"{n:02}/new").touch()
        assert watch.notices(other)
    (greedy / "new").touch()
    assert watch.notices(greedy)
    (other / "later").mkdir()
    assert watch.notices(other)
    time.sleep(0.1)
    assert watch.quiet()
    (other / "later/new").touch()
    assert watch.notices(other)


def test_every_root_comes_before_any_directory(watch: Watching, tmp_path: Path) -> None:
    roots = [with_directories(tmp_path / str(n), 30) for n in range(5)]
    watch.want(roots[0], most=5)
    done = watch.want(*roots, most=5)
    assert (done.watched, done.left_out) == (5, 5)
    for root in roots:
        (root / "new").touch()
        assert watch.notices(root)


def test_there_is_room_again(watch: Watching, tmp_path: Path) -> None:
    a, b = (with_directories(tmp_path / name, 8) for name in "ab")
    assert watch.want(a, b, most=12).dark == (os.fsencode(a), os.fsencode(b))
    assert watch.want(a, most=12).dark == ()


def test_a_tree_that_is_made_again(watch: Watching, tree: Path) -> None:
    """It has the same name, and is another one."""
    watch.want(tree)
    shutil.rmtree(tree)
    assert watch.notices(tree)
    tree.mkdir()
    assert watch.notices(tree)
    watch.quiet(0)
    (tree / "x").touch()
    assert watch.notices(tree)


def test_a_file_is_a_root(watch: Watching, tree: Path) -> None:
    file = tree / "file"
    file.touch()
    watch.want(file)
    file.chmod(0o600)
    assert watch.notices(file)


LEADS = [
    pytest.param("tree/below", "tree/below/x", id="in the tree"),
    pytest.param("tree", "tree/below", id="the root itself"),
    pytest.param("tree", "tree/below/x", id="above the root"),
]


@pytest.mark.parametrize(("link", "root"), LEADS)
def test_a_symlink_leads_nowhere(watch: Watching, tree: Path, link: str, root: str) -> None:
    base = tree.parent
    (base / "elsewhere/below/x").mkdir(parents=True)
    (base / "elsewhere/x").mkdir()
    shutil.rmtree(base / link)
    (base / link).symlink_to(base / "elsewhere")
    watch.want(base / root)
    for place in ("below/x/file", "x/file", "below/file", "file"):
        (base / "elsewhere" / place).touch()
    assert watch.quiet()


def test_a_symlink_that_comes_later_leads_nowhere(watch: Watching, tree: Path) -> None:
    """In the tree, and in the place of the tree."""
    elsewhere = tree.parent / "elsewhere"
    (elsewhere / "below").mkdir()
    watch.want(tree)
    (tree / "link").symlink_to(elsewhere)
    (tree / "below").rename(tree / "old")
    (tree / "below").symlink_to(elsewhere / "below")
    assert watch.notices(tree)
    watch.quiet()
    (elsewhere / "x").touch()
    (elsewhere / "below/x").touch()
    assert watch.quiet()
    tree.rename(tree.parent / "moved")
    tree.symlink_to(elsewhere)
    refused = watch.until(lambda n: n.done)
    assert (refused.left_out, refused.why) == (1, "a symlink is on the way")
    watch.quiet()
    (elsewhere / "y").touch()
    assert watch.quiet()


def test_what_our_own_mounts_hide(tree: Path) -> None:
    """A container's absolute symlink leads neither into them nor out of the tree."""
    try:
        need_root()
        need_tools("unshare", "mount")
    except MissingError as e:
        pytest.skip(str(e))
    (tree / "out").symlink_to("/")
    elsewhere = tree.parent / "elsewhere"
    (tree / "below/gone").symlink_to(elsewhere)
    ours, theirs = socket.socketpair()
    script = HIDDEN.format(
        hidden=tree.parent, python=sys.executable, fd=theirs.fileno(), first=os.getpid()
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script],
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    try:
        watch = Watching(ours)
        watch.want(tree, tree / "out/etc", tree / "below/gone")
        (tree / "below/x").touch()
        assert watch.notices(tree)
        (elsewhere / "x").touch()
        assert watch.quiet()
    finally:
        ours.close()
        assert process.wait(60) == 0


# --- the configuration ---


def test_files_that_come_and_go(watch: Watching, tmp_path: Path) -> None:
    """Nothing is there at the beginning, not even the directory."""
    place, file, within = (tmp_path / p for p in ("pd", "pd/config.toml", "pd/conf.d"))
    watch.want(files=(file,), within=within)
    place.mkdir()
    assert watch.notices(file)
    assert watch.notices(within)
    within.mkdir()
    assert watch.notices(within)
    assert watch.quiet()
    for path, said in ((file, file), (within / "a.toml", within)):
        path.write_text("a")
        assert watch.notices(said)
        watch.quiet()
        aside = path.with_suffix(".new")
        aside.write_text("b")
        assert watch.quiet(), "not ours yet"
        aside.rename(path)
        assert watch.notices(said)
        assert watch.quiet()
        path.unlink()
        assert watch.notices(said)
        path.write_text("c")
        assert watch.notices(said)
        watch.quiet()
    shutil.rmtree(place)
    assert watch.notices(within)
    watch.quiet()
    within.mkdir(parents=True)
    assert watch.notices(within)
    watch.quiet()
    (within / "b.toml").touch()
    assert watch.notices(within)


def test_it_dies_while_the_loop_is_busy(tree: Path) -> None:
    """Its end and another event are served in the same round: what comes second finds it gone."""

    def dies(sock: socket.socket) -> None:
        sock.recv(1)

    nursery = Nursery({WATCHER: lambda: dies})
    watch = Watch(nursery, 9, lambda *_: None, lambda *_: None, lambda _: None)
    try:
        watch.want((os.fsencode(tree),))
        assert watch._channel is not None
        select.select([watch._channel.fileno()], [], [], 10)
        for _ in range(9):
            watch.want((os.fsencode(tree),))
            if watch._channel is None:
                break
        assert watch._channel is None
        assert watch.answered() == []
        assert next(e.dark for e in watch.advance(0) if isinstance(e, Watched)) == (
            os.fsencode(tree),
        )
    finally:
        watch.close()
        nursery.close()
