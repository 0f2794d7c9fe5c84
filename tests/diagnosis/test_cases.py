"""The acceptance cases as facts: each gets its verdict and its best remedy.

The same cases run as real containers in ``tests/acceptance``; here are also those that no such
kernel can make (NFS, SELinux), from recorded facts.
"""

from __future__ import annotations

import re
import subprocess

import pytest
from msgspec.structs import replace

from permdoctor.container.binds import SourceState
from permdoctor.container.container import EngineInfo, MountKind, State
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.facts import Facts, HostUsers, SelinuxFacts
from permdoctor.diagnosis.report import Finding, Report, Severity
from permdoctor.kernel.caps import DOCKER_DEFAULT, Cap
from permdoctor.kernel.inode import FileType
from permdoctor.kernel.mount import Superblock

from .build import (
    bind,
    container,
    directory,
    entries,
    facts,
    host_user,
    inode,
    neighbour,
    place,
    remapped,
    rootless,
    subject,
)

ALICE = host_user(1000, "alice")
MODEL = directory("0:0", 0o755)
NFS = "36 1 0:50 / /data rw - nfs4 server:/export rw,vers=4.2,sec=sys"
FUSE = "36 1 0:51 / /data rw - fuse.sshfs me@host:/ rw,user_id=1000,group_id=1000"
FUSE_OPEN = FUSE + ",default_permissions,allow_other"


def worst(report: Report) -> tuple[str, ...]:
    """Codes of errors and warnings, in the report's order, each once."""
    codes = (f.code for f in report.findings if f.severity > Severity.INFO)
    return tuple(dict.fromkeys(codes))


def only(report: Report, code: str) -> Finding:
    found = [f for f in report.findings if f.code == code]
    assert len(found) == 1, [f.code for f in report.findings]
    return found[0]


