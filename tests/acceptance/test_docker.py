"""The acceptance cases as containers of a real Docker Engine.

Three things are asked of each: the codes, the best remedy, and the truth - what the model says of
every mount is *done* inside the container and must come out the same.  Where the best remedy is a
command for the host it is run, and the container must then be healthy.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from permdoctor.app.check import CheckRequest, check
from permdoctor.container.needs import Need
from permdoctor.diagnosis.report import Report, Severity
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab

pytestmark = pytest.mark.engine


@dataclass(frozen=True, kw_only=True)
class Case:
    """``scene`` makes the host's side and returns docker options (a ``{}`` is the source)."""

    id: str
    scene: Callable[[Lab], Path]
    options: tuple[str, ...]
    codes: tuple[str, ...] = ()
    best: str = ""
    target: str = ""
    needs: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    user: str = ""
    heals: bool = False
    subjects: int = 1


def directory(
    uid: int, gid: int, mode: int, *files: tuple[str, int, int, int]
) -> Callable[[Lab], Path]:
    def make(lab: Lab) -> Path:
        path = lab.directory(uid, gid, mode)
        for name, fuid, fgid, fmode in files:
            entry = path / name
            if name.endswith("/"):
                entry.mkdir()
            else:
                entry.write_bytes(b"x")
            os.chown(entry, fuid, fgid)
            os.chmod(entry, fmode)
        return path

    return make


def with_acl(uid: int, gid: int, mode: int, *acl: str) -> Callable[[Lab], Path]:
    def make(lab: Lab) -> Path:
        path = lab.directory(uid, gid, mode)
        for entry in acl:
            subprocess.run(["setfacl", "-m", entry, path], check=True)
        return path

    return make


def immutable(lab: Lab) -> Path:
    top = Path(lab.fs("ext4"))
    path = top / "immutable"
    path.mkdir(exist_ok=True)
    os.chown(path, 1000, 1000)
    subprocess.run(["chattr", "+i", path], check=True)
    return path


def engine_socket(lab: Lab) -> Path:
    path = lab.directory() / "docker.sock"
    with closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(str(path))
    os.chown(path, 0, 998)
    os.chmod(path, 0o660)
    return path


def node(lab: Lab) -> Path:
    path = lab.directory() / "renderD128"
    os.mknod(path, stat.S_IFCHR | 0o660, os.makedev(1, 3))
    os.chmod(path, 0o660)
    os.chown(path, 0, 44)
    return path


