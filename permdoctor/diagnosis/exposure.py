"""The other direction: what is allowed too much, and what will go wrong later.

Nothing here is refused to the container.  World-writable sources (``world_writable.py``), control
over the host, entries that the owner on the host cannot touch, one number that means two people,
two containers on one directory, and who will own the files that arrive.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.container.container import MountKind, is_engine_socket
from permdoctor.container.needs import PATH_VARIABLES, Need, PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts
from permdoctor.diagnosis.future import future_files, owner_on_host
from permdoctor.diagnosis.judge import judge, judge_entry
from permdoctor.diagnosis.parties import parties_of
from permdoctor.diagnosis.recipes import Claim, Give, Scope
from permdoctor.diagnosis.report import Finding, Remedy, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.system import narrow_mount
from permdoctor.diagnosis.world_writable import is_ours, world_writable
from permdoctor.kernel.filesystems import PSEUDO
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable

CONTROL = (
    b"/", b"/etc", b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib64", b"/boot", b"/root", b"/var",
    b"/var/lib", b"/home", b"/run", b"/opt", b"/var/lib/docker", b"/var/lib/containers",
    b"/var/run", b"/var/spool/cron", b"/lib/systemd", b"/usr/bin", b"/usr/lib", b"/usr/local/bin",
)  # fmt: skip
"""Writing here is, or soon becomes, root on the host."""

CONTROL_TREES = (b"/etc", b"/boot", b"/usr/lib", b"/usr/bin", b"/var/lib/docker/overlay2")


def exposures(facts: Facts, bind: BindFacts, need: PathNeed) -> Iterator[Finding]:
    """Every warning and note of one mount that does not come from a refusal."""
    walk = bind.walk
    if walk is None or walk.object is None:
        return
    root = walk.object.inode
    writers = tuple(
        i
        for i, s in enumerate(facts.subjects)
        if judge(s.cred, walk.hops, Need.WRITE, facts.sysctls).allowed
    )
    if bind.bind.fstype in PSEUDO:
        return
    yield from world_writable(facts, bind, root)
    yield from _host_control(facts, bind, root, writers)
    if need.need in (Need.WRITE, Need.OWN):
        yield from _leftovers(facts, bind, root)
        yield from _collisions(facts, bind, root, writers)
        yield from _conflicts(facts, bind)
        yield from future_files(facts, bind, root, writers)


def _host_control(
    facts: Facts, bind: BindFacts, root: Inode, writers: tuple[int, ...]
) -> Iterator[Finding]:
    """C14, C15: a mount through which the container is as good as root on the host."""
    host = bind.bind.host_path
    if host is None or not writers:
        return
    socket = root.type is FileType.SOCKET and is_engine_socket(host)
    named = host in CONTROL or any(is_beneath(host, t) for t in CONTROL_TREES)
    by_root = any(facts.subjects[i].cred.fsuid == 0 for i in writers)
    if not socket and not (named and (by_root or root.uid == 0) and not bind.bind.read_only):
        return
    target = bind.bind.target
    who = facts.subjects[writers[0]].label
    reason = (
        "the engine's socket: whoever may talk to it starts containers as root"
        if socket
        else f"{printable(host)} of the host, writable"
    )
    yield Finding(
        code="PD205",
        severity=Severity.WARNING,
        title=f"{printable(target)}: {who} can become root on the host",
        target=target,
        path=target,
        host_path=host,
        subject=writers[0],
        detail=(reason,),
        remedies=(
            Remedy(
                name="socket-proxy" if socket else "narrow-mount",
                title="Put a proxy before it that lets only the calls through that are needed"
                if socket
                else "Mount the one directory that is needed, read-only where that is enough",
                commands=() if socket else narrow_mount(host, target).commands,
                where="container",
            ),
        ),
    )


def _leftovers(facts: Facts, bind: BindFacts, root: Inode) -> Iterator[Finding]:
    """C12: in a tree of somebody's, entries that this somebody can neither write nor delete."""
    owner = owner_on_host(facts, bind, root)
    if owner is None or bind.tree is None:
        return
    if any(s.cred.fsuid == root.uid for s in facts.subjects):
        return  # then it is the container that cannot, and said so already
    foreign = {s.cred.fsuid for s in facts.subjects} | {0}
    stuck = [
        c
        for c in bind.tree.classes
        if c.inode.uid in foreign
        and judge_entry(owner.cred_of.cred, c.parent, c.inode, bind.bind.mount, Need.WRITE)
    ]
    if not stuck:
        return
    host, target = bind.bind.host_path, bind.bind.target
    assert host is not None
    uids = sorted({c.inode.uid for c in stuck if c.inode.uid is not None})
    to = f"{root.uid}:{root.gid}"
    assert root.gid is not None
    claim = Claim(
        cred=owner.cred_of.cred,
        mount=bind.bind.mount,
        need=Need.WRITE,
        spare=parties_of(facts, host),
    )
    recipe = Give(
        name="chown-leftovers",
        scope=Scope.BELOW,
        claim=claim,
        gid=root.gid,
        of=frozenset(uids),
        keeps_group=False,
    )
    yield Finding(
        code="PD203",
        severity=Severity.WARNING,
        title=f"{printable(target)}: {owner.who} cannot change or delete what is left there",
        target=target,
        path=target,
        host_path=host,
        count=sum(c.count for c in stuck),
        samples=_samples(stuck),
        detail=(
            f"owned by uid {', '.join(map(str, uids))} in a tree of {owner.who}; "
            "it will happen again with every file this container makes",
        ),
        remedies=(
            *_prevention(facts, bind, root, owner.cred_of),
            Remedy(
                name=recipe.name,
                title="Repair it: give back only what is owned by the wrong uid",
                commands=tuple(
                    f"find {path_argument(host)} -xdev -uid {u} -exec chown -h {to} {{}} +"
                    for u in uids
                ),
                why="with the container stopped",
                recipes=(recipe,) if is_ours(bind) else (),
            ),
        ),
    )


