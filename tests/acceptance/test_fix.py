"""``fix`` and ``undo`` with real containers: what was refused works, and it can be taken back.

A fix is run as a person runs it; what the container may do is tried inside; a tree is compared by
the system's own tools.  Containers stand still meanwhile, and go on whatever happens.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from permdoctor.app import applying
from permdoctor.app.pausing import Standstill, users_of, while_paused
from permdoctor.engines.docker import DockerEngine
from permdoctor.errors import CannotCheckError
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.repair.journal import About
from permdoctor.repair.store import Store
from tests.cli.process import Done
from tests.cli.repairs import Run, metadata, runner, settings
from tests.engines.conftest import client
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab
from tests.lab.patience import Patience

pytestmark = pytest.mark.engine


def make(path: Path, uid: int, gid: int, mode: int) -> None:
    if path.name.endswith(".d"):
        path.mkdir()
    else:
        path.write_bytes(b"x")
    os.chown(path, uid, gid)
    os.chmod(path, mode)


@dataclass(frozen=True, kw_only=True)
class Case:
    """``entries`` are (name, uid, gid, mode) below a root of ``owner``; ``script`` is refused
    before and after an undo, and works in between.
    """

    id: str
    owner: tuple[int, int, int] = (0, 0, 0o755)
    entries: tuple[tuple[str, int, int, int], ...] = ()
    options: tuple[str, ...]
    script: str
    more: tuple[str, ...] = ()
    shown: tuple[str, ...]


CASES = (
    Case(
        id="S1 one weight file is 0600",
        entries=(("w.bin", 0, 0, 0o600), ("ok.bin", 0, 0, 0o644), ("tool", 0, 0, 0o4755)),
        options=("-u", "1001:1001", "-v", "{}:/m:ro"),
        script="cat /m/w.bin",
        shown=("root:root 0600, +user:1001:r--  1 file: w.bin", "gains read on 1 entry: w.bin"),
    ),
    Case(
        id="S4 save a model",
        entries=(("old.d", 1001, 1001, 0o755), ("old", 1001, 1001, 0o644)),
        options=("-u", "1001:1001", "-v", "{}:/m"),
        script="touch /m/new && rm /m/new",
        shown=("root:root 0755 -> 1001:1001  1 directory: .", "paused meanwhile: "),
    ),
    Case(
        id="S4 by an ACL entry",
        options=("-u", "1001:1001", "-v", "{}:/m"),
        script="touch /m/new && rm /m/new",
        more=("--mount", "/m", "--remedy", "acl-user"),
        shown=("root:root 0755, +user:1001:rwx  1 directory: .",),
    ),
    Case(
        id="C1 group 0",
        owner=(5000, 0, 0o755),
        options=("-u", "1003", "-v", "{}:/m"),
        script="touch /m/new && rm /m/new",
        shown=("5000:root 0755 -> 0775",),
    ),
    Case(
        id="left behind by root",
        owner=(1001, 1001, 0o755),
        entries=(("a.d", 0, 0, 0o755), ("a.d/f", 0, 0, 0o644), ("mine", 1001, 1001, 0o644)),
        options=("-u", "1001:1001", "-v", "{}:/m"),
        script="echo x >> /m/a.d/f",
        shown=("root:root 0755 -> 1001:1001", "root:root 0644 -> 1001:1001"),
    ),
)


@pytest.fixture
def folder(lab: Lab) -> Path:
    return lab.directory(name="permdoctor")


def scene(lab: Lab, case: Case) -> Path:
    source = lab.directory(*case.owner)
    for name, uid, gid, mode in case.entries:
        make(source / name, uid, gid, mode)
    return source


@pytest.fixture
def run(
    folder: Path,
    dockerd: Engine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    return runner(capsys, monkeypatch, settings(folder), dockerd.host)


def refused_then_repaired_then_undone(case: Case, box: Box, source: Path, run: Run) -> None:
    before = metadata(source)
    assert not box.sh(case.script).ok
    shown = run("fix", box.name, *case.more)
    assert (shown.status, shown.err) == (1, "")
    for each in case.shown:
        assert each in shown.out
    assert metadata(source) == before
    command = shown.out.splitlines()[-1].split()
    assert command[:2] == ["permdoctor", "fix"]
    done = run(*command[1:], "--yes")
    assert (done.status, done.err) == (0, "")
    assert f"{box.name}: checked again: the problem is gone" in done.out
    assert box.sh(case.script).ok
    undone = run("undo", "--last", "--yes")
    assert (undone.status, undone.err) == (0, "")
    assert metadata(source) == before
    assert not box.sh(case.script).ok


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_refused_then_repaired_then_undone(
    case: Case, lab: Lab, dockerd: Engine, run: Run, boxes: list[Box]
) -> None:
    source = scene(lab, case)
    box = dockerd.run(*(o.format(source) for o in case.options))
    boxes.append(box)
    refused_then_repaired_then_undone(case, box, source, run)


def test_userns_remap(
    lab: Lab,
    dockerd_remap: Engine,
    folder: Path,
    boxes: list[Box],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Inside 1001, on the host 165536 + 1001."""
    case = Case(
        id="remapped",
        options=("-u", "1001:1001", "-v", "{}:/m"),
        script="touch /m/new && rm /m/new",
        shown=("root:root 0755 -> 166537:166537",),
    )
    source = scene(lab, case)
    box = dockerd_remap.run(*(o.format(source) for o in case.options))
    boxes.append(box)
    run = runner(capsys, monkeypatch, settings(folder), dockerd_remap.host)
    refused_then_repaired_then_undone(case, box, source, run)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        pytest.param(("-u", "1001:1001"), 0, "nothing to repair", id="nothing is refused"),
        pytest.param(
            ("-u", "1001:1001", "--read-only", "--label", "permdoctor.need./app=write"),
            1,
            "not repaired: ",
            id="S2 inside the image: nothing of the host would help",
        ),
    ],
)
def test_where_there_is_nothing_to_repair(
    options: tuple[str, ...], status: int, said: str, dockerd: Engine, run: Run, boxes: list[Box]
) -> None:
    box = dockerd.run(*options)
    boxes.append(box)
    done = run("fix", box.name)
    assert done.status == status
    assert said in done.out
    assert (len(done.out.splitlines()) == 1) is (status == 0)


