"""What is repaired unnamed, what by name, what not and why; and that doing it makes it right."""

from __future__ import annotations

import pickle
import re

import pytest
from msgspec.structs import replace

from permdoctor.container.container import MountKind
from permdoctor.diagnosis.choice import Choice, is_refused, job_for, jobs_of
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts
from permdoctor.diagnosis.plan import Job
from permdoctor.diagnosis.recipes import Grant, Scope
from permdoctor.errors import UsageError
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.ids import Extent, IdMap
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, MountIdMap, Superblock
from permdoctor.kernel.walk import Hop

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
    subject,
)

ROOTS = directory("0:0", 0o755)
OWN = directory("1001:1001", 0o755)
ALICE = host_user(1000, "alice")
DB = neighbour("container db", subject("999:999"))
OWNER = neighbour("container logs", subject("0:0", caps=Cap(0)))
SETTLED = facts(subject("1001:1001"), bind("/data", OWN))


def chosen(choice: Choice) -> list[tuple[str, str]]:
    return [(c.finding.code, c.remedy.name) for c in choice.chosen]


def left(choice: Choice) -> list[tuple[str, str]]:
    return [(n.finding.code, n.reason) for n in choice.left]


def recipes(choice: Choice) -> list[list[str]]:
    return [[r.name for r in j.recipes] for j in choice.jobs]


def tree(*rows: tuple[str, Inode, int], parent: Inode = OWN) -> BindFacts:
    return bind("/data", parent, tree=entries(*rows, parent=parent))


MIXED = (
    ("root's", inode("0:0", 0o644), 2),
    ("alice's", inode("1000:1000", 0o644), 5),
    ("secret", inode("0:0", 0o600), 1),
    ("own", inode("1001:1001", 0o200), 1),
)
ROOTS_AND_ALICES = tree(*MIXED)
FOR_TWO = tree(*MIXED, parent=directory("1001:1002", 0o775))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(SETTLED, [], id="nothing is wrong"),
        pytest.param(
            facts(subject("1001:1001"), bind("/data", ROOTS)),
            [("PD101", "chown-directory")],
            id="the best",
        ),
        pytest.param(
            facts(
                subject("1000:1000"),
                bind("/data", directory("999:999", 0o755)),
                neighbours=(DB,),
            ),
            [("PD101", "acl-user")],
            id="C13: what is enough by itself, and breaks nobody",
        ),
        pytest.param(
            facts(subject("1001:1001"), ROOTS_AND_ALICES),
            [
                ("PD111", "chmod-entries"),
                ("PD111", "acl-entries"),
                ("PD201", "chown-entries"),
                ("PD201", "acl-entries"),
            ],
            id="all that is needed for all entries",
        ),
        pytest.param(
            facts(subject("1001:1001"), tree(("root's", inode("0:0", 0o644), 2))),
            [("PD201", "chown-entries")],
            id="and no more",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                tree(("ckpt", inode("0:0", 0o666), 3), parent=directory("0:0", 0o1777)),
            ),
            [("PD202", "chown-entries")],
            id="undeletable, but not PD204",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                tree(("key", inode("1000:1000", 0o600), 1), parent=directory("0:0", 0o1777)),
            ),
            [("PD111", "acl-entries")],
            id="readable and writable at least, where it cannot be deleted",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                tree(("root's", inode("0:0", 0o644), 2)),
                neighbours=(OWNER,),
            ),
            [("PD201", "acl-entries")],
            id="where giving it away would take it from another, an entry",
        ),
        pytest.param(
            facts(
                (subject("1001:1001"), subject("1002:1002")),
                bind("/data", ROOTS),
            ),
            [("PD101", n) for n in ("chown-directory", "acl-user") * 2],
            id="two cannot own it",
        ),
    ],
)
def test_unnamed(case: Facts, expected: list[tuple[str, str]]) -> None:
    choice = jobs_of(diagnose(case))
    assert chosen(choice) == expected
    assert left(choice) == []
    assert len(choice.jobs) == bool(expected)


IDS = IdMap((Extent(inside=0, outside=0, count=65536),))


def idmapped() -> BindFacts:
    of = bind("/data", ROOTS)
    assert of.walk is not None
    mount = Mount(idmap=MountIdMap(uids=IDS, gids=IDS))
    hops = (*of.walk.hops[:-1], replace(of.walk.hops[-1], mount=mount))
    return replace(of, bind=replace(of.bind, mount=mount), walk=replace(of.walk, hops=hops))