CASES = [
    pytest.param(
        facts(
            subject("1001:1001"),
            bind(
                "/home/model",
                MODEL,
                ro=True,
                tree=entries(("w.bin", inode("0:0", 0o644), 4), parent=MODEL),
            ),
        ),
        (),
        None,
        id="S1 a model served read-only is fine",
    ),
    pytest.param(
        facts(
            subject("1001:1001"),
            bind(
                "/home/model",
                MODEL,
                ro=True,
                tree=entries(("w.bin", inode("0:0", 0o600), 1), parent=MODEL),
            ),
        ),
        ("PD111",),
        "setfacl -m u:1001:rX /srv/source/w.bin",
        id="S1a one weight file 0600 root",
    ),
    pytest.param(
        facts(
            subject("1001:1001"),
            bind("/home/model", directory("1001:1001", 0o755), ro=True),
            needs=(("/home/model", "write"),),
        ),
        ("PD106",),
        "docker run --tmpfs /cache:uid=1001,gid=1001,mode=0700 -e HF_HOME=/cache ...",
        id="S1b a lock file beside the weights: EROFS, no chown",
    ),
    pytest.param(
        facts(
            subject("1001:1001"),
            of=container(),
            places=(
                place(
                    "/app/processing",
                    ("/app", directory("0:0", 0o755)),
                    ("/app/processing", directory("0:0", 0o755)),
                ),
            ),
            needs=(("/app/processing", "write"),),
        ),
        ("PD101",),
        "RUN chown 1001:1001 /app/processing",
        id="S2 a directory of the image, asked for",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            of=container(env=(("HF_HOME", "/models/hf"),)),
            places=(place("/models/hf", missing="models"),),
        ),
        ("PD208",),
        "RUN install -d -o 1000 -g 1000 /models/hf",
        id="S3 a variable names a path nobody can create",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind("/data", directory("1000:1000", 0o755)),
            of=container(env=(("TRANSFORMERS_CACHE", "/cache"),)),
            places=(place("/cache", missing="cache"),),
        ),
        ("PD208",),
        "docker run -e TRANSFORMERS_CACHE=/data/cache ...",
        id="S3 the same with a writable mount at hand",
    ),
    pytest.param(
        facts(subject("1000:1000"), places=(place("/.cache", missing=".cache"),), home="/"),
        (),
        None,
        id="S3 what follows from HOME alone is quiet",
    ),
    pytest.param(
        facts(subject("1001:1001"), bind("/app/model", MODEL, source="/home/model")),
        ("PD101",),
        "chown 1001:1001 /home/model",
        id="S4 save a model: the directory only",
    ),
    pytest.param(
        facts(subject("1001:1001"), bind("/app/model", directory("1001:1001", 0o755))),
        (),
        None,
        id="S4 repaired",
    ),
    pytest.param(
        facts(
            subject("1001:1001", name="model"),
            bind("/app/model", MODEL),
            users=HostUsers(users=((0, "root"), (1001, "bob"))),
        ),
        ("PD101", "PD206"),
        "chown 1001:1001 /srv/source",
        id="S4 twin: 1001 is bob on the host",
    ),
    pytest.param(
        facts(subject("1001:0"), bind("/label-studio/data", MODEL)),
        ("PD101",),
        "chmod g+w /srv/source",
        id="C1 group 0 lacks g+w",
    ),
    pytest.param(
        facts(subject("1001:0"), bind("/label-studio/data", directory("1000:0", 0o755))),
        ("PD101",),
        "chmod g+w /srv/source",
        id="C1 after chown 1000:0 it is still g+w that is missing",
    ),
    pytest.param(
        facts(subject("472:472"), bind("/var/lib/grafana", MODEL)),
        ("PD101",),
        "chown 472:472 /srv/source",
        id="C2 grafana, an empty directory of root's",
    ),
    pytest.param(
        facts(subject("472:472"), bind("/var/lib/grafana", directory("1000:1000", 0o755))),
        ("PD101",),
        "docker run --user 1000:1000 ...",
        id="C2 grafana, a directory of alice's",
    ),
    pytest.param(
        facts(
            subject("65534:65534", live=False),
            bind("/prometheus", directory("1000:1000", 0o755)),
            of=container(pid=None, state=State.EXITED, exit_code=1, restart_count=7),
        ),
        ("PD101",),
        "docker run --user 1000:1000 ...",
        id="C3 prometheus, exited and restarting",
    ),
    pytest.param(
        facts(subject("1000:100"), bind("/home/jovyan/work", MODEL)),
        ("PD101",),
        "chown 1000:100 /srv/source",
        id="C4 jupyter",
    ),
    pytest.param(
        facts(
            subject("50000:0"),
            bind("/opt/airflow/logs", MODEL),
            of=container(env=(("AIRFLOW_HOME", "/opt/airflow"),)),
        ),
        ("PD101",),
        "chmod g+w /srv/source",
        id="C5 airflow's 50000:0",
    ),
    pytest.param(
        facts(
            subject("999:999"),
            bind("/var/lib/postgresql/data", directory("0:0", 0o777)),
            of=container(env=(("PGDATA", "/var/lib/postgresql/data"),)),
        ),
        ("PD109", "PD204"),
        "chown 999:999 /srv/source",
        id="C6 initdb must own what it may write",
    ),
    pytest.param(
        facts(
            subject("1000:1000", ns=remapped()),
            bind("/home/alice", directory("1000:1000", 0o700), source="/home/alice"),
            of=container(engine=EngineInfo(endpoint="unix:///s", remapped_root=(165536, 165536))),
        ),
        ("PD105",),
        "setfacl -m u:166536:rwx /home/alice",
        id="C8 userns-remap, -u 1000",
    ),
    pytest.param(
        facts(
            subject("0:0", ns=remapped()),
            bind("/home/alice", directory("1000:1000", 0o700), source="/home/alice"),
        ),
        ("PD105",),
        "setfacl -m u:165536:rwx /home/alice",
        id="C8 userns-remap, root with all its capabilities",
    ),
    pytest.param(
        facts(
            subject("1000:1000", ns=rootless()),
            bind("/data", directory("1000:1000", 0o755), source="/home/alice/data"),
            of=container(engine=EngineInfo(endpoint="unix:///s", rootless=True)),
        ),
        ("PD101",),
        "docker run --user 0:0 ...",
        id="C9 rootless, off by one",
    ),
    pytest.param(
        facts(subject("0:0", caps=Cap.NONE), bind("/data", directory("1000:1000", 0o755))),
        ("PD113",),
        "docker run --user 1000:1000 ...",
        id="C10 root without capabilities",
    ),
    pytest.param(
        facts(subject("0:0"), bind("/data", directory("1000:1000", 0o755))),
        (),
        None,
        id="C10 twin: root with the default capabilities",
    ),
    pytest.param(
        facts(
            (subject("0:0", comm=b"entrypoint"), subject("999:999", comm=b"worker")),
            bind("/data", MODEL),
        ),
        ("PD101",),
        "chown 999:999 /srv/source",
        id="C11 the workers dropped their privileges",
    ),
    pytest.param(
        facts(
            subject("0:0"),
            bind(
                "/root/.cache/huggingface",
                directory("1000:1000", 0o755),
                tree=entries(
                    ("models--a", directory("0:0", 0o755), 2),
                    ("own", directory("1000:1000", 0o755), 5),
                    parent=directory("1000:1000", 0o755),
                ),
            ),
            neighbours=(neighbour("alice (1000)", ALICE),),
        ),
        ("PD203",),
        "docker run --user 1000:1000 -e HF_HOME=/root/.cache/huggingface ...",
        id="C12 root poisons alice's cache",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind("/data", directory("999:999", 0o755)),
            neighbours=(neighbour("container db", subject("999:999")),),
        ),
        ("PD101", "PD207"),
        "chgrp 999 /srv/source",
        id="C13 two containers, one directory",
    ),
    pytest.param(
        facts(subject("1000:1000"), bind("/data", directory("0:0", 0o777))),
        ("PD204",),
        "setfacl -m u:1000:rwX /srv/source",
        id="C14 world-writable: give it to the one who needs it, then close it",
    ),
    pytest.param(
        facts(subject("1000:1000"), bind("/data", directory("0:0", 0o1777))),
        (),
        None,
        id="C14 twin: sticky, as /tmp is",
    ),
    pytest.param(
        facts(subject("0:0"), bind("/host/etc", MODEL, source="/etc")),
        ("PD205",),
        "docker run -v /etc/DIRECTORY:/host/etc/DIRECTORY:ro ...",
        id="C14 root with /etc writable",
    ),
    pytest.param(
        facts(subject("0:0"), bind("/host/etc", MODEL, source="/etc", ro=True)),
        (),
        None,
        id="C14 twin: /etc read-only",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/dev/dri/renderD128",
                inode("0:44", 0o660, FileType.CHARDEV),
                source="/dev/dri/renderD128",
                kind=MountKind.DEVICE,
            ),
        ),
        ("PD110",),
        "docker run --group-add 44 ...",
        id="C15 a GPU's node, root:video 0660",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/var/run/docker.sock",
                inode("0:998", 0o660, FileType.SOCKET),
                source="/run/docker.sock",
            ),
        ),
        ("PD110",),
        "docker run --group-add 998 ...",
        id="C15 docker.sock refused",
    ),
    pytest.param(
        facts(
            subject("1000:1000", groups=(998,)),
            bind(
                "/var/run/docker.sock",
                inode("0:998", 0o660, FileType.SOCKET),
                source="/run/docker.sock",
                ro=True,
            ),
        ),
        ("PD205",),
        None,
        id="C15 docker.sock allowed is root on the host, :ro or not",
    ),
    pytest.param(
        facts(
            subject("0:0", caps=DOCKER_DEFAULT),
            bind(
                "/data",
                directory("1000:1000", 0o750),
                sb=Superblock(fstype="nfs4"),
                mountinfo=NFS,
            ),
        ),
        ("PD210",),
        "docker run --user 1000:1000 ...",
        id="C16 NFS: root_squash is likely",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/data",
                directory("1000:1000", 0o750),
                sb=Superblock(fstype="nfs4"),
                mountinfo=NFS,
            ),
        ),
        (),
        None,
        id="C16 twin: the owner on NFS, a note at most",
    ),
    pytest.param(
        facts(
            subject("0:0"),
            bind(
                "/data",
                directory("1000:1000", 0o755),
                sb=Superblock(fstype="fuse.sshfs"),
                mountinfo=FUSE,
            ),
        ),
        ("PD117",),
        None,
        id="FUSE without allow_other shuts root out",
    ),
    pytest.param(
        facts(
            subject("1000:1001"),
            bind(
                "/data",
                directory("1000:1000", 0o755),
                sb=Superblock(fstype="fuse.sshfs"),
                mountinfo=FUSE,
            ),
        ),
        ("PD117",),
        None,
        id="FUSE without allow_other wants the mounter's gid, too",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/data",
                directory("1000:1000", 0o755),
                sb=Superblock(fstype="fuse.sshfs"),
                mountinfo=FUSE_OPEN,
            ),
        ),
        (),
        None,
        id="FUSE with default_permissions is judged by its modes",
    ),
    pytest.param(
        facts(
            replace(subject("1000:1000"), attr="system_u:system_r:container_t:s0:c1,c2"),
            bind("/data", directory("1000:1000", 0o755)),
            selinux=SelinuxFacts(
                enforcing=True,
                labels=((b"/data", "unconfined_u:object_r:user_home_t:s0"),),
            ),
        ),
        ("PD211",),
        "docker run -v /srv/source:/data:z ...",
        id="C17 SELinux: z, never chown",
    ),
    pytest.param(
        facts(
            replace(subject("1000:1000"), attr="system_u:system_r:container_t:s0:c1,c2"),
            bind("/data", directory("1000:1000", 0o755)),
            selinux=SelinuxFacts(
                enforcing=True,
                labels=((b"/data", "system_u:object_r:container_file_t:s0"),),
            ),
        ),
        (),
        None,
        id="C17 twin: labelled for containers",
    ),
    pytest.param(
        facts(subject("0:0"), bind("/data", directory("0:0", 0o755, immutable=True))),
        ("PD108",),
        "lsattr -d /srv/source",
        id="C18 immutable, root too",
    ),
    pytest.param(
        facts(
            subject("0:0"),
            bind("/data", directory("0:0", 0o755), sb=Superblock(read_only=True)),
            needs=(("/data", "write"),),
        ),
        ("PD107",),
        "findmnt -T /srv/source",
        id="C18 read-only superblock",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind("/data", directory("0:0", 0o755), noexec=True, ro=True),
            of=container(command=("/data/run.sh",)),
        ),
        ("PD112",),
        "findmnt -T /srv/source -o OPTIONS",
        id="C18 noexec under the command",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/data",
                directory("0:0", 0o1777),
                tree=entries(("ckpt", inode("0:0", 0o666), 3), parent=directory("0:0", 0o1777)),
            ),
        ),
        ("PD202", "PD204"),
        "chown -h 1000:1000 /srv/source/ckpt",
        id="C18 sticky directory",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/data",
                directory("0:0", 0o755),
                state=SourceState.DELETED,
            ),
            needs=(("/data", "read"),),
        ),
        ("PD209",),
        None,
        id="C18 deleted source",
    ),
    pytest.param(
        facts(
            subject("1000:1000"),
            bind(
                "/root/.cache",
                directory("1000:1000", 0o755),
                parents=(("/root", directory("0:0", 0o700)),),
            ),
        ),
        ("PD103",),
        "docker run -v /srv/source:/cache ...   # and the program's variable (HF_HOME, ...) "
        "set to it",
        id="the container's own /root is 0700",
    ),
]


