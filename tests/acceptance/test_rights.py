"""With fewer rights, and with filesystems that do not answer: honest, never confident, no crash."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from permdoctor.app.check import CheckRequest, check
from permdoctor.app.collect import Collector, Options
from permdoctor.app.demo import demo
from permdoctor.config import Check, Config
from permdoctor.diagnosis.report import CheckResult, Report, Severity
from permdoctor.errors import PermdoctorError
from permdoctor.host import syscalls
from permdoctor.host.procfs import ProcessGone, read_status
from permdoctor.host.subjects import MOST_SUBJECTS, subjects_of
from tests.lab.engine import Engine
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.patience import until
from tests.lab.silent import silent_fuse

T = TypeVar("T")


def as_user(uid: int, gid: int, do: Callable[[], T]) -> T:
    """What ``do`` returns, or raises, as an ordinary user."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # as it is after an execve
            answer: object = do()
        except BaseException as e:
            answer = e
        with os.fdopen(write, "wb") as f:
            pickle.dump(answer, f)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        result = pickle.load(f)
    os.waitpid(pid, 0)
    if isinstance(result, BaseException):
        raise result
    return result  # type: ignore[no-any-return]


def codes(report: Report) -> list[str]:
    return [f.code for f in report.findings if f.severity > Severity.INFO]