# -- bad input with an engine ----------------------------------------------------------------


@pytest.fixture(scope="module")
def trainer(lab: Lab, dockerd: Engine) -> Iterator[tuple[Box, Path]]:
    """A container that is refused something.  Nobody repairs it here."""
    source = lab.directory()
    box = dockerd.run("-u", "1001:1001", "-v", f"{source}:/app/model", name="trainer")
    yield box, source
    box.rm()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(("trainr",), "did you mean trainer?", id="container"),
        pytest.param(("trainer", "--remedy", "chown"), "chown-directory", id="remedy"),
        pytest.param(("trainer", "--mount", "/app/modle"), "/app/model", id="mount"),
        pytest.param(("trainer", "--apply", "--yes"), "--allow", id="not allowed"),
        pytest.param(
            ("trainer", "--apply", "--yes", "--allow", "/nonexistent"), "--allow", id="elsewhere"
        ),
        pytest.param(("--path", "/srv", "--for", "trainr"), "did you mean trainer?", id="for"),
    ],
)
def test_bad_input(
    args: tuple[str, ...], message: str, run: Run, trainer: tuple[Box, Path], folder: Path
) -> None:
    before = metadata(trainer[1])
    done = run("fix", *args)
    assert (done.status, done.out) == (2, "")
    assert message in done.one_line
    assert metadata(trainer[1]) == before
    assert not (folder / "state").exists()


def test_a_container_that_opted_out(lab: Lab, dockerd: Engine, run: Run, boxes: list[Box]) -> None:
    source = lab.directory()
    label = ("--label", "permdoctor.fix=off")
    box = dockerd.run("-u", "1001:1001", *label, "-v", f"{source}:/m")
    boxes.append(box)
    for args in ((box.name,), ("--path", str(source), "--for", box.name)):
        for more in ((), ("--apply", "--yes", "--allow", str(source))):
            done = run("fix", *args, *more)
            assert (done.status, done.out) == (2, "")
            assert "permdoctor.fix" in done.one_line
    assert source.stat().st_uid == 0