@pytest.mark.parametrize(("case", "codes", "best"), CASES)
def test_verdict_and_best_remedy(case: Facts, codes: tuple[str, ...], best: str | None) -> None:
    report = diagnose(case)
    assert worst(report) == codes
    if best is not None:
        assert report.findings[0].remedies[0].commands[0] == best


@pytest.mark.parametrize("case", [pytest.param(c.values[0], id=c.id) for c in CASES])
def test_no_remedy_allows_too_much(case: Facts) -> None:
    """777, privileged and root are never proposed; a rootless engine's root is a user."""
    for finding in diagnose(case).findings:
        for remedy in finding.remedies:
            for command in remedy.commands:
                assert not re.search(r"777|privileged|-R\b|o\+w|a\+w|chmod 666", command)
                if remedy.name != "run-as-container-root":
                    assert not re.search(r"--user[ =]0|user: \"?0", command)


def names(report: Report) -> list[str]:
    return [r.name for r in report.findings[0].remedies]


REMAPPED = EngineInfo(endpoint="unix:///s", remapped_root=(165536, 165536))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            facts(
                subject("1000:1000", ns=remapped()),
                bind("/home/alice", directory("1000:1000", 0o700)),
                of=container(engine=REMAPPED),
                neighbours=(neighbour("alice (1000)", ALICE),),
            ),
            ["acl-user", "chown-directory", "userns-host"],
            id="C8: the ACL first, leaving the namespace last",
        ),
        pytest.param(
            facts(
                subject("1000:1000", ns=remapped()),
                bind("/home/alice", directory("1000:1000", 0o700)),
                of=container(engine=replace(REMAPPED, bind_idmap=True)),
                neighbours=(neighbour("alice (1000)", ALICE),),
            ),
            ["idmapped-mount", "acl-user", "chown-directory", "userns-host"],
            id="C8: an engine that can idmap a bind",
        ),
        pytest.param(
            facts(
                subject("1000:1000", ns=remapped()),
                bind("/data", directory("1000:1000", 0o700), sb=Superblock(fstype="nfs4")),
                of=container(engine=replace(REMAPPED, bind_idmap=True)),
            ),
            [],
            id="never on NFS",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind("/data", MODEL, sb=Superblock(fstype="ext4", acls=False)),
            ),
            ["chown-directory"],
            id="no ACL where the filesystem has none",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/data", directory("0:1500", 0o2775))),
            ["group-add", "chown-directory", "acl-user"],
            id="a group that may write already: join it",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/k", inode("0:0", 0o640), source="/etc/shadow")),
            ["narrow-mount"],
            id="the host's own files are nobody's to give: /etc/shadow",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/host", MODEL, source="/")),
            ["narrow-mount"],
            id="the host's own directories: /",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind(
                    "/etc-of-host",
                    MODEL,
                    source="/etc",
                    ro=True,
                    tree=entries(("shadow", inode("0:42", 0o640), 1), parent=MODEL),
                ),
            ),
            ["narrow-mount"],
            id="the host's own entries: /etc/shadow below /etc",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind("/data", MODEL, source="/var/lib/docker/volumes/v/_data"),
            ),
            ["chown-directory", "acl-user"],
            id="a volume lies in the engine's data, and is the user's",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind(
                    "/data",
                    directory("1001:1001", 0o755, nlink=0),
                    state=SourceState.DELETED,
                ),
            ),
            ["recreate-source"],
            id="in a deleted directory nothing can be made",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/data", directory("1001:1001", 0o555))),
            ["chmod-owner"],
            id="an owner is told about its own bits",
        ),
        pytest.param(
            facts(
                subject("1000:1000"),
                bind("/data", directory("999:999", 0o755)),
                neighbours=(neighbour("container db", subject("999:999")),),
            ),
            ["shared-group", "run-as-owner", "acl-user", "chown-directory"],
            id="C13: what breaks the other comes last",
        ),
        pytest.param(
            facts(
                subject("999:999"),
                bind("/var/lib/postgresql/data", directory("1000:1000", 0o777)),
                needs=(("/var/lib/postgresql/data", "own"),),
            ),
            ["run-as-owner", "chown-directory"],
            id="C6: neither a mode nor an ACL gives ownership",
        ),
    ],
)
def test_remedies_in_order(case: Facts, expected: list[str]) -> None:
    assert names(diagnose(case)) == expected