CASES = (
    Case(
        id="S1 a model served read-only",
        scene=directory(0, 0, 0o755, ("w.bin", 0, 0, 0o644)),
        options=("-u", "1001:1001", "-v", "{}:/home/model:ro"),
        target="/home/model",
    ),
    Case(
        id="S1a one weight file is 0600",
        scene=directory(0, 0, 0o755, ("w.bin", 0, 0, 0o600), ("ok.bin", 0, 0, 0o644)),
        options=("-u", "1001:1001", "-v", "{}:/home/model:ro"),
        codes=("PD111",),
        best="acl-entries",
        heals=True,
    ),
    Case(
        id="S1b a lock file beside the weights",
        scene=directory(1001, 1001, 0o755),
        options=("-u", "1001:1001", "-v", "{}:/home/model:ro"),
        needs=(("/home/model", "write"),),
        codes=("PD106",),
        best="move-cache",
        target="/home/model",
    ),
    Case(
        id="S1b the same from a variable",
        scene=directory(1001, 1001, 0o755),
        options=("-u", "1001:1001", "-e", "HF_HOME=/home/model/hf", "-v", "{}:/home/model:ro"),
        codes=("PD208",),
        best="move-cache",
    ),
    Case(
        id="S2 inside the image",
        scene=directory(0, 0, 0o755),
        options=("-u", "1001:1001", "-v", "{}:/unused:ro"),
        needs=(("/app/processing", "write"),),
        codes=("PD101",),
        best="dockerfile-chown",
    ),
    Case(
        id="S3 a cache that a variable names",
        scene=directory(1000, 1000, 0o755),
        options=("-u", "1000:1000", "-e", "TRANSFORMERS_CACHE=/hf", "-v", "{}:/data"),
        codes=("PD208",),
        best="set-variable",
        target="/data",
    ),
    Case(
        id="S3 what follows from HOME alone is quiet",
        scene=directory(4242, 4242, 0o755),
        options=("-u", "4242:4242", "-v", "{}:/data"),
        target="/data",
    ),
    Case(
        id="S4 save a model",
        scene=directory(0, 0, 0o755),
        options=("-u", "1001:1001", "-v", "{}:/app/model"),
        codes=("PD101",),
        best="chown-directory",
        target="/app/model",
        heals=True,
    ),
    Case(
        id="C1 label studio, group 0",
        scene=directory(0, 0, 0o755),
        options=("-u", "1003", "-v", "{}:/label-studio/data"),
        codes=("PD101",),
        best="chmod-group",
        target="/label-studio/data",
        heals=True,
    ),
    Case(
        id="C1 after alice's chown 1000:0",
        scene=directory(5000, 0, 0o755),
        options=("-u", "1003", "-v", "{}:/label-studio/data"),
        codes=("PD101",),
        best="chmod-group",
        target="/label-studio/data",
        heals=True,
    ),
    Case(
        id="C2 grafana's uid comes from the image",
        scene=directory(5000, 5000, 0o755),
        options=("-v", "{}:/var/lib/grafana"),
        changes=("USER 472",),
        codes=("PD101",),
        best="run-as-owner",
        target="/var/lib/grafana",
    ),
    Case(
        id="C4 jupyter",
        scene=directory(0, 0, 0o755),
        options=("-u", "1002:100", "-v", "{}:/home/jovyan/work"),
        codes=("PD101",),
        best="chown-directory",
        target="/home/jovyan/work",
        heals=True,
    ),
    Case(
        id="C5 airflow",
        scene=directory(0, 0, 0o755),
        options=("-u", "50000:0", "-e", "AIRFLOW_HOME=/opt/airflow", "-v", "{}:/opt/airflow/logs"),
        codes=("PD101",),
        best="chmod-group",
        target="/opt/airflow/logs",
        heals=True,
    ),
    Case(
        id="C6 postgres wants to own",
        scene=directory(0, 0, 0o777),
        options=(
            "-u",
            "999:999",
            "-e",
            "PGDATA=/var/lib/postgresql/data",
            "-v",
            "{}:/var/lib/postgresql/data",
        ),
        codes=("PD109", "PD204"),
        best="chown-directory",
        target="/var/lib/postgresql/data",
    ),
    Case(
        id="C10 root without capabilities",
        scene=directory(5000, 5000, 0o755),
        options=("--cap-drop", "ALL", "-v", "{}:/data"),
        codes=("PD113",),
        best="run-as-owner",
        target="/data",
    ),
    Case(
        id="C10 twin: root with the default ones",
        scene=directory(5000, 5000, 0o755),
        options=("-v", "{}:/data"),
        target="/data",
    ),
    Case(
        id="C11 the workers dropped their privileges",
        scene=directory(0, 0, 0o755),
        options=("-v", "{}:/data"),
        command=("sh", "-c", "sleep 600 & exec su -s /bin/sh postgres -c 'exec sleep 600'"),
        codes=("PD101",),
        best="chown-directory",
        target="/data",
        user="999:999",
        subjects=2,
        heals=True,
    ),
    Case(
        id="C12 root poisons the cache",
        scene=directory(
            5000, 5000, 0o755, ("models--a/", 0, 0, 0o755), ("own/", 5000, 5000, 0o755)
        ),
        options=("-v", "{}:/cache"),
        codes=("PD203",),
        best="run-as-owner",
        target="/cache",
    ),
    Case(
        id="C14 world-writable",
        scene=directory(0, 0, 0o777),
        options=("-u", "1000:1000", "-v", "{}:/data"),
        codes=("PD204",),
        best="chmod-others",
        target="/data",
    ),
    Case(
        id="C15 a device of group video",
        scene=node,
        options=("-u", "1001:1001", "--device", "{}:/dev/dri/renderD128"),
        codes=("PD110",),
        best="group-add",
    ),
    Case(
        id="C15 the same with the group added",
        scene=node,
        options=("-u", "1001:1001", "--group-add", "44", "--device", "{}:/dev/dri/renderD128"),
    ),
    Case(
        id="C15 docker.sock refused",
        scene=engine_socket,
        options=("-u", "1000:1000", "-v", "{}:/var/run/docker.sock"),
        codes=("PD110",),
        best="group-add",
    ),
    Case(
        id="C15 docker.sock allowed",
        scene=engine_socket,
        options=("-u", "1000:1000", "--group-add", "998", "-v", "{}:/var/run/docker.sock:ro"),
        codes=("PD205",),
    ),
    Case(
        id="C18 immutable",
        scene=immutable,
        options=("-u", "1000:1000", "-v", "{}:/data"),
        codes=("PD108",),
        best="clear-flag",
        target="/data",
    ),
    Case(
        id="C18 the ACL's mask",
        scene=with_acl(0, 0, 0o755, "u:1000:rwx", "m::r-x"),
        options=("-u", "1000:1000", "-v", "{}:/data"),
        codes=("PD104",),
        best="chown-directory",
        target="/data",
        heals=True,
    ),
    Case(
        id="C18 an ACL that suffices",
        scene=with_acl(0, 0, 0o755, "u:1000:rwx"),
        options=("-u", "1000:1000", "-v", "{}:/data"),
        target="/data",
    ),
    Case(
        id="C18 a sticky directory",
        scene=directory(0, 0, 0o1777, ("theirs", 0, 0, 0o644)),
        options=("-u", "1000:1000", "-v", "{}:/data"),
        codes=("PD201",),
        best="chown-entries",
        target="/data",
    ),
    Case(
        id="the container's own /root is 0700",
        scene=directory(1000, 1000, 0o755),
        options=("-u", "1000:1000", "-v", "{}:/root/.cache"),
        codes=("PD103",),
        best="mount-elsewhere",
        target="/root/.cache",
    ),
    Case(
        id="a single file",
        scene=lambda lab: directory(0, 0, 0o755, ("conf", 0, 0, 0o644))(lab) / "conf",
        options=("-u", "1000:1000", "-v", "{}:/etc/app.conf"),
        codes=("PD101",),
        best="chown-file",
        heals=True,
    ),
    Case(
        id="a tmpfs of the engine's default mode",
        scene=directory(0, 0, 0o755),
        options=("-u", "1000:1000", "--tmpfs", "/scratch", "-v", "{}:/ro:ro"),
        target="/scratch",
    ),
    Case(
        id="a tmpfs of root's",
        scene=directory(0, 0, 0o755),
        options=("-u", "1000:1000", "--tmpfs", "/scratch:mode=0755", "-v", "{}:/ro:ro"),
        codes=("PD101",),
        best="make-tmpfs-own",
        target="/scratch",
    ),
)


