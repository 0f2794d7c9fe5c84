"""Reports and explanations by hand: each builder fills in what a case leaves open."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from permdoctor.container.container import Container, EngineInfo, MountKind
from permdoctor.container.needs import Need, NeedSource, PathNeed
from permdoctor.container.subject import Basis, Process, Subject
from permdoctor.diagnosis.explanation import ExplainedOperation, Explanation
from permdoctor.diagnosis.report import (
    Access,
    CheckResult,
    Coverage,
    Finding,
    Impact,
    MountReport,
    ProbeResult,
    Remedy,
    Report,
    Severity,
    Skipped,
)
from permdoctor.kernel.acl import from_mode
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import INITIAL as INITIAL
from permdoctor.kernel.ids import Extent, IdMap, Kgid, Kuid, UserNs
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import permission
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Verdict, Want
from permdoctor.kernel.walk import Hop, walk

HOSTILE = b"\x1b[31mred\x1b]0;t\x07\n\r\t\x9b2J\xff\xc2\x9b\xe2\x80\xae\xe2\x80\xa8\\ \x00end"
"""What a file, a process or a variable can be called: ESC, C1, line breaks, bidi, no UTF-8."""

_REMAP = IdMap((Extent(inside=0, outside=100_000, count=65_536),))
REMAPPED = UserNs(inum=7, uids=_REMAP, gids=_REMAP, parent=INITIAL, owner=Kuid(0))


def cred(uid: int = 1001, gid: int | None = None, **more: Any) -> Cred:
    return Cred(fsuid=Kuid(uid), fsgid=Kgid(uid if gid is None else gid), **more)


def subject(uid: int = 1001, gid: int | None = None, **more: Any) -> Subject:
    fields: dict[str, Any] = {
        "cred": cred(uid, gid),
        "basis": Basis.LIVE,
        "processes": (Process(pid=4121, comm=b"python", inside_pid=1),),
        "inside_user": "model" if uid == 1001 else "",
        "umask": 0o022,
    }
    return Subject(**(fields | more))


def root(effective: Cap = Cap.NONE, **more: Any) -> Subject:
    return subject(0, 0, cred=cred(0, effective=effective), inside_user="root", **more)


def remapped(uid: int = 1000, effective: Cap = Cap.NONE, **more: Any) -> Subject:
    host = 100_000 + uid
    return subject(uid, cred=cred(host, effective=effective, userns=REMAPPED), **more)


def directory(uid: int | None = 0, gid: int | None = 0, mode: int = 0o755, **more: Any) -> Inode:
    return Inode(
        uid=None if uid is None else Kuid(uid),
        gid=None if gid is None else Kgid(gid),
        mode=mode,
        type=FileType.DIRECTORY,
        **more,
    )


def container(name: str = "trainer", **more: Any) -> Container:
    fields: dict[str, Any] = {
        "engine": EngineInfo(endpoint="unix:///var/run/docker.sock"),
        "id": "c0ffee" * 10 + "c0de",
        "pid": 4121,
        "image": "trainer:latest",
    }
    return Container(name=name, **(fields | more))


def write_verdict(by: Subject | None = None, inode: Inode | None = None) -> Verdict:
    return permission((by or subject()).cred, inode or directory(), Mount(), Want.W)


def mount(
    target: bytes = b"/app/model", verdict: Verdict | None = None, **more: Any
) -> MountReport:
    need = PathNeed(path=target, need=Need.WRITE, source=NeedSource.DEFAULT)
    fields: dict[str, Any] = {
        "kind": MountKind.BIND,
        "host_path": b"/home/model",
        "fstype": "ext4",
        "read_only": False,
        "owner": "0:0 (root:root)",
        "mode": 0o755,
        "access": (Access(subject=0, need=need, verdict=verdict or Verdict(errno=None)),),
        "coverage": Coverage(entries=48_210),
    }
    return MountReport(target=target, **(fields | more))


CHOWN = Remedy(
    name="chown-directory",
    title="Give the directory, and nothing below it, to the process",
    commands=("chown 1001:1001 /home/model",),
    why="the need is then met by the owner's own bits",
    proven=True,
    impacts=(Impact(who="backup", before="read", after="read", breaks=False),),
)
TMPFS = Remedy(
    name="run-as-owner",
    title="Or run it as the owner",
    commands=("user: '0:0'",),
    where="compose",
    why_not="what it makes then belongs to root",
    impacts=(Impact(who="backup (999)", before="write", after="EACCES", breaks=True),),
)


def finding(severity: Severity = Severity.ERROR, code: str = "PD101", **more: Any) -> Finding:
    fields: dict[str, Any] = {
        "title": "/app/model: 1001:1001 cannot write here",
        "target": b"/app/model",
        "path": b"/app/model",
        "host_path": b"/home/model",
        "subject": 0,
        "verdict": write_verdict(),
        "detail": ("owner 0:0, mode 0755",),
        "remedies": (CHOWN, TMPFS),
    }
    return Finding(code=code, severity=severity, **(fields | more))


def info(**more: Any) -> Finding:
    return finding(
        Severity.INFO,
        "PD302",
        **({"title": "New files belong to 1001:1001", "verdict": None, "remedies": ()} | more),
    )


def report(**more: Any) -> Report:
    fields: dict[str, Any] = {
        "container": container(),
        "basis": Basis.LIVE,
        "subjects": (subject(),),
        "mounts": (mount(), mount(b"/data", read_only=True), mount(b"/cache")),
        "findings": (),
    }
    return Report(**(fields | more))


def broken() -> Report:
    """Scenario S4: a directory of root's, mounted to be written."""
    return report(
        mounts=(mount(verdict=write_verdict()), mount(b"/data", read_only=True)),
        findings=(finding(), info()),
    )