@pytest.mark.parametrize(
    ("case", "code", "reason", "hint"),
    [
        pytest.param(
            facts(subject("1001:1001"), bind("/data", OWN, ro=True), needs=(("/data", "write"),)),
            "PD106",
            "only the way the container is started can be changed",
            "docker run --tmpfs",
            id="read-only",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                places=(place("/app", ("/app", ROOTS)),),
                needs=(("/app", "write"),),
            ),
            "PD101",
            "it does not lie on a mount of the host",
            "RUN chown 1001:1001 /app",
            id="in the image",
        ),
        pytest.param(
            facts(subject("1001:1001"), idmapped()),
            "PD101",
            "it is seen through an idmapped mount: its ids there are not the host's",
            "",
            id="idmapped",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/data", ROOTS, sb=Superblock(fstype="nfs4"))),
            "PD101",
            "nfs4: its server decides",
            "",
            id="NFS",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/data", ROOTS, sb=Superblock(fstype="vfat"))),
            "PD101",
            "vfat: the owner is an option of its mount",
            "findmnt",
            id="vfat",
        ),
        pytest.param(
            facts(subject("0:0"), bind("/data", directory("0:0", 0o755, immutable=True))),
            "PD108",
            "nothing that permdoctor changes would help",
            "lsattr",
            id="immutable",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind("/data", directory("999:999", 0o755), sb=Superblock(acls=False)),
                neighbours=(replace(DB, cred_of=subject("999:999", live=False)),),
            ),
            "PD101",
            "chown-directory would take from container db",
            "--remedy chown-directory",
            id="it would break somebody",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind("/data", directory("999:999", 0o755), sb=Superblock(acls=False)),
                neighbours=(DB,),
            ),
            "PD101",
            "shared-group leaves something to do: docker run --group-add 999 ...",
            "--remedy shared-group",
            id="half of it is the container's",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                tree(("alice's", inode("1000:1000", 0o666), 3), parent=directory("0:0", 0o1777)),
            ),
            "PD202",
            "nothing that permdoctor changes would help",
            "",
            id="a sticky directory keeps it for alice",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind(
                    "/data",
                    OWN,
                    sb=Superblock(acls=False),
                    tree=entries(("root's", inode("0:0", 0o644), 1), parent=OWN),
                ),
                neighbours=(OWNER,),
            ),
            "PD201",
            "chown-entries would take from container logs",
            "--remedy chown-entries",
            id="it would break somebody, below",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind("/data", ROOTS),
                of=container(labels=(("permdoctor.fix", "Off"),)),
            ),
            "PD101",
            "the container's label permdoctor.fix=Off says no",
            "chown 1001:1001 /srv/source",
            id="it opted out",
        ),
        pytest.param(
            facts(subject("1001:1001"), bind("/etc", ROOTS, source="/etc")),
            "PD101",
            "only the way the container is started can be changed",
            "docker run -v /etc/DIRECTORY",
            id="the host's own",
        ),
        pytest.param(
            facts(
                subject("1001:1001"),
                bind("/dev/x", inode("0:44", 0o660, FileType.CHARDEV), kind=MountKind.DEVICE),
            ),
            "PD110",
            "only the way the container is started can be changed",
            "docker run --group-add 44",
            id="a device",
        ),
    ],
)
def test_what_is_left_and_why(case: Facts, code: str, reason: str, hint: str) -> None:
    choice = jobs_of(diagnose(case))
    assert not choice.jobs
    assert not choice.chosen
    (one,) = choice.left
    assert one.finding.code == code
    assert one.reason.startswith(reason)
    assert one.hint.startswith(hint)


OPEN = facts(
    (subject("1001:1001"),),
    bind("/data", directory("0:0", 0o777)),
    bind("/other", ROOTS, source="/srv/other"),
)


@pytest.mark.parametrize(
    ("case", "remedy", "expected"),
    [
        pytest.param(OPEN, "chmod-others", [("PD204", "chmod-others")], id="too much is allowed"),
        pytest.param(OPEN, "acl-user", [("PD101", "acl-user")], id="another than the best"),
        pytest.param(
            facts(
                subject("1000:1000"),
                bind("/data", directory("999:999", 0o755)),
                neighbours=(DB,),
            ),
            "chown-directory",
            [("PD101", "chown-directory")],
            id="even what breaks somebody",
        ),
    ],
)
def test_by_name(case: Facts, remedy: str, expected: list[tuple[str, str]]) -> None:
    choice = jobs_of(diagnose(case), remedy=remedy)
    assert chosen(choice) == expected
    assert not choice.left
    assert not choice.optional
    assert recipes(choice) == [[remedy]]


CONFLICT = facts(subject("1000:1000"), bind("/data", directory("999:999", 0o755)), neighbours=(DB,))