def test_a_tree_for_a_container(lab: Lab, dockerd: Engine, run: Run, boxes: list[Box]) -> None:
    """What it is refused elsewhere is not the tree's fault; what it does not see is not given."""
    top = lab.directory()
    for name in ("one", "two", "none"):
        (top / name).mkdir()
    volumes = ("-v", f"{top}/one:/one", "-v", f"{top}/two:/two")
    box = dockerd.run("-u", "1001:1001", *volumes)
    boxes.append(box)
    for place, hint in (("none", "--to UID:GID"), (".", f"{top}/one, {top}/two")):
        done = run("fix", "--path", top / place, "--for", box.name, "--apply", "--yes")
        assert (done.status, done.out) == (2, "")
        assert "does not mount" in done.one_line
        assert hint in done.err
    done = run("fix", "--path", top / "one", "--for", box.name, "--apply", "--yes")
    assert (done.status, done.err) == (0, "")
    assert f"{box.name}: checked again: the problem is gone" in done.out
    assert [(top / n).stat().st_uid for n in ("", "one", "two")] == [0, 1001, 0]


def test_what_the_problem_hid_is_told(
    lab: Lab, dockerd: Engine, run: Run, boxes: list[Box]
) -> None:
    """What lies in a directory is judged when it can be entered."""
    source = lab.directory(mode=0o700)
    make(source / "w.bin", 0, 0, 0o600)
    box = dockerd.run("-u", "1001:1001", "-v", f"{source}:/m:ro")
    boxes.append(box)
    args = ("fix", box.name, "--apply", "--yes", "--allow", source)
    first = run(*args)
    assert first.status == 1
    assert "found now; repair it again:\n    error PD111" in first.out
    assert not box.sh("cat /m/w.bin").ok
    assert run(*args).status == 0
    assert box.sh("cat /m/w.bin").ok


def test_no_label_opts_in(lab: Lab, dockerd: Engine, run: Run, boxes: list[Box]) -> None:
    box = dockerd.run(
        "-u", "1001:1001", "--label", "permdoctor.fix=on", "-v", f"{lab.directory()}:/m"
    )
    boxes.append(box)
    done = run("fix", box.name, "--apply", "--yes")
    assert done.status == 2
    assert "repair.roots" in done.one_line


# -- standing still --------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """A container that appends to ``log`` as fast as it can, on the tree ``source``."""

    box: Box
    source: Path

    def grows(self, seconds: float = 30.0) -> bool:
        """Within so many; a moment is enough to see that nobody writes."""
        log = self.source / "log"
        before = log.stat().st_size
        patience = Patience(seconds)
        while not (grew := log.stat().st_size > before) and not patience.over:
            time.sleep(0.01)
        return grew

    @property
    def paused(self) -> bool:
        return bool(self.box.inspect()["State"]["Paused"])


@pytest.fixture
def writer(lab: Lab, dockerd: Engine) -> Iterator[Writer]:
    """Root's files in a tree that root writes; the second container is refused it."""
    source = lab.directory()
    (source / "log").write_bytes(b"")
    for n in range(8):
        (source / f"d{n}").mkdir()
        for m in range(10):
            (source / f"d{n}" / f"f{m}").write_bytes(b"")
    script = "while :; do echo x >> /w/log; done"
    box = dockerd.run("-v", f"{source}:/w", command=("sh", "-c", script))
    yield Writer(box, source)
    dockerd.docker_process("unpause", box.id)
    box.rm()


def to(writer: Writer, *more: str) -> tuple[str, ...]:
    return ("fix", "--path", str(writer.source), "--to", "1001:1001", "--apply", "--yes", *more)