@pytest.mark.engine
def test_an_ordinary_user_of_the_engine_gets_no_confident_answer(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(4242, 4242, 0o755)
    group = os.stat(dockerd.socket).st_gid
    box = dockerd.run("-u", "4242:4242", "-v", f"{source}:/data")
    try:
        request = CheckRequest(names=(box.name,), hosts=(dockerd.host,))
        result: CheckResult = as_user(5000, group, lambda: check(request))
    finally:
        box.rm()
    (report,) = result.reports
    assert codes(report) == []
    assert report.judged is False
    assert result.exit_status(Severity.ERROR) == 3
    assert report.subjects[0].cred.fsuid == 4242
    assert report.mounts[0].owner == "4242:4242"
    missing = [s for s in report.skipped if "view" in s.what or "mounts" in s.what]
    assert missing
    assert all("root" in s.hint for s in missing)


@pytest.mark.engine
def test_what_is_certain_is_said_without_root(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(0, 0, 0o755)
    group = os.stat(dockerd.socket).st_gid
    box = dockerd.run("-u", "4242:4242", "-v", f"{source}:/data")
    try:
        request = CheckRequest(names=(box.name,), hosts=(dockerd.host,))
        result: CheckResult = as_user(5000, group, lambda: check(request))
    finally:
        box.rm()
    assert codes(result.reports[0]) == ["PD101"]
    assert result.exit_status(Severity.ERROR) == 1


@pytest.mark.engine
def test_a_socket_that_is_not_permitted(lab: Lab, dockerd: Engine) -> None:
    request = CheckRequest(names=("any",), hosts=(dockerd.host,))
    with pytest.raises(PermdoctorError, match="ermi") as e:
        as_user(5000, 5000, lambda: check(request))
    assert e.value.hint
    assert e.value.exit_status == 3


@pytest.mark.engine
@pytest.mark.parametrize("deep", [False, True], ids=["budget", "deep"])
def test_a_mount_that_does_not_answer_does_not_stop_the_others(
    lab: Lab, dockerd: Engine, deep: bool
) -> None:
    """The dead one comes while the container runs: the engine itself would hang at its start."""
    outer, alive = lab.directory(), lab.directory(0, 0, 0o755)
    (outer / "dead").mkdir()
    options = ("-v", f"{outer}:/outer:ro,rslave", "-v", f"{alive}:/quick")
    box = dockerd.run("-u", "1001:1001", *options)
    try:
        with silent_fuse(str(outer / "dead")):
            config = Config(check=Check(deadline_seconds=4, budget_seconds=30))
            request = CheckRequest(
                names=(box.name,), hosts=(dockerd.host,), config=config, deep=deep
            )
            report = check(request).reports[0]
    except MissingError as e:
        pytest.skip(str(e))
    finally:
        box.rm()
    assert codes(report) == ["PD101"]
    assert report.findings[0].target == b"/quick"
    assert report.judged is False
    silent = [s for s in report.skipped if "no answer within" in s.reason]
    assert [s for s in silent if "/outer/dead" in s.what]
    (tree,) = [m.coverage for m in report.mounts if m.target == b"/outer"]
    assert tree is not None
    assert (tree.foreign_mounts, tree.stopped) == (1, "")


def test_the_demo_finds_its_fault_and_leaves_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = lab.directory()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    report = demo().reports[0]
    assert codes(report) == ["PD101"]
    assert [p.agrees for p in report.probes] == [True] * len(report.probes)
    assert report.findings[0].remedies[0].name == "chown-directory"
    assert report.container.mounts[0].source.startswith(os.fsencode(directory))
    assert not os.listdir(directory)


def test_the_demo_as_an_ordinary_user_with_one_id(lab: Lab) -> None:
    """uid 5000 has no range in /etc/subuid: the directory is its own and closed by its mode."""
    result: CheckResult = as_user(5000, 5000, demo)
    (report,) = result.reports
    assert codes(report) == ["PD101"]
    assert report.findings[0].remedies[0].name == "chmod-owner"
    assert (report.subjects[0].uid, report.subjects[0].cred.fsuid) == (1001, 5000)
    assert "/etc/subuid" in report.skipped[-1].reason


def test_the_demo_as_an_ordinary_user_with_a_range(lab: Lab, subids_of_5000: None) -> None:
    result: CheckResult = as_user(5000, 5000, demo)
    (report,) = result.reports
    assert codes(report) == ["PD101"]
    assert (report.subjects[0].uid, report.subjects[0].cred.fsuid) == (1001, 701000)
    assert report.findings[0].remedies[0].name == "acl-user"


@pytest.fixture
def subids_of_5000(lab: Lab) -> Iterator[None]:
    """A line for 5000 in subuid and subgid, as newuidmap sees them, for this test only."""
    mounted = []
    for name in ("subuid", "subgid"):
        own = lab.root / f"{name}-5000"
        own.write_text("5000:700000:65536\n")
        target = f"/etc/{name}"
        if not os.path.exists(target):
            Path(target).touch()
        subprocess.run(["mount", "--bind", own, target], check=True)
        mounted.append(target)
    passwd = lab.root / "passwd-5000"
    passwd.write_text(Path("/etc/passwd").read_text() + "five:x:5000:5000::/:/bin/sh\n")
    subprocess.run(["mount", "--bind", passwd, "/etc/passwd"], check=True)
    try:
        yield
    finally:
        for target in (*mounted, "/etc/passwd"):
            subprocess.run(["umount", "-l", target], check=True)  # others read it too


@pytest.mark.engine
def test_a_passwd_that_leads_into_proc_is_not_read(lab: Lab, dockerd: Engine) -> None:
    """Reading /proc/kmsg would take the host's kernel log away."""
    box = dockerd.run("-u", "0:0")
    try:
        assert box.sh("rm /etc/passwd && ln -s /proc/kmsg /etc/passwd").ok
        request = CheckRequest(names=(box.name,), hosts=(dockerd.host,))
        reports = [check(request).reports[0] for _ in range(2)]
    finally:
        box.rm()
    assert [r.subjects[0].inside_user for r in reports] == ["", ""]


@pytest.mark.engine
def test_a_process_with_mounts_of_its_own_is_named(lab: Lab, dockerd: Engine) -> None:
    command = ("sh", "-c", "unshare -m sleep 600 & exec sleep 600")
    box = dockerd.run("--cap-add", "SYS_ADMIN", command=command)
    try:
        report = check(CheckRequest(names=(box.name,), hosts=(dockerd.host,))).reports[0]
    finally:
        box.rm()
    assert [s for s in report.skipped if "a mount namespace of its own" in s.reason]


def test_more_credentials_than_anybody_needs_are_not_all_judged() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root")
    pids = []
    for uid in range(300_000, 300_000 + MOST_SUBJECTS + 6):
        pid = os.fork()
        if pid == 0:
            os.setresuid(uid, uid, uid)
            signal.pause()
        pids.append(pid)
    try:
        wait_until_all_have_changed(pids)
        found, skipped = subjects_of(pids, names=False)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert len(found) == MOST_SUBJECTS
    assert [s.what for s in skipped] == ["6 processes"]


def wait_until_all_have_changed(pids: list[int]) -> None:
    until(lambda: all(read_status(p).fsuid >= 300_000 for p in pids), every=0.01)


@pytest.mark.engine
def test_a_pid_that_is_another_containers_is_not_believed(lab: Lab, dockerd: Engine) -> None:
    """As after a restart between inspect and the first look at /proc."""
    box = dockerd.run()
    try:
        request = CheckRequest(pid=(box.pid(),))
        (report,) = check(request).reports
        stale = replace(report.container, id="a" * 64)
        with Collector(Options()) as collector, pytest.raises(ProcessGone, match="any more"):
            collector.facts(None, stale)
    finally:
        box.rm()