def result(*reports: Report, **more: Any) -> CheckResult:
    return CheckResult(reports=reports, host="lab", version="0.1.0", **more)


def hops(*components: tuple[bytes, Inode], on: Mount | None = None) -> tuple[Hop, ...]:
    return tuple(Hop(path=path, inode=inode, mount=on or Mount()) for path, inode in components)


def explanation(by: Subject | None = None, way: tuple[Hop, ...] = (), **more: Any) -> Explanation:
    by = by or subject()
    way = way or hops(
        (b"/", directory()),
        (b"/app", directory()),
        (b"/app/model", directory(acl=from_mode(0o755))),
    )
    verdict = walk(by.cred, way, Sysctls())
    operations = (
        tuple(
            ExplainedOperation(
                subject=0,
                want=name,
                verdict=permission(by.cred, way[-1].inode, way[-1].mount, want),
            )
            for name, want in (("read", Want.R), ("write", Want.W))
        )
        if verdict.allowed
        else ()
    )
    fields: dict[str, Any] = {
        "container": container(),
        "basis": Basis.LIVE,
        "path": way[-1].path,
        "subjects": (by,),
        "hops": way,
        "walks": (verdict,),
        "operations": operations,
        "host_path": b"/home/model",
    }
    return Explanation(**(fields | more))


def hostile_report() -> Report:
    """Everything that a container, a file or a process can name is hostile."""
    text = HOSTILE.decode("utf-8", "surrogateescape")
    who = subject(
        processes=(Process(pid=1, comm=HOSTILE),),
        inside_user=text,
        inside_group=text,
        host_user=text,
        host_group=text,
        attr=text,
    )
    return report(
        container=replace(container(text), image=text, error=text, user=text),
        subjects=(who,),
        mounts=(
            mount(HOSTILE, verdict=write_verdict(), host_path=HOSTILE, volume=text, fstype=text),
        ),
        findings=(
            finding(
                title=f"{text}: x",
                target=HOSTILE,
                path=HOSTILE,
                host_path=HOSTILE,
                samples=(HOSTILE,) * 3,
                count=1204,
                detail=(text,),
                remedies=(replace(CHOWN, title=text, commands=(text,), why=text, why_not=text),),
            ),
        ),
        skipped=(Skipped(what=text, reason=text, hint=text),),
        probes=(
            ProbeResult(
                target=HOSTILE,
                subject=0,
                want="write",
                predicted="EACCES",
                observed="ok",
                agrees=False,
                note=text,
            ),
        ),
    )


def hostile_explanation() -> Explanation:
    way = hops((b"/", directory()), (b"/" + HOSTILE, directory(mode=0o700)), (HOSTILE, directory()))
    link = replace(way[1], link=HOSTILE, path=HOSTILE)
    report = hostile_report()
    return explanation(
        report.subjects[0],
        (way[0], link, *way[1:]),
        container=report.container,
        path=HOSTILE,
        host_path=HOSTILE,
        missing=HOSTILE,
        skipped=report.skipped,
        probes=report.probes,
    )