def test_a_remedy_that_breaks_somebody_says_whom() -> None:
    report = diagnose(
        facts(
            subject("1000:1000"),
            bind("/data", directory("999:999", 0o755)),
            neighbours=(neighbour("container db", subject("999:999")),),
        )
    )
    chown = report.findings[0].remedies[-1]
    (impact,) = chown.impacts
    assert (impact.who, impact.before, impact.after, impact.breaks) == (
        "container db",
        "may read and write",
        "may read",
        True,
    )


def test_run_as_owner_is_not_proven_where_another_mount_would_be_lost() -> None:
    report = diagnose(
        facts(
            subject("1001:1001"),
            bind("/data", directory("1000:1000", 0o755)),
            bind("/own", directory("1001:1001", 0o700), source="/srv/own"),
        )
    )
    remedy = next(r for r in report.findings[0].remedies if r.name == "run-as-owner")
    assert not remedy.proven
    assert "/own" in remedy.why_not


def test_a_need_of_none_silences_a_mount() -> None:
    quiet = facts(subject("1001:1001"), bind("/data", MODEL), needs=(("/data", "none"),))
    assert worst(diagnose(quiet)) == ()


@pytest.mark.parametrize(
    ("label", "option", "code"),
    [
        pytest.param("own", None, "PD109", id="the label asks to own"),
        pytest.param("own", "write", None, id="the option beats the label"),
        pytest.param("none", "own", "PD109", id="the option beats the label's none"),
    ],
)
def test_who_says_what_is_needed(label: str, option: str | None, code: str | None) -> None:
    report = diagnose(
        facts(
            subject("1001:1001"),
            bind("/data", directory("1000:1001", 0o770)),
            of=container(labels=(("permdoctor.need./data", label),)),
            needs=(("/data", option),) if option else (),
        )
    )
    assert worst(report) == ((code,) if code else ())