def test_who_writes_stands_still(writer: Writer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real, grew = applying.executor.apply, []

    def watched(*args: object) -> object:
        outcome = real(*args)  # type: ignore[arg-type]
        grew.append(writer.grows(0.25))
        return outcome

    monkeypatch.setattr(applying.executor, "apply", watched)
    assert writer.grows(), "it does write"
    done = run(*to(writer))
    busy = "skipped, being written just now" in done.out  # if it was written at that very moment
    assert done.status == int(busy)
    assert f"resumed: {writer.box.name}" in done.out
    assert grew == [False]
    assert writer.grows(), "it goes on"


def test_live_goes_without(
    writer: Writer, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(folder, "live = true")
    real, grew = applying.executor.apply, []
    safe = Sysctls(protected_hardlinks=1)
    monkeypatch.setattr("permdoctor.app.fix.procfs.read_sysctls", lambda: safe)

    def watched(*args: object) -> object:
        grew.append(writer.grows())
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(applying.executor, "apply", watched)
    done = run(*to(writer, "--live"))
    assert "nobody is paused: --live" in done.out
    assert grew == [True]


def broken(*_: object) -> object:
    raise RuntimeError("a bug")


def test_a_bug_leaves_nobody_paused(
    writer: Writer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying.executor, "apply", broken)
    assert run(*to(writer)).status == 3
    assert writer.grows()


def test_who_cannot_be_paused_is_not_repaired(
    writer: Writer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever was paused before it goes on."""

    def pause(self: DockerEngine, id_: str) -> bool:
        raise CannotCheckError("the engine says no")

    monkeypatch.setattr(DockerEngine, "pause", pause)
    before = metadata(writer.source / "d0")
    done = run(*to(writer))
    assert done.status == 3
    assert f"container {writer.box.name} cannot be paused" in done.err
    assert metadata(writer.source / "d0") == before


def test_who_was_paused_before_stays_so(writer: Writer, run: Run, folder: Path) -> None:
    writer.box.pause()
    done = run(*to(writer))
    assert (done.status, "resumed" in done.out) == (0, False)
    assert writer.paused
    (id_,) = os.listdir(folder / "state" / "journal")
    assert "paused" not in run("history", "show", id_).out, "nor would it be resumed after a crash"


def test_who_stands_still_for_another_repair_is_waited_for(
    writer: Writer, run: Run, folder: Path
) -> None:
    """Else the other would resume it in the middle of this one."""
    writer.box.pause()
    before = metadata(writer.source / "d0")
    about = About(kind="repair", host="", started=0.0, roots=())
    with Store(str(folder / "state")).begin(about) as other:
        other.hold([(writer.box.id, writer.box.name)])
        done = run(*to(writer))
        assert done.status == 3
        assert f"container {writer.box.name} stands still for another repair" in done.err
        assert metadata(writer.source / "d0") == before
    assert run(*to(writer)).status == 0


def test_who_is_paused_by_somebody_else_meanwhile_stays_so(
    writer: Writer, dockerd: Engine, folder: Path
) -> None:
    users = users_of((client(dockerd),), (os.fsencode(writer.source),))
    assert [u.must_pause for u in users] == [True]
    writer.box.pause()
    about = About(kind="repair", host="", started=0.0, roots=())
    with Store(str(folder / "state")).begin(about) as journal:
        while_paused(journal, users, Standstill(), lambda: None)
    assert writer.paused


def test_who_uses_a_tree_whatever_it_is_called(lab: Lab, dockerd: Engine, boxes: list[Box]) -> None:
    """By symlink, by a place above, by a place below, by a volume that is a bind; and who not."""
    top = lab.directory()
    source = top / "tree"
    (source / "below").mkdir(parents=True)
    (top / "link").symlink_to(source)
    options = ("type=none", "o=bind", f"device={source}")
    dockerd.docker("volume", "create", *(w for o in options for w in ("-o", o)), "bound")
    mounts = {
        "exact": f"{source}:/m",
        "link": f"{top}/link:/m",
        "above": f"{top}:/m",
        "below": f"{source}/below:/m",
        "volume": "bound:/m",
        "reads": f"{source}:/m:ro",
        "beside": f"{lab.directory()}:/m",
    }
    for name, mount in mounts.items():
        boxes.append(dockerd.run("-v", mount, name=f"uses-{name}"))
    found = users_of((client(dockerd),), (os.fsencode(source),))
    assert {u.name.removeprefix("uses-"): u.must_pause for u in found} == {
        **dict.fromkeys(("exact", "link", "above", "below", "volume"), True),
        "reads": False,
    }
    dockerd.docker("rm", "-f", boxes.pop(4).id)
    dockerd.docker("volume", "rm", "bound")


def test_an_undo_reaches_what_is_written_all_the_time(writer: Writer, run: Run) -> None:
    """While it is planned the log is never at rest; when everybody stands still it is."""
    os.chown(writer.source / "log", 0, 0)
    writer.box.pause()
    assert run(*to(writer)).status == 0
    writer.box.engine.docker("unpause", writer.box.id)
    assert (writer.source / "log").stat().st_uid == 1001
    assert writer.grows()
    done = run("undo", "--last", "--yes")
    assert done.status == 0, done.out
    assert (writer.source / "log").stat().st_uid == 0


# -- interrupted -----------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from permdoctor.repair import journal
marks, real = [], journal.Journal.mark
def mark(self, *args):
    real(self, *args)
    marks.append(args)
    if len(marks) == 3:
        os.kill(os.getpid(), signal.{signal})
journal.Journal.mark = mark
from permdoctor.cli import main
sys.exit(main(sys.argv[1:]))
"""


def interrupted(name: str, *args: str) -> Done:
    """permdoctor as a process that is sent a signal after three blocks of its plan."""
    argv = [sys.executable, "-c", CHILD.format(signal=name), *args]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_kill_9_is_found_by_the_next_command(writer: Writer, run: Run, folder: Path) -> None:
    before = metadata(writer.source / "d0"), metadata(writer.source / "d7")
    done = interrupted("SIGKILL", *to(writer))
    assert done.returncode == -signal.SIGKILL
    assert writer.paused
    assert not writer.grows(0.25)
    (id_,) = os.listdir(folder / "state" / "journal")
    told = run("codes", "PD101")
    assert told.status == 0
    assert f"repair {id_} of {writer.source} was interrupted" in told.one_line
    assert f"resumed {writer.box.name}" in told.err
    assert f"hint: permdoctor undo {id_}" in told.err
    assert not writer.paused
    assert writer.grows()
    assert run("codes", "PD101").err == "", "it is told once"
    assert " interrupted " in run("history").out
    owners = {p.stat().st_uid for p in writer.source.glob("d*/*")}
    assert owners == {0, 1001}, "it was half done"
    assert run("undo", "--last", "--yes").status == 0
    assert (metadata(writer.source / "d0"), metadata(writer.source / "d7")) == before
    assert {p.stat().st_uid for p in writer.source.rglob("*")} == {0}


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_it_in_order(name: str, status: int, writer: Writer, run: Run) -> None:
    done = interrupted(name, *to(writer))
    assert done.returncode == status
    assert "stopped: interrupted" in done.stdout
    assert f"resumed: {writer.box.name}" in done.stdout
    assert "permdoctor undo " in done.stdout
    assert not writer.paused
    assert run("codes", "PD101").err == "", "nothing is left to be told"
    undone = run("undo", "--last", "--yes")
    assert undone.status == 0, undone.out
    assert {p.stat().st_uid for p in writer.source.rglob("*")} == {0}


def test_what_cannot_be_resumed_is_told_again(
    writer: Writer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted("SIGKILL", *to(writer))

    def unpause(self: DockerEngine, id_: str) -> bool:
        raise CannotCheckError("the engine is down")

    with monkeypatch.context() as broken_engine:
        broken_engine.setattr(DockerEngine, "unpause", unpause)
        told = run("codes", "PD101")
    assert f"{writer.box.name} is STILL PAUSED: the engine is down" in told.one_line
    assert f"docker unpause {writer.box.id[:12]}" in told.err
    assert f"resumed {writer.box.name}" in run("codes", "PD101").err
    assert writer.grows()


# -- everybody else --------------------------------------------------------------------------


def test_a_repair_that_takes_from_somebody_says_so(
    lab: Lab, dockerd: Engine, run: Run, boxes: list[Box]
) -> None:
    """By name only, and then the exit status tells."""
    source = lab.directory(2002, 2002, 0o700)
    boxes.append(dockerd.run("-u", "2002:2002", "-v", f"{source}:/m", name="has-it"))
    box = dockerd.run("-u", "1001:1001", "-v", f"{source}:/m", name="wants-it")
    boxes.append(box)
    shown = run("fix", box.name, "--remedy", "chown-directory")
    assert "has-it" in shown.out
    assert "loses" in shown.out
    done = run(
        *("fix", box.name, "--remedy", "chown-directory"),
        *("--apply", "--yes", "--allow", str(source)),
    )
    assert done.status == 1
    assert "wants-it: checked again: the problem is gone" in done.out
    assert "has-it: 1 new problem" in done.out
    assert run("undo", "--last", "--yes").status == 0
    assert boxes[0].sh("touch /m/x").ok


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("fix", "trai"), {"trainer"}),
        (("fix", "trainer", "--mount", "/"), {"/app/model"}),
        (("fix", "trainer", "--remedy", "chown-"), {"chown-directory"}),
        (("fix", "--path", "/x", "--for", "trai"), {"trainer"}),
    ],
)
@pytest.mark.usefixtures("trainer")
def test_completion(
    words: tuple[str, ...],
    offered: set[str],
    dockerd: Engine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from permdoctor.cli import complete, main

    monkeypatch.setattr(complete, "PATIENCE_SECONDS", 20.0)
    monkeypatch.setenv("_PERMDOCTOR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(("permdoctor", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("DOCKER_HOST", dockerd.host)
    with pytest.raises(SystemExit):
        main([])
    lines = filter(None, capsys.readouterr().out.splitlines())
    assert {each.split(",", 1)[1] for each in lines} == offered