@pytest.mark.parametrize(
    ("case", "remedy", "careful"),
    [
        pytest.param(CONFLICT, None, True, id="unnamed"),
        pytest.param(CONFLICT, "acl-user", True, id="named, and harmless as the report said"),
        pytest.param(CONFLICT, "chown-directory", False, id="named although it breaks somebody"),
    ],
)
def test_nothing_is_taken_unless_it_was_said(
    case: Facts, remedy: str | None, careful: bool
) -> None:
    (job,) = jobs_of(diagnose(case), remedy=remedy).jobs
    assert [r.careful for r in job.recipes if isinstance(r, Grant)] == [careful]


def test_entries_that_would_be_taken_from_somebody_say_so() -> None:
    of = facts(
        subject("1001:1001"),
        tree(("root's", inode("0:0", 0o644), 5)),
        neighbours=(OWNER,),
    )
    (found,) = (f for f in diagnose(of).findings if f.code == "PD201")
    acl, chown = found.remedies
    assert (acl.breaks, chown.breaks) == (False, True)
    (impact,) = chown.impacts
    assert (impact.who, impact.before) == ("container logs", "may use 5 of them")


def test_a_remedy_for_people_is_not_done() -> None:
    report = diagnose(facts(subject("1001:1001"), bind("/data", directory("1000:1000", 0o755))))
    choice = jobs_of(report, remedy="run-as-owner")
    assert left(choice) == [
        ("PD101", "run-as-owner is for people: Run as the owner: user 1000:1000")
    ]
    assert choice.jobs == ()


def test_what_could_be_done_too() -> None:
    (one,) = (c for c in jobs_of(diagnose(OPEN)).optional if c.finding.code == "PD204")
    assert (one.remedy.name, one.path) == ("chmod-others", b"/srv/source")


def test_mounts() -> None:
    both = facts(
        subject("1001:1001"),
        bind("/data", ROOTS),
        bind("/other", ROOTS, source="/srv/other"),
    )
    report = diagnose(both)
    assert [j.path for j in jobs_of(report).jobs] == [b"/srv/source", b"/srv/other"]
    assert [j.path for j in jobs_of(report, mounts=(b"/other/",)).jobs] == [b"/srv/other"]


@pytest.mark.parametrize(
    ("mounts", "remedy", "message", "hint"),
    [
        pytest.param((), "chown-dir", "no remedy chown-dir", "it has chown-directory, ", id="near"),
        pytest.param((), "\x1b[31m", r"no remedy \\x1b\[31m", "it has acl-user, ", id="hostile"),
        pytest.param((b"/dat",), None, "no mount /dat", "it has /data", id="mount"),
    ],
)
def test_unknown(mounts: tuple[bytes, ...], remedy: str | None, message: str, hint: str) -> None:
    report = diagnose(facts(subject("1001:1001"), bind("/data", ROOTS)))
    with pytest.raises(UsageError) as e:
        jobs_of(report, mounts=mounts, remedy=remedy)
    assert re.search(message, e.value.message)
    assert (e.value.hint or "").startswith(hint)


def test_nothing_to_name() -> None:
    with pytest.raises(UsageError) as e:
        jobs_of(diagnose(facts(subject("0:0"))), mounts=(b"/data",))
    assert e.value.hint == "it has no mount at all"


def test_a_job_knows_what_the_container_sees() -> None:
    of = bind("/data", ROOTS)
    assert of.walk is not None
    of = replace(of, walk=replace(of.walk, dev=8, ino=42))
    (job,) = jobs_of(diagnose(facts(subject("1001:1001"), of))).jobs
    assert (job.path, job.dev, job.ino) == (b"/srv/source", 8, 42)
    assert pickle.loads(pickle.dumps(job)) == job


def below(target: str, source: str) -> BindFacts:
    return bind(target, OWN, source=source, tree=entries(("w", inode("0:0", 0o600), 1), parent=OWN))


def noexec(of: BindFacts) -> BindFacts:
    return replace(of, bind=replace(of.bind, mount=replace(of.bind.mount, noexec=True)))


@pytest.mark.parametrize(
    ("inner", "jobs", "why"),
    [
        pytest.param(below("/b", "/srv/a/b"), [b"/srv/a"], [], id="the same for both: once"),
        pytest.param(
            bind("/b", ROOTS, source="/srv/a/b"),
            [b"/srv/a"],
            ["it lies in /srv/a, which is repaired as a whole"],
            id="something else: after it",
        ),
        pytest.param(
            noexec(below("/b", "/srv/a/b")), [b"/srv/a"], [], id="mounted otherwise: still once"
        ),
        pytest.param(below("/b", "/srv/ab"), [b"/srv/a", b"/srv/ab"], [], id="beside it"),
    ],
)
def test_trees_in_trees(inner: BindFacts, jobs: list[bytes], why: list[str]) -> None:
    report = diagnose(facts(subject("1001:1001"), below("/a", "/srv/a"), inner))
    choice = jobs_of(report)
    assert [j.path for j in choice.jobs] == jobs
    assert [n.reason for n in choice.left] == why
    assert len(choice.chosen) + len(choice.left) == 2


