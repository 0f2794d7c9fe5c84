"""Whose credentials a container holds, from real processes and hostile name files."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from permdoctor.container.subject import Basis
from permdoctor.host import procfs
from permdoctor.host.subjects import subjects_of
from permdoctor.kernel.caps import Cap
from tests.host.cell import cell
from tests.lab.patience import within


def etc(box: Path) -> None:
    (box / "etc").mkdir()
    (box / "etc/passwd").write_text(
        "root:x:0:0::/:\napp:x:1000:1000::/:\nlater:x:1000:5::/:\nbad\n"
    )
    (box / "etc/group").write_text("root:x:0:\napps:x:1000:\n")


def as_others(*ids: int, children: int = 1) -> Callable[[], None]:
    """Children with these uids (and gids), asleep."""

    def make() -> None:
        for i in ids:
            for _ in range(children):
                if not os.fork():
                    os.setgroups([])
                    os.setresgid(i, i, i)
                    os.setresuid(i, i, i)
                    time.sleep(60)
                    os._exit(0)
        time.sleep(0.1)

    return make


def test_one_subject_for_each_credential_set(box: Path) -> None:
    etc(box)
    with cell(box, pid_ns=True, inside=as_others(1000, 999, children=2)) as pid:
        pids = procfs.processes_of(pid)
        subjects, skipped = subjects_of(pids)
    assert skipped == ()
    assert {s.uid: len(s.processes) for s in subjects} == {0: 1, 1000: 2, 999: 2}
    by_uid = {s.uid: s for s in subjects}
    root, app, unnamed = by_uid[0], by_uid[1000], by_uid[999]  # type: ignore[index]
    assert (root.inside_user, root.host_user) == ("root", "root")
    assert (app.inside_user, app.inside_group) == ("app", "apps")
    assert (unnamed.inside_user, unnamed.inside_group) == ("", "")
    assert root.processes[0].pid == pid
    assert root.processes[0].inside_pid == 1
    assert app.cred.effective == Cap.NONE
    assert Cap.DAC_OVERRIDE in root.cred.effective
    assert all(s.basis is Basis.LIVE for s in subjects)
    assert all(p.start > 0 and p.umask is not None for s in subjects for p in s.processes)
    assert sorted(p.pid for s in subjects for p in s.processes) == list(pids)


def test_names_are_those_of_the_ids_inside(box: Path) -> None:
    etc(box)
    with cell(box, uid=1000, gid=1000, uids=[(0, 100000, 65536)]) as pid:
        (subject,), _ = subjects_of([pid])
    assert (subject.cred.fsuid, subject.uid, subject.inside_user) == (101000, 1000, "app")
    assert subject.inside_group == "apps"
    assert subject.host_user == ""


def test_exec_sessions_and_their_children_are_marked(box: Path) -> None:
    etc(box)
    with cell(box, inside=as_others(1000)) as session, cell(box) as other:
        children = Path(f"/proc/{session}/task/{session}/children").read_text().split()
        subjects, _ = subjects_of([session, int(children[0]), other], [session])
        os.kill(int(children[0]), signal.SIGKILL)
    marked = {p.pid: p.via_exec for s in subjects for p in s.processes}
    assert marked == {session: True, int(children[0]): True, other: False}


def test_the_dead_and_the_kernel_are_left_out(box: Path) -> None:
    zombie = os.fork()
    if not zombie:
        os._exit(0)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    try:
        with cell(box) as pid:
            (subject,), skipped = subjects_of([pid, zombie, 2, 4_194_305])
    finally:
        os.waitpid(zombie, 0)
    assert [p.pid for p in subject.processes] == [pid]
    assert skipped == ()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def to_the_host(path: Path) -> None:
    path.symlink_to("/etc/passwd-of-the-host")


def loop(path: Path) -> None:
    path.symlink_to("passwd")


def huge(path: Path) -> None:
    with path.open("wb") as f:
        f.truncate(1 << 40)


def binary(path: Path) -> None:
    path.write_bytes(b"\x1b[2Jroot\xff:x:0:0\n:::\n" + b"a" * 100_000 + b":x:5\n" + b"::9" * 99)


@pytest.mark.parametrize("make", [fifo, to_the_host, loop, huge, binary, Path.mkdir])
def test_hostile_name_files(box: Path, make: Callable[[Path], None]) -> None:
    (box / "etc").mkdir()
    make(box / "etc/passwd")
    with cell(box) as pid, within(20):
        (subject,), _ = subjects_of([pid])
    assert subject.inside_user.isprintable()
    assert subject.inside_user == ("\\x1b[2Jroot\\xff" if make is binary else "")