def test_a_hostile_name_stays_one_shell_word() -> None:
    name = b"$(reboot)\x1b[31m'; rm -rf ~ #\n"
    tree = entries(("x", inode("0:0", 0o600), 1), parent=MODEL)
    tree = replace(tree, classes=tuple(replace(c, samples=(name,)) for c in tree.classes))
    report = diagnose(facts(subject("1001:1001"), bind("/data", MODEL, ro=True, tree=tree)))
    command = report.findings[0].remedies[0].commands[0]
    assert command.isprintable()
    said = subprocess.run(
        ["bash", "-c", command.replace("setfacl -m u:1001:rX", "printf %s")], capture_output=True
    )
    assert said.stdout == b"/srv/source/" + name


@pytest.mark.parametrize("fstype", ["proc", "sysfs", "cgroup2"])
def test_nothing_is_predicted_of_pseudo_filesystems(fstype: str) -> None:
    of_proc = bind("/host/proc", directory("0:0", 0o777), sb=Superblock(fstype=fstype))
    report = diagnose(facts(subject("65534:65534"), of_proc))
    assert [f.code for f in report.findings] == ["PD307"]


def test_what_came_along_with_a_read_only_bind_is_only_read() -> None:
    along = bind("/host/boot", directory("0:0", 0o755))
    along = replace(along, bind=replace(along.bind, requested=None))
    report = diagnose(
        facts(subject("65534:65534"), bind("/host", MODEL, source="/srv", ro=True), along)
    )
    assert worst(report) == ()


def test_a_closed_directory_is_nobody_elses_business() -> None:
    closed = bind("/data", directory("999:999", 0o700))
    report = diagnose(
        facts(subject("999:999"), closed, users=HostUsers(logins=(host_user(1000, "alice"),)))
    )
    assert "PD302" not in [f.code for f in report.findings]