def repaired(of: Facts, jobs: tuple[Job, ...]) -> Facts:
    """The facts as they are when the jobs were done, by nothing but their recipes."""
    by_path = {j.path: j for j in jobs}

    def after(job: Job, parent: Inode | None, i: Inode) -> Inode:
        for r in job.recipes:
            if r.scope is Scope.ALL or (r.scope is Scope.ROOT) == (parent is None):
                i = r.change(parent, i) or i
        return i

    def bind_after(b: BindFacts) -> BindFacts:
        job = by_path.get(b.bind.host_path or b"")
        if job is None or b.walk is None:
            return b
        *way, last = b.walk.hops
        root = after(job, None, last.inode)
        hops = (*way, Hop(path=last.path, inode=root, mount=last.mount))
        classes = () if b.tree is None else b.tree.classes
        new: list[EntryClass] = []
        for c in classes:
            parent = root if c.parent == last.inode else after(job, root, c.parent)
            new.append(replace(c, parent=parent, inode=after(job, parent, c.inode)))
        tree = b.tree and replace(b.tree, classes=tuple(new))
        return replace(b, walk=replace(b.walk, hops=hops), tree=tree)

    return replace(of, binds=tuple(bind_after(b) for b in of.binds))


SUB = directory("0:0", 0o755)
NESTED = facts(
    subject("1001:1001"),
    bind(
        "/data",
        OWN,
        tree=replace(
            entries(("sub", SUB, 1), parent=OWN),
            classes=(
                *entries(("sub", SUB, 1), parent=OWN).classes,
                *entries(("sub/open", inode("1001:1001", 0o600), 1), parent=SUB).classes,
            ),
        ),
    ),
)
HEALED = [
    pytest.param(facts(subject("1001:1001"), bind("/data", ROOTS)), id="a directory"),
    pytest.param(facts(subject("1001:0"), bind("/data", ROOTS)), id="its group"),
    pytest.param(facts(subject("1001:1001"), bind("/data", directory("1001:1001", 0o555))), id="u"),
    pytest.param(facts(subject("1001:1001"), ROOTS_AND_ALICES), id="entries of all kinds"),
    pytest.param(
        facts(
            (subject("1001:1001"), subject("1002:0"), subject("1003:1003")), bind("/data", ROOTS)
        ),
        id="three subjects, one directory",
    ),
    pytest.param(
        facts((subject("1001:1001"), subject("1002:1002")), FOR_TWO),
        id="two subjects, many entries",
    ),
    pytest.param(
        facts(subject("1000:1000", ns=remapped()), bind("/data", directory("1000:1000", 0o700))),
        id="userns-remap",
    ),
    pytest.param(
        facts(
            subject("999:999"),
            bind("/pg", directory("0:0", 0o700)),
            needs=(("/pg", "own"),),
        ),
        id="to own",
    ),
    pytest.param(NESTED, id="undeletable for its directory"),
]


@pytest.mark.parametrize("case", HEALED)
def test_the_jobs_heal(case: Facts) -> None:
    report = diagnose(case)
    assert any(is_refused(f) for f in report.findings)
    choice = jobs_of(report)
    assert choice.left == ()
    again = diagnose(repaired(case, choice.jobs))
    assert [f.code for f in again.findings if is_refused(f)] == []


@pytest.mark.parametrize("case", HEALED)
def test_so_does_the_tree_by_its_path(case: Facts) -> None:
    host = case.binds[0].bind.host_path
    assert host is not None
    again = diagnose(repaired(case, (job_for(case, host),)))
    assert [f.code for f in again.findings if is_refused(f)] == []


def test_a_path_through_an_idmapped_mount_is_refused() -> None:
    with pytest.raises(UsageError, match="idmapped"):
        job_for(facts(subject("1001:1001"), idmapped()), b"/srv/source/sub")


def test_an_exec_session_is_not_what_the_container_is_for() -> None:
    visitor = subject("5:5")
    visitor = replace(
        visitor, processes=tuple(replace(p, via_exec=True) for p in visitor.processes)
    )
    job = job_for(facts((subject("1001:1001"), visitor), bind("/data", ROOTS)), b"/srv/source")
    assert {r.claim.cred.fsuid for r in job.recipes} == {1001}  # type: ignore[attr-defined]


def test_entries_that_no_command_would_help_are_not_named() -> None:
    """The remedy names those that its recipe changes, and the directory where that is the one."""
    report = diagnose(NESTED)
    by_code = {f.code: f for f in report.findings}
    assert by_code["PD202"].remedies[0].commands == ("chown -h 1001:1001 /srv/source/sub",)
    assert by_code["PD202"].remedies[0].proven
