"""The probe against what is known, and against the model."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from permdoctor.container.subject import Basis, Subject
from permdoctor.host import probe as probing
from permdoctor.host.probe import Ask, Request, probe
from permdoctor.host.subjects import subjects_of
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Kgid, Kuid
from tests.host.cell import MS_BIND, MS_NOEXEC, MS_RDONLY, MS_REMOUNT, cell, mount

REMAPPED = [(0, 100000, 65536)]


def scene(box: Path) -> None:
    """Things of host ids 100000 + n and of n, by name."""
    for name, uid, mode in (
        ("mine", 101000, 0o700),
        ("roots", 0, 0o700),
        ("open", 0, 0o755),
        ("plain", 1000, 0o750),
    ):
        (box / name).mkdir()
        (box / name / "file").write_text("")
        (box / name / "file").chmod(0o640)
        for path in (box / name, box / name / "file"):
            os.chown(path, uid, uid)
        (box / name).chmod(mode)
    (box / "out").symlink_to("/mine/file")
    (box / "ro").mkdir()
    (box / "ro").chmod(0o777)
    (box / "noexec").mkdir()
    (box / "noexec/tool").touch(mode=0o755)


def mounts(box: Path) -> None:
    for name, flags in (("ro", MS_RDONLY), ("noexec", MS_NOEXEC)):
        mount(str(box / name), str(box / name), flags=MS_BIND)
        mount("", str(box / name), flags=MS_BIND | MS_REMOUNT | flags)


def asked(pid: int, subject: Subject, *questions: tuple[bytes, Ask]) -> list[str]:
    answers = probe(pid, subject, [Request(path=p, want=w) for p, w in questions])
    assert [(a.path, a.want) for a in answers] == [(p, w) for p, w in questions]
    assert all(a.observed for a in answers), answers
    return [a.observed for a in answers]


QUESTIONS = [
    (b"/mine/file", Ask.READ),
    (b"/mine/file", Ask.WRITE),
    (b"/mine/file", Ask.EXECUTE),
    (b"/mine", Ask.CREATE),
    (b"/mine", Ask.DELETE),
    (b"/mine", Ask.LIST),
    (b"/roots", Ask.TRAVERSE),
    (b"/roots/file", Ask.READ),
    (b"/open", Ask.LIST),
    (b"/open", Ask.CREATE),
    (b"/plain", Ask.LIST),
    (b"/out", Ask.READ),
    (b"/nothing", Ask.READ),
    (b"/noexec/tool", Ask.EXECUTE),
    (b"/noexec/tool", Ask.READ),
    (b"/ro", Ask.CREATE),
]
NO, OK, RO = "EACCES", "ok", "EROFS"


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        pytest.param(
            {"uid": 1000, "gid": 1000, "uids": REMAPPED},
            [OK, OK, NO, OK, OK, OK, NO, NO, OK, NO, NO, OK, "ENOENT", NO, OK, RO],
            id="user in a namespace",
        ),
        pytest.param(
            {"uids": REMAPPED},
            [OK, OK, NO, OK, OK, OK, NO, NO, OK, NO, NO, OK, "ENOENT", NO, OK, RO],
            id="root in a namespace has no power over unmapped owners",
        ),
        pytest.param(
            {"uids": REMAPPED, "caps": 0},
            [NO, NO, NO, NO, NO, NO, NO, NO, OK, NO, NO, NO, "ENOENT", NO, OK, RO],
            id="root in a namespace without capabilities",
        ),
        pytest.param(
            {},
            [OK, OK, NO, OK, OK, OK, OK, OK, OK, OK, OK, OK, "ENOENT", NO, OK, RO],
            id="root",
        ),
        pytest.param(
            {"caps": 0},
            [NO, NO, NO, NO, NO, NO, OK, OK, OK, OK, NO, NO, "ENOENT", NO, OK, RO],
            id="root with cap_drop ALL",
        ),
        pytest.param(
            {"uid": 5, "gid": 5, "groups": [1000], "caps": int(Cap.DAC_READ_SEARCH)},
            [OK, NO, NO, NO, NO, OK, OK, OK, OK, NO, OK, OK, "ENOENT", NO, OK, RO],
            id="a capability and a group",
        ),
    ],
)
def test_the_kernels_word(box: Path, who: dict[str, object], expected: list[str]) -> None:
    scene(box)
    with cell(box, setup=lambda: mounts(box), **who) as pid:  # type: ignore[arg-type]
        (subject,), _ = subjects_of([pid])
        assert asked(pid, subject, *QUESTIONS) == expected


def test_another_subject_than_the_process(box: Path) -> None:
    scene(box)
    with cell(box) as pid:
        cred = Cred(fsuid=Kuid(1000), fsgid=Kgid(5), groups=frozenset((Kgid(7),)))
        subject = Subject(cred=cred, basis=Basis.PREDICTED)
        assert asked(pid, subject, (b"/plain", Ask.LIST), (b"/roots", Ask.LIST)) == [OK, NO]


def test_nothing_changes_and_we_stay_who_we_are(box: Path) -> None:
    scene(box)
    before = os.getresuid(), os.getgroups(), os.readlink("/proc/self/ns/mnt")
    with cell(box, uids=REMAPPED) as pid:
        (subject,), _ = subjects_of([pid])
        stats = [os.lstat(p) for p in sorted(box.rglob("*"))]
        asked(pid, subject, *QUESTIONS)
        after = [os.lstat(p) for p in sorted(box.rglob("*"))]
    assert [s.st_ctime_ns for s in stats] == [s.st_ctime_ns for s in after]
    assert before == (os.getresuid(), os.getgroups(), os.readlink("/proc/self/ns/mnt"))


def test_owning_is_not_asked(box: Path) -> None:
    with cell(box) as pid:
        (subject,), _ = subjects_of([pid])
        (answer,) = probe(pid, subject, [Request(path=b"/", want="own")])
    assert answer.observed == ""
    assert "without changing" in answer.note


def notes(pid: int, subject: Subject, **options: float) -> str:
    (answer,) = probe(pid, subject, [Request(path=b"/", want="read")], **options)  # type: ignore[arg-type]
    assert answer.observed == ""
    return answer.note


def test_what_could_not_be_asked_says_why(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cell(box, uids=REMAPPED) as pid:
        (subject,), _ = subjects_of([pid])
        outside = replace(subject, cred=replace(subject.cred, fsuid=Kuid(5)))
        stray = replace(subject, cred=replace(subject.cred, groups=frozenset((Kgid(5),))))
        assert "no place in its user namespace" in notes(pid, outside)
        assert "no place in its user namespace" in notes(pid, stray)
        host = Subject(cred=Cred(fsuid=Kuid(0), fsgid=Kgid(0)), basis=Basis.PREDICTED)
        assert "another user namespace" in notes(pid, host)
        assert "belongs to another process" in notes(pid, subject, start=1)
        monkeypatch.setattr(probing, "_become", lambda *_: signal.pause())
        assert "no answer within its deadline" in notes(pid, subject, seconds=0.2)
        monkeypatch.undo()
    assert "is gone" in notes(pid, subject)


def test_the_child_is_no_more_than_the_subject(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from outside while it asks: ids, capabilities, no new privileges, not traceable."""
    reader, writer = os.pipe()
    real = probing.syscalls.faccessat2

    def watched(path: bytes, mode: int) -> int:
        os.kill(os.getpid(), signal.SIGSTOP)
        return real(path, mode)

    monkeypatch.setattr(probing.syscalls, "faccessat2", watched)
    fork = os.fork

    def remembered() -> int:
        child = fork()
        if child:
            os.write(writer, b"%d " % child)
        return child

    monkeypatch.setattr(os, "fork", remembered)
    with cell(box, uid=1000, gid=1000, uids=REMAPPED) as pid:
        (subject,), _ = subjects_of([pid])
        watcher = fork()
        if not watcher:
            probe(pid, subject, [Request(path=b"/", want="read")], seconds=5)
            os._exit(0)
        said = b""
        while said.count(b" ") < 2:  # the cell's own, and the probe's
            said += os.read(reader, 100)
        child = int(said.split()[1])
        deadline = time.monotonic() + 60
        while ") T" not in Path(f"/proc/{child}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines()
        )
        files = len(os.listdir(f"/proc/{child}/fd"))
        dumpable = os.stat(f"/proc/{child}/environ").st_uid
        os.kill(child, signal.SIGKILL)
        os.waitpid(watcher, 0)
    assert status["Uid"].split() == ["101000"] * 4
    assert status["CapEff"] == status["CapPrm"] == status["CapInh"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert files == 4, "stdin, stdout, stderr and the pipe"
    assert dumpable == 0
    os.close(reader)
    os.close(writer)