@pytest.fixture(params=CASES, ids=lambda c: c.id)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@dataclass
class Running:
    case: Case
    box: Box
    engine: Engine
    source: Path

    def report(self) -> Report:
        needs = tuple((p.encode(), Need(n)) for p, n in self.case.needs)
        request = CheckRequest(names=(self.box.name,), hosts=(self.engine.host,), needs=needs)
        return check(request).reports[0]


@pytest.fixture
def running(case: Case, lab: Lab, dockerd: Engine) -> Iterator[Running]:
    source = case.scene(lab)
    options = [o.replace("{}", str(source)) for o in case.options]
    image = dockerd.image(*case.changes) if case.changes else None
    box = dockerd.run(*options, image=image, command=case.command)
    try:
        yield Running(case, box, dockerd, source)
    finally:
        box.rm()
        if case.scene is immutable:
            subprocess.run(["chattr", "-i", source], check=True)


def worst(report: Report) -> tuple[str, ...]:
    """Codes of errors and warnings.  Whose number 1000 is depends on this machine: not PD206."""
    found = (f.code for f in report.findings if f.severity > Severity.INFO)
    return tuple(dict.fromkeys(c for c in found if c != "PD206"))


def test_case(running: Running) -> None:
    case, report = running.case, running.report()
    assert worst(report) == case.codes
    assert len(report.subjects) == case.subjects
    assert report.judged
    assert report.skipped == ()
    if case.best:
        assert report.findings[0].remedies[0].name == case.best
    if case.target:
        agree_with_the_truth(running, report)
    if case.heals:
        heal(running, report)


def agree_with_the_truth(running: Running, report: Report) -> None:
    """Do inside what the model spoke of, as the subject it spoke of."""
    case = running.case
    mount = next(m for m in report.mounts if m.target == case.target.encode())
    for access in mount.access:
        subject = report.subjects[access.subject]
        user = case.user if case.user and subject.uid != 0 else None
        if case.user and subject.uid == 0:
            user = "0:0"
        script = {
            Need.READ: f"ls {case.target}",
            Need.WRITE: f"ls {case.target} && touch {case.target}/.new && rm {case.target}/.new",
            Need.OWN: f"chmod 0700 {case.target}",
        }[access.need.need]
        done = running.box.sh(script, user=user)
        assert done.ok == access.verdict.allowed, (done.stderr, access.verdict)


def heal(running: Running, report: Report) -> None:
    """The best remedy, run as it is shown, makes it so."""
    for command in report.findings[0].remedies[0].commands:
        subprocess.run(["bash", "-c", command], check=True)
    after = running.report()
    assert [f.code for f in after.findings if f.severity is Severity.ERROR] == []
    agree_with_the_truth(running, after) if running.case.target else None


def test_a_number_that_is_somebody_else_on_the_host(lab: Lab, dockerd: Engine) -> None:
    """S4's twin.  uid 1 is daemon on every Debian."""
    source = lab.directory(0, 0, 0o755)
    box = dockerd.run("-u", "1:1", "-v", f"{source}:/app/model")
    try:
        request = CheckRequest(names=(box.name,), hosts=(dockerd.host,))
        report = check(request).reports[0]
    finally:
        box.rm()
    assert [f.code for f in report.findings if f.severity > Severity.INFO] == ["PD101", "PD206"]
    assert "uid 1 is daemon on the host" in report.findings[1].title
