"""Who is judged and where: namespaces, stopped containers, exec sessions, every kind of mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from permdoctor.app.check import CheckRequest, check
from permdoctor.app.explain import explain
from permdoctor.container.subject import Basis
from permdoctor.diagnosis.report import MountReport, Report, Severity
from permdoctor.kernel.verdict import Errno
from tests.lab.engine import Box, Engine
from tests.lab.idmap import idmapped_bind
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.patience import until

pytestmark = pytest.mark.engine


@contextmanager
def gone_after(box: Box) -> Iterator[Box]:
    try:
        yield box
    finally:
        box.rm()


def report_of(box: Box, **more: object) -> Report:
    request = CheckRequest(names=(box.name,), hosts=(box.engine.host,), **more)  # type: ignore[arg-type]
    return check(request).reports[0]


def errors(report: Report) -> list[str]:
    return [f.code for f in report.findings if f.severity is Severity.ERROR]


def mount(report: Report, target: str) -> MountReport:
    return next(m for m in report.mounts if m.target == target.encode())


# --- user namespaces ---


@pytest.mark.parametrize(
    ("user", "host"),
    [pytest.param("1000:1000", 166536, id="1000"), pytest.param("0:0", 165536, id="root")],
)
def test_userns_remap_shows_both_numbers(
    lab: Lab, dockerd_remap: Engine, user: str, host: int
) -> None:
    source = lab.directory(5000, 5000, 0o700)
    with gone_after(dockerd_remap.run("-u", user, "-v", f"{source}:/data")) as box:
        report = report_of(box, probe=True)
        assert box.sh("ls /data").ok is False
    assert errors(report) == ["PD105"]
    assert report.subjects[0].cred.fsuid == host
    assert f"(host {host}:{host})" in report.findings[0].title
    names = [r.name for r in report.findings[0].remedies]
    assert names[0] == "acl-user"
    assert names[-1] == "userns-host"
    assert f"u:{host}:rwx" in report.findings[0].remedies[0].commands[0]
    assert all(p.agrees for p in report.probes)


def test_the_acl_for_the_mapped_uid_is_enough(lab: Lab, dockerd_remap: Engine) -> None:
    source = lab.directory(5000, 5000, 0o700)
    with gone_after(dockerd_remap.run("-u", "1000:1000", "-v", f"{source}:/data")) as box:
        command = report_of(box).findings[0].remedies[0].commands[0]
        subprocess.run(["bash", "-c", command], check=True)
        assert errors(report_of(box)) == []
        assert box.sh("touch /data/new").ok


def test_several_extents(lab: Lab, dockerd_remap2: Engine) -> None:
    source = lab.directory(300000, 300000, 0o755)
    with gone_after(dockerd_remap2.run("-u", "1000:1000", "-v", f"{source}:/data")) as box:
        report = report_of(box)
        assert box.sh("touch /data/new").ok
    assert errors(report) == []
    assert report.subjects[0].cred.fsuid == 300000
    assert len(report.subjects[0].cred.userns.uids.extents) == 2


def test_userns_host_leaves_the_namespace(lab: Lab, dockerd_remap: Engine) -> None:
    source = lab.directory(1000, 1000, 0o755)
    options = ("--userns=host", "-u", "1000:1000", "-v", f"{source}:/data")
    with gone_after(dockerd_remap.run(*options)) as box:
        report = report_of(box)
        assert box.sh("touch /data/new").ok
    assert errors(report) == []
    assert report.subjects[0].cred.userns.is_initial


def test_rootless_is_off_by_one(lab: Lab, dockerd_rootless: Engine) -> None:
    source = lab.directory(1000, 1000, 0o755)
    with gone_after(dockerd_rootless.run("-u", "1000:1000", "-v", f"{source}:/data")) as box:
        report = report_of(box)
        assert box.sh("touch /data/new").ok is False
    assert errors(report) == ["PD101"]
    assert report.subjects[0].cred.fsuid == 100999
    assert report.findings[0].remedies[0].name == "run-as-container-root"
    with gone_after(dockerd_rootless.run("-v", f"{source}:/data")) as box:
        assert errors(report_of(box)) == []
        assert box.sh("touch /data/new").ok


@pytest.mark.parametrize("engine", ["dockerd", "dockerd_remap", "dockerd_remap2"])
def test_prediction_equals_the_running_truth(
    lab: Lab, engine: str, request: pytest.FixtureRequest
) -> None:
    daemon: Engine = request.getfixturevalue(engine)
    source = lab.directory(0, 0, 0o755)
    options = ("-u", "app", "--group-add", "44", "-v", f"{source}:/root/data:ro")
    with gone_after(daemon.create(*options)) as box:
        before = report_of(box)
        daemon.docker("start", box.id)
        after = report_of(box)
    assert (before.basis, after.basis) == (Basis.PREDICTED, Basis.LIVE)
    old, new = before.subjects[0].cred, after.subjects[0].cred
    assert (old.fsuid, old.fsgid, old.groups, old.effective) == (
        new.fsuid,
        new.fsgid,
        new.groups,
        new.effective,
    )
    assert errors(before) == errors(after) == ["PD103"]
    assert "PD304" in [f.code for f in before.findings]


# --- not running, and more than one process ---


def test_a_container_that_exits_and_restarts(lab: Lab, dockerd: Engine) -> None:
    """C3: Prometheus as nobody."""
    source = lab.directory(5000, 5000, 0o755)
    command = ("sh", "-c", "touch /prometheus/queries.active")
    options = ("-u", "65534:65534", "-v", f"{source}:/prometheus")
    with gone_after(dockerd.run(*options, command=command)) as box:
        assert box.wait() != 0
        report = report_of(box)
    assert report.basis is Basis.PREDICTED
    assert errors(report) == ["PD101"]
    assert report.findings[0].remedies[0].commands[0] == "docker run --user 5000:5000 ..."
    assert {"PD303", "PD304"} <= {f.code for f in report.findings}


def test_a_read_only_image_is_predicted_as_such(lab: Lab, dockerd: Engine) -> None:
    with gone_after(dockerd.create("--read-only", "-e", "HF_HOME=/cache")) as box:
        before = report_of(box)
        dockerd.docker("start", box.id)
        after = report_of(box)
    for report in (before, after):
        assert [f.code for f in report.findings if f.severity > Severity.INFO] == ["PD208"]
        assert report.findings[0].remedies[0].name == "tmpfs"


def test_a_container_that_could_not_start(lab: Lab, dockerd: Engine) -> None:
    box = dockerd.create("-u", "nosuch")
    with gone_after(box):
        dockerd.docker_process("start", box.id)
        report = report_of(box)
    assert errors(report) == ["PD115"]
    assert "passwd" in report.findings[0].detail[0]


def test_a_source_that_vanished_before_the_start(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(0, 0, 0o755)
    with gone_after(dockerd.create("-u", "1001:1001", "-v", f"{source}:/data")) as box:
        source.rmdir()
        report = report_of(box)
    assert errors(report) == ["PD114"]
    command = report.findings[0].remedies[0].commands[0]
    assert command == f"install -d -o 1001 -g 1001 -m 0755 {source}"


def test_exec_sessions_are_judged_too(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(1001, 1001, 0o755)
    with gone_after(dockerd.run("-u", "1001:1001", "-v", f"{source}:/data")) as box:
        box.exec_background("sleep", "600", user="999:999")
        until(lambda: len(report_of(box).subjects) == 2)
        report = report_of(box)
    intruder = next(s for s in report.subjects if s.cred.fsuid == 999)
    assert all(p.via_exec for p in intruder.processes)
    assert errors(report) == ["PD101"]


# --- kinds of mounts ---


def test_every_kind_of_mount_leads_to_its_place(lab: Lab, dockerd: Engine) -> None:
    real = lab.directory(1001, 1001, 0o755)
    link = real.parent / "link"
    link.symlink_to(real)
    (real / "nested").mkdir()
    os.chown(real / "nested", 1001, 1001)
    inner = lab.directory(0, 0, 0o755)
    bound = lab.directory(1001, 1001, 0o755)
    dockerd.docker(
        *("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={bound}", "bv")
    )
    options = (
        *("-u", "1001:1001", "-v", f"{link}:/linked", "-v", f"{real}:/outer"),
        *("-v", f"{inner}:/outer/nested:ro", "-v", "bv:/bv", "-v", "named:/named"),
    )
    with gone_after(dockerd.run(*options)) as box:
        report = report_of(box)
        truth = box.sh("touch /named/x").ok
    assert [m.target for m in report.mounts] == sorted(m.target for m in report.mounts)
    assert mount(report, "/linked").host_path == str(real).encode()
    assert mount(report, "/bv").host_path == str(bound).encode()
    assert mount(report, "/bv").volume == "bv"
    assert mount(report, "/outer/nested").host_path == str(inner).encode()
    assert mount(report, "/outer/nested").read_only
    assert truth is False
    assert errors(report) == ["PD101"]
    assert report.findings[0].target == b"/named"


def test_a_source_deleted_while_it_is_mounted(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(1001, 1001, 0o755)
    with gone_after(dockerd.run("-u", "1001:1001", "-v", f"{source}:/data")) as box:
        source.rmdir()
        report = report_of(box)
        done = box.sh("touch /data/new")
    assert [f.code for f in report.findings if f.severity > Severity.INFO] == ["PD114", "PD209"]
    assert report.findings[0].verdict is not None
    assert report.findings[0].verdict.errno is Errno.ENOENT
    assert "No such file" in done.stderr
    assert mount(report, "/data").deleted


def test_an_idmapped_mount_is_judged_by_what_it_shows(lab: Lab, dockerd: Engine) -> None:
    stored = Path(lab.fs("ext4")) / "idmapped"
    stored.mkdir(exist_ok=True)
    os.chown(stored, 5, 5)
    shown = lab.directory()
    try:
        with (
            idmapped_bind(str(stored), str(shown), [(0, 1000, 10)]),
            gone_after(dockerd.run("-u", "1005:1005", "-v", f"{shown}:/data")) as box,
        ):
            report = report_of(box, probe=True)
            assert box.sh("touch /data/new").ok
    except MissingError as e:
        pytest.skip(str(e))
    assert errors(report) == []
    assert mount(report, "/data").idmapped
    assert all(p.agrees for p in report.probes)
    assert (stored / "new").stat().st_uid == 5


def test_two_containers_and_one_directory(lab: Lab, dockerd: Engine) -> None:
    """C13: a chown for one takes it from the other, and the report says so."""
    source = lab.directory(999, 999, 0o755)
    with (
        gone_after(dockerd.run("-u", "999:999", "-v", f"{source}:/data", name="database")),
        gone_after(dockerd.run("-u", "1001:1001", "-v", f"{source}:/data")) as box,
    ):
        report = report_of(box)
    assert [f.code for f in report.findings if f.severity > Severity.INFO] == ["PD101", "PD207"]
    remedies = report.findings[0].remedies
    assert remedies[0].name == "shared-group"
    chown = next(r for r in remedies if r.name == "chown-directory")
    assert [i.who for i in chown.impacts if i.breaks and "database" in i.who]
    assert remedies.index(chown) > [r.name for r in remedies].index("acl-user")


# --- explain, and no engine ---


def test_explain_walks_to_the_refusal(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(1000, 1000, 0o755)
    (source / "hub").mkdir()
    with gone_after(dockerd.run("-u", "1001:1001", "-v", f"{source}:/root/.cache")) as box:
        said = explain(
            container=box.name, pid=None, path=b"/root/.cache/hub", hosts=(box.engine.host,)
        )
    assert [h.path for h in said.hops] == [b"/", b"/root", b"/root/.cache", b"/root/.cache/hub"]
    assert said.walks[0].errno is not None
    assert said.walks[0].errno.name == "EACCES"
    assert said.walks[0].steps[-1].about == "1"
    assert said.host_path == str(source / "hub").encode()


def test_a_pid_needs_no_engine(lab: Lab, dockerd: Engine) -> None:
    source = lab.directory(0, 0, 0o755)
    with gone_after(dockerd.run("-u", "1001:1001", "-v", f"{source}:/data")) as box:
        report = check(CheckRequest(pid=(box.pid(),))).reports[0]
        assert report.container.id == box.id
    assert errors(report) == ["PD101"]
    assert mount(report, "/data").host_path == str(source).encode()


def test_containers_that_vanish_while_all_are_checked(lab: Lab, dockerd: Engine) -> None:
    boxes = [dockerd.run("-v", f"{lab.directory()}:/data:ro") for _ in range(6)]
    remover = subprocess.Popen(
        ["docker", "-H", dockerd.host, "rm", "-f", *(b.id for b in boxes)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while remover.poll() is None:
            result = check(CheckRequest(all=True, hosts=(dockerd.host,)))
            for failed in result.failed:
                assert failed.reason
    finally:
        remover.wait()
        for box in boxes:
            box.rm()


@pytest.mark.parametrize(
    ("path", "want", "errno"),
    [
        pytest.param(b"/data/new", "write", None, id="a new file can be made"),
        pytest.param(b"/data/no/new", "write", "ENOENT", id="its parent is missing"),
        pytest.param(b"/data/new", "read", "ENOENT", id="nothing to read"),
        pytest.param(b"/data/file", "delete", None, id="own directory, own rules"),
        pytest.param(b"/data/file", "write", "EACCES", id="root's file"),
        pytest.param(b"/data/file", "own", "EPERM", id="not the owner"),
        pytest.param(b"/data/file", "execute", "EACCES", id="no x bit"),
        pytest.param(b"/data/link", "read", None, id="through a symlink of the container"),
        pytest.param(b"/data", "delete", "EBUSY", id="a mountpoint"),
        pytest.param(b"/theirs/dangling", "write", "EACCES", id="through a dangling link"),
    ],
)
def test_explain_gives_the_errno_of_the_process(
    lab: Lab, dockerd: Engine, path: bytes, want: str, errno: str | None
) -> None:
    source = lab.directory(1001, 1001, 0o755)
    (source / "file").write_bytes(b"x")
    (source / "link").symlink_to("/etc/passwd")
    theirs = lab.directory(0, 0, 0o755)
    (theirs / "dangling").symlink_to("new")
    options = ("-v", f"{source}:/data", "-v", f"{theirs}:/theirs")
    user = "0:0" if want == "delete" and path == b"/data" else "1001:1001"
    with gone_after(dockerd.run("-u", user, *options)) as box:
        said = explain(
            container=box.name, pid=None, path=path, wants=(want,), hosts=(box.engine.host,)
        )
    (operation,) = said.operations
    assert all(w.allowed for w in said.walks)
    assert (operation.verdict.errno and operation.verdict.errno.name) == errno


def test_several_engines_are_searched_in_order(
    lab: Lab, dockerd: Engine, dockerd_remap: Engine
) -> None:
    hosts = (dockerd.host, dockerd_remap.host)
    with (
        gone_after(dockerd.run("-v", f"{lab.directory()}:/data:ro", name="first")),
        gone_after(dockerd_remap.run("-v", f"{lab.directory()}:/data:ro", name="second")),
    ):
        both = check(CheckRequest(names=("second", "first"), hosts=hosts))
        every = check(CheckRequest(all=True, hosts=hosts))
    assert [r.container.engine.endpoint for r in both.reports] == [*reversed(hosts)]
    assert {"first", "second"} <= {r.container.name for r in every.reports}


def test_an_engine_that_is_down_does_not_hide_the_other(lab: Lab, dockerd: Engine) -> None:
    down = f"unix://{lab.root}/nobody.sock"
    with gone_after(dockerd.run("-v", f"{lab.directory()}:/data:ro", name="alive")):
        found = check(CheckRequest(names=("alive",), hosts=(down, dockerd.host)))
        every = check(CheckRequest(all=True, hosts=(down, dockerd.host)))
    assert [r.container.name for r in found.reports] == ["alive"]
    assert "alive" in {r.container.name for r in every.reports}
    assert [f for f in every.failed if "nobody.sock" in f.reason]
    assert every.exit_status(Severity.ERROR) == 3
