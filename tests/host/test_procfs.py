"""Processes, namespaces and the membership of a container, read from real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from permdoctor.errors import CannotCheckError
from permdoctor.host import members, procfs
from permdoctor.host.process import Proc
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.ids import INITIAL, Extent
from tests.host.cell import cell

MAP = [(0, 100000, 1000), (2000, 300000, 10)]
GONE = 4_194_305  # above PID_MAX_LIMIT


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def test_credentials_and_namespace_of_a_cell(box: Path) -> None:
    with cell(box, uid=5, gid=6, groups=[7, 2003], caps=Cap.DAC_OVERRIDE, uids=MAP) as pid:
        status, userns = procfs.read_status(pid), procfs.read_userns(pid)
        assert (status.fsuid, status.fsgid) == (100005, 100006)
        assert status.groups == {100007, 300003}
        assert status.effective == Cap.DAC_OVERRIDE
        assert userns.uids.extents == (
            Extent(inside=0, outside=100000, count=1000),
            Extent(inside=2000, outside=300000, count=10),
        )
        assert userns.inum == os.stat(f"/proc/{pid}/ns/user").st_ino
        assert userns.parent == INITIAL
        assert userns.owner == os.geteuid()


def test_our_own_namespace_is_the_initial_one() -> None:
    assert procfs.read_userns(os.getpid()) == INITIAL


def test_a_namespace_in_a_namespace_has_its_parent(box: Path) -> None:
    def nest() -> None:
        ready, there = os.pipe()
        if not os.fork():
            from permdoctor.host import syscalls

            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(there, b"x")
            signal.pause()
        os.read(ready, 1)

    with cell(box, uids=MAP, setup=nest) as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        inner = procfs.read_userns(int(children[0]))
        outer = procfs.read_userns(pid)
        os.kill(int(children[0]), signal.SIGKILL)
    assert inner.inum != outer.inum
    assert inner.parent == outer
    assert inner.owner == 100000


@pytest.mark.parametrize(
    "read",
    [
        procfs.read_status,
        procfs.read_userns,
        procfs.read_mountinfo,
        procfs.read_attr,
        procfs.start_time,
        procfs.processes_of,
    ],
)
def test_a_pid_that_is_gone(read: object) -> None:
    assert callable(read)
    with pytest.raises(procfs.ProcessGone):
        read(GONE)


def test_dying_between_two_reads() -> None:
    process = sleeper()
    with Proc(process.pid) as proc:
        process.kill()
        process.wait()
        with pytest.raises(procfs.ProcessGone):
            proc.status()


def test_a_zombie_has_no_credentials() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with Proc(pid) as proc:
            assert not proc.stat.has_credentials
    finally:
        os.waitpid(pid, 0)


def test_a_reused_pid_is_another_process() -> None:
    process = sleeper()
    try:
        start = procfs.start_time(process.pid)
        with Proc(process.pid, start) as proc:
            assert proc.start == start
        with pytest.raises(procfs.ProcessGone, match="belongs to another"):
            Proc(process.pid, start - 1)
    finally:
        process.kill()
        process.wait()


def test_a_name_with_parentheses_and_spaces() -> None:
    evil = b"a) S 1 (b\n"
    program = f"import time; open('/proc/self/comm','wb').write({evil!r}); print(flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}; time.sleep(60)"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        status = procfs.read_status(process.pid)
        assert status.comm == evil.rstrip(b"\n") or status.comm == evil
        assert status.ppid == os.getpid()
        ticks = os.sysconf("SC_CLK_TCK")
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        assert abs(procfs.start_time(process.pid) / ticks - uptime) < 30
    finally:
        process.kill()
        process.communicate()


def test_sysctls_are_those_of_the_kernel() -> None:
    read = procfs.read_sysctls()
    text = Path("/proc/sys/fs/protected_symlinks").read_text()
    assert read.protected_symlinks == int(text)


def forking(count: int) -> None:
    """Children of a cell that outlive nothing: they sleep."""
    for _ in range(count):
        if not os.fork():
            time.sleep(60)
            os._exit(0)


def test_members_by_pid_namespace(box: Path) -> None:
    with (
        cell(box, pid_ns=True, inside=lambda: forking(3)) as pid,
        cell(box, pid_ns=True, inside=lambda: forking(2)) as other,
    ):
        found = procfs.processes_of(pid)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert found == tuple(sorted([pid, *map(int, children)]))
        assert len(found) == 4
        assert len(procfs.processes_of(other)) == 3
        assert os.getpid() not in found


def test_a_process_of_the_host_is_alone() -> None:
    process = sleeper()
    try:
        assert procfs.processes_of(process.pid) == (process.pid,)
    finally:
        process.kill()
        process.wait()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_census_believes_who_stayed_and_reads_who_is_new(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    clock, place_of = Clock(), members._place_of

    def counted(pid: int, cgroups: dict[bytes, dict[bytes, bytes]]) -> members._Place | None:
        read.append(pid)
        return place_of(pid, cgroups)

    def taken(at: float) -> bool:
        """Whether we ourselves were read again."""
        clock.now = at
        read.clear()
        census.take()
        return os.getpid() in read

    monkeypatch.setattr(members, "_place_of", counted)
    monkeypatch.setattr(members, "time", clock)
    census = procfs.Census()
    assert [taken(at) for at in (100.0, 100.9, 101.1, 101.2, 111.0)] == [True] * 3 + [False] * 2
    with cell(box, pid_ns=True, inside=lambda: forking(1)) as pid:
        clock.now = 111.05
        found = procfs.processes_of(pid, census.take())
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        assert found == tuple(sorted([pid, child]))
    assert taken(111.2)


def test_what_a_census_believes_is_read_again_before_it_counts(box: Path) -> None:
    host = sleeper()
    try:
        with cell(box, pid_ns=True, inside=lambda: forking(1)) as pid:
            places = dict(procfs.Census().take())
            places[host.pid] = places[pid]  # the number of one that was in the container
            assert host.pid not in procfs.processes_of(pid, tuple(places.items()))
            assert len(procfs.processes_of(pid, tuple(places.items()))) == 2
    finally:
        host.kill()
        host.wait()


def own_cgroup(name: str) -> Path | None:
    """A fresh cgroup, in whichever hierarchy lets us."""
    for base in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"):
        path = Path(base, name)
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / "cgroup.procs").exists():
            return path
        path.rmdir()
    return None


def test_members_by_cgroup_with_the_hosts_pid_namespace(box: Path) -> None:
    cgroup = own_cgroup(f"permdoctor-test-{os.getpid()}")
    if cgroup is None:
        pytest.skip("needs a writable cgroup hierarchy")
    below = cgroup / "below"
    below.mkdir()
    try:
        with cell(box, inside=lambda: forking(1)) as pid, cell(box) as second, cell(box) as alien:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for member, where in ((pid, cgroup), (int(children[0]), cgroup), (second, below)):
                (where / "cgroup.procs").write_text(str(member))
            assert procfs.processes_of(pid) == tuple(sorted([pid, int(children[0]), second]))
            assert procfs.processes_of(alien) == (alien,)
            host = sleeper()
            try:  # a cgroup that it shares with a process of the host is not the container's own
                (cgroup / "cgroup.procs").write_text(str(host.pid))
                assert procfs.processes_of(pid) == (pid,)
            finally:
                host.kill()
                host.wait()
            os.kill(int(children[0]), signal.SIGKILL)
    finally:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                below.rmdir()
                cgroup.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)


def test_without_rights_the_reason_is_told(box: Path) -> None:
    with cell(box) as pid:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                said = []
                try:
                    Proc(pid).open("root", os.O_PATH)
                except CannotCheckError as e:
                    said.append(type(e).__name__)
                said.append(procfs.read_userns(pid).is_initial)
                said.append(pid in procfs.processes_of(pid))
                os.write(writer, repr(said).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        assert os.read(reader, 4096) == b"['NotPermitted', True, True]"
        os.close(reader)