def _prevention(facts: Facts, bind: BindFacts, root: Inode, owner: Subject) -> Iterator[Remedy]:
    """Run it as the owner of the tree, where the owner can reach the tree inside, too."""
    ns = facts.subjects[0].cred.userns
    uid, gid = ns.uid(root.uid), ns.gid(root.gid)
    if not uid or gid is None or bind.walk is None or bind.bind.host_path is None:
        return
    target, ids = bind.bind.target, f"{uid}:{gid}"
    cred = replace(owner.cred, userns=ns)
    reaches = judge(cred, bind.walk.hops, Need.WRITE, facts.sysctls).allowed
    place = target if reaches else b"/" + target.rsplit(b"/", 1)[-1].lstrip(b".")
    mount = "" if reaches else f"-v {path_argument(bind.bind.host_path)}:{path_argument(place)} "
    variable = _cache_variable(facts, target)
    setting = f"-e {variable}={path_argument(place)} " if variable else ""
    yield Remedy(
        name="run-as-owner",
        title="Prevent it: run the container as the owner of the tree",
        commands=(
            f"docker run --user {ids} {mount}{setting}...",
            f'user: "{ids}"   # in compose.yaml',
        ),
        where="container",
        why="what it writes then belongs to the right user",
    )


def _cache_variable(facts: Facts, target: bytes) -> str:
    """The variable by which the program finds this directory; empty where none is known."""
    for name in PATH_VARIABLES:
        value = (facts.container.env_value(name) or "").encode("utf-8", "surrogateescape")
        if value.startswith(b"/") and is_beneath(value, target):
            return name
    return "HF_HOME" if b"huggingface" in target else ""


def _collisions(
    facts: Facts, bind: BindFacts, root: Inode, writers: tuple[int, ...]
) -> Iterator[Finding]:
    """S4's twin: the directory would have to be given to a number that is somebody else's."""
    if bind.bind.kind is not MountKind.BIND or bind.bind.mount.idmap is not None:
        return
    for i, s in enumerate(facts.subjects):
        uid = s.cred.fsuid
        name = next((n for u, n in facts.users.users if u == uid), "")
        if not name or uid in (0, root.uid) or not s.cred.userns.is_initial:
            continue
        if name == s.inside_user or i in writers:
            continue  # it may write without owning: somebody arranged that
        target = bind.bind.target
        yield Finding(
            code="PD206",
            severity=Severity.WARNING,
            title=f"{printable(target)}: uid {uid} is {printable(name)} on the host",
            target=target,
            path=target,
            host_path=bind.bind.host_path,
            subject=i,
            detail=(
                f"what the container writes will belong to {printable(name)}, who can read and "
                "change it",
                *((f"inside, {uid} is {printable(s.inside_user)}",) if s.inside_user else ()),
            ),
            remedies=(
                Remedy(
                    name="run-as-other",
                    title="Run the container under a number that is nobody's on the host",
                    commands=("docker run --user UID:GID ...",),
                    where="container",
                ),
            ),
        )


def _conflicts(facts: Facts, bind: BindFacts) -> Iterator[Finding]:
    """C13: another container writes here as another user, and only one of the two may."""
    walk = bind.walk
    assert walk is not None
    assert walk.object is not None
    root, host = walk.object.inode, bind.bind.host_path
    for i, s in enumerate(facts.subjects):
        mine = judge(s.cred, walk.hops, Need.WRITE, facts.sysctls).allowed
        for n in facts.neighbours:
            if not n.rw or not n.exact or n.host_path != host or not n.cred_of.processes:
                continue
            if n.cred_of.cred.fsuid == s.cred.fsuid:
                continue
            hop = replace(walk.object, inode=root, mount=n.mount)
            theirs = judge(n.cred_of.cred, (hop,), Need.WRITE, facts.sysctls).allowed
            if mine == theirs:
                continue
            target = bind.bind.target
            loser = s.label if not mine else n.who
            yield Finding(
                code="PD207",
                severity=Severity.WARNING,
                title=f"{printable(target)}: {n.who} mounts it writable too, as another user",
                target=target,
                path=target,
                host_path=host,
                subject=i,
                detail=(
                    f"{s.label} and {n.cred_of.label} share one directory and {loser} is refused; "
                    "a chown for one takes it from the other: share a group instead",
                ),
            )


def _samples(classes: list[EntryClass]) -> tuple[bytes, ...]:
    return tuple(s for c in classes for s in c.samples)[:3]
