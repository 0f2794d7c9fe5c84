"""What would help, at the least privilege, proven by the same rules that refused.

A remedy that changes an inode or a subject is offered only if the need is met when the rules are
run again with the change made; and they are run for everybody else who uses the path, too.  Never
proposed: mode 777, a privileged container, root (but for a rootless engine, whose root is an
ordinary user).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from permdoctor.container.container import MountKind
from permdoctor.container.needs import Need, PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, Facts, Neighbour
from permdoctor.diagnosis.judge import Judgement, Phase, ask, judge, operations_for
from permdoctor.diagnosis.report import Impact, Remedy
from permdoctor.diagnosis.shell import path_argument, quote
from permdoctor.kernel.acl import Tag, from_mode
from permdoctor.kernel.caps import DOCKER_DEFAULT, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.filesystems import FAKED_OWNERS, SERVER_DECIDES, is_fuse
from permdoctor.kernel.ids import Gid, Kgid
from permdoctor.kernel.inode import S_ISGID, Inode
from permdoctor.kernel.text import printable
from permdoctor.kernel.walk import Hop


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One refusal, with everything a remedy may ask about.

    ``bind`` is ``None`` for a path of the image.  ``host_path`` is the refusing object's place
    on the host, where it has one.
    """

    facts: Facts
    code: str
    subject: Subject
    need: PathNeed
    judgement: Judgement
    hops: tuple[Hop, ...]
    missing: bool = False
    bind: BindFacts | None = None
    host_path: bytes | None = None

    @property
    def at(self) -> Hop:
        assert self.judgement.at is not None
        return self.judgement.at

    @property
    def inode(self) -> Inode:
        return self.at.inode

    @property
    def cred(self) -> Cred:
        return self.subject.cred

    @property
    def bits(self) -> int:
        """The rwx bits that the need asks of the refusing inode."""
        if self.judgement.phase is Phase.WALK:
            return 1
        x = 1 if self.inode.is_dir else 0
        writes = Phase.READ not in operations_for(self.need.need, self.inode) or self.need.need in (
            Need.WRITE,
            Need.OWN,
        )
        return (6 if writes else 4) | x

    @property
    def owner_is_a_user(self) -> bool:
        """Whether the host owner is somebody who would miss the directory: not root."""
        return self.inode.uid is not None and self.inode.uid != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A remedy before its proof.  ``inode``/``cred`` are the world after it."""

    rank: int
    remedy: Remedy
    inode: Inode | None = None
    cred: Cred | None = None


def remedies_for(case: Case) -> tuple[Remedy, ...]:
    """All that helps, best first: proven before advice, harmless before harmful, by rank."""
    ranked: list[tuple[tuple[bool, int], Remedy]] = []
    for draft in _drafts(case):
        proven = _prove(draft, case)
        if proven is not None:
            breaks = any(i.breaks for i in proven.impacts)
            ranked.append(((breaks, draft.rank), proven))
    return tuple(r for _, r in sorted(ranked, key=lambda r: r[0]))


def _prove(draft: Draft, case: Case) -> Remedy | None:
    """The remedy with its proof and impacts; ``None`` if it would not help."""
    if draft.inode is None and draft.cred is None:
        return draft.remedy
    cred = draft.cred or case.cred
    hops = case.hops
    if draft.inode is not None:
        changed = replace(case.at, inode=draft.inode)
        hops = tuple(changed if h is case.at else h for h in hops)
    after = judge(cred, hops, case.need.need, case.facts.sysctls, missing=case.missing)
    if not after.allowed:
        return None
    remedy = replace(draft.remedy, proven=True)
    if draft.inode is not None:
        remedy = replace(remedy, impacts=impacts(case, draft.inode))
    if draft.cred is not None:
        lost = _lost_elsewhere(case, draft.cred)
        if lost:
            why_not = f"as {_ids(case.subject, draft.cred)} it would lose {', '.join(lost)}"
            remedy = replace(remedy, why_not=why_not, proven=False)
    return remedy


def impacts(case: Case, inode: Inode) -> tuple[Impact, ...]:
    """Everybody else who uses the path, before and after the inode changes."""
    return tuple(
        impact
        for n in case.facts.neighbours
        if case.host_path is not None and n.host_path == case.host_path
        for impact in [_impact(n, case.inode, inode)]
        if impact is not None
    )


def _impact(neighbour: Neighbour, old: Inode, new: Inode) -> Impact | None:
    cred = neighbour.cred_of.cred
    phases = operations_for(Need.WRITE if neighbour.rw else Need.READ, old)
    before = [p for p in phases if ask(cred, old, neighbour.mount, p).allowed]
    after = [p for p in phases if ask(cred, new, neighbour.mount, p).allowed]
    return Impact(
        who=neighbour.who,
        before=_may(before),
        after=_may(after),
        breaks=any(p not in after for p in before),
    )


def _may(phases: list[Phase]) -> str:
    if not phases:
        return "no access"
    return "may " + " and ".join("write" if p is Phase.CREATE else p.value for p in phases)


def _lost_elsewhere(case: Case, cred: Cred) -> tuple[str, ...]:
    """Other mounts that the subject may use now and would not with the new credentials."""
    lost = []
    for other in case.facts.binds:
        if other is case.bind or other.walk is None or other.walk.object is None:
            continue
        need = Need.READ if other.bind.read_only else Need.WRITE
        now = judge(case.cred, other.walk.hops, need, case.facts.sysctls)
        then = judge(cred, other.walk.hops, need, case.facts.sysctls)
        if now.allowed and not then.allowed:
            lost.append(printable(other.bind.target))
    return tuple(lost)


def _ids(subject: Subject, cred: Cred) -> str:
    ns = subject.cred.userns
    return f"{ns.uid(cred.fsuid)}:{ns.gid(cred.fsgid)}"


def _drafts(case: Case) -> Iterator[Draft]:
    fstype = case.at.mount.sb.fstype
    match case.code:
        case "PD106":
            yield from _read_only_mount(case)
        case "PD107":
            yield _advice(
                "remount-filesystem",
                "Find out why the filesystem is read-only, then remount it",
                (f"findmnt -T {_shown(case)}", f"dmesg | grep -i {quote(fstype)}"),
                why="a filesystem turns read-only after errors; check it before remounting",
            )
        case "PD108":
            yield _advice(
                "clear-flag",
                "Clear the immutable or append-only flag, if nobody set it on purpose",
                (f"lsattr -d {_shown(case)}", f"chattr -i -a {_shown(case)}"),
                why="the flag stops everybody, root too; ownership and mode do not matter",
            )
        case "PD110":
            yield from _device(case)
        case "PD112":
            yield _advice(
                "mount-exec",
                "Keep programs in the image, or mount this filesystem without noexec",
                (f"findmnt -T {_shown(case)} -o TARGET,OPTIONS",),
            )
        case "PD116":
            yield _advice(
                "use-mapped-ids",
                "Run as a user and a group that the mount's id map covers",
                ("docker run --user UID:GID ...",),
                why="-u with a number alone has gid 0, which the map may not cover",
            )
        case _ if fstype in SERVER_DECIDES:
            yield from _run_as_owner(case)
        case _ if fstype in FAKED_OWNERS or is_fuse(fstype):
            yield _advice(
                "mount-options",
                "The filesystem makes the owner up: give it the right one when mounting",
                (f"findmnt -T {_shown(case)} -o SOURCE,OPTIONS",),
                why="uid=, gid=, umask= or allow_other are options of the mount, chown is not",
            )
        case _:
            yield from _discretionary(case)


def _advice(
    name: str,
    title: str,
    commands: tuple[str, ...],
    *,
    where: str = "host",
    why: str = "",
    why_not: str = "",
    rank: int = 50,
) -> Draft:
    remedy = Remedy(
        name=name, title=title, commands=commands, where=where, why=why, why_not=why_not
    )
    return Draft(rank=rank, remedy=remedy)


def _shown(case: Case) -> str:
    """The refusing object's path on the host, as a shell word."""
    return path_argument(case.host_path if case.host_path is not None else case.at.path)


def _discretionary(case: Case) -> Iterator[Draft]:
    """Owner, group, mode and ACL: the directory's side, the container's side."""
    if case.bind is not None and case.bind.bind.kind is MountKind.TMPFS:
        yield _tmpfs(case, "make-tmpfs-own", 10)
        return
    if case.host_path is None:
        yield from _in_the_image(case)
        return
    changeable = not case.at.mount.idmap_unknown and case.at.mount.idmap is None
    if changeable:
        yield from _chmod_group(case)
        yield _chown(case)
        if case.need.need is not Need.OWN and case.at.mount.sb.acls:
            yield _acl_user(case)
        yield from _shared_group(case)
    yield from _run_as_owner(case)
    yield from _namespaces(case)
    yield from _airflow(case)


def _chmod_group(case: Case) -> Iterator[Draft]:
    inode = case.inode
    if not case.cred.in_group(inode.gid) or inode.uid == case.cred.fsuid:
        return
    letters = _letters(case.bits & ~(inode.mode >> 3))
    mode = inode.mode | case.bits << 3
    yield Draft(
        rank=5,
        inode=replace(inode, mode=mode, acl=inode.acl and inode.acl.with_mode(mode)),
        remedy=Remedy(
            name="chmod-group",
            title=f"Let group {inode.gid} {_verbs(case.bits)}: the process is in it already",
            commands=(f"chmod g+{letters} {_shown(case)}",),
            why="one bit of one object; the owner keeps it",
        ),
    )


def _chown(case: Case) -> Draft:
    inode, cred = case.inode, case.cred
    mode = inode.mode | case.bits << 6
    who = f"{cred.fsuid}:{cred.fsgid}"
    commands = [f"chown {who} {_shown(case)}"]
    if mode != inode.mode:
        commands.append(f"chmod u+{_letters(case.bits)} {_shown(case)}")
    what = "the directory only, nothing below it" if inode.is_dir else "this one file"
    return Draft(
        rank=40 if case.owner_is_a_user else 20,
        inode=replace(
            inode,
            uid=cred.fsuid,
            gid=cred.fsgid,
            mode=mode,
            acl=inode.acl and inode.acl.with_mode(mode),
        ),
        remedy=Remedy(
            name="chown-directory" if inode.is_dir else "chown-file",
            title=f"Give it to {who} ({what})",
            commands=tuple(commands),
            why=_account_hint(case),
            why_not=f"takes it from {_owner(case)}" if case.owner_is_a_user else "",
        ),
    )


def _account_hint(case: Case) -> str:
    uid = case.cred.fsuid
    if any(n == uid for n, _ in case.facts.users.users) or not case.cred.userns.is_initial:
        return ""
    return f"no host account has uid {uid}; ls will show the number (useradd -u {uid} names it)"


def _owner(case: Case) -> str:
    uid = case.inode.uid
    name = next((n for i, n in case.facts.users.users if i == uid), "")
    return f"{printable(name)} ({uid})" if name else f"uid {uid}"


def _acl_user(case: Case) -> Draft:
    inode, uid = case.inode, case.cred.fsuid
    perm = case.bits
    acl = (inode.acl or from_mode(inode.mode)).with_entry(Tag.USER, uid, perm)
    return Draft(
        rank=20 if case.owner_is_a_user else 30,
        inode=replace(inode, acl=acl, mode=inode.mode & ~0o777 | acl.mode),
        remedy=Remedy(
            name="acl-user",
            title=f"An ACL entry for uid {uid} alone; the owner stays",
            commands=(f"setfacl -m u:{uid}:{_rwx(perm)} {_shown(case)}",),
            why="least change: nobody else gains or loses anything",
        ),
    )


def _shared_group(case: Case) -> Iterator[Draft]:
    """Two containers as different users: a group that both are in, kept by setgid."""
    others = {
        n.cred_of.cred.fsuid
        for n in case.facts.neighbours
        if n.rw and n.host_path == case.host_path and n.cred_of.processes
    } - {case.cred.fsuid}
    ns = case.cred.userns
    if not others or not case.inode.is_dir or case.need.need is Need.OWN:
        return
    gid = _shared_gid(case)
    inside = ns.gid(gid)
    if inside is None:
        return
    acl = case.inode.acl and case.inode.acl.with_entry(Tag.GROUP, gid, 7)
    mode = case.inode.mode | S_ISGID | 0o070
    yield Draft(
        rank=8,
        inode=replace(case.inode, gid=gid, mode=mode, acl=acl),
        cred=replace(case.cred, groups=case.cred.groups | {gid}),
        remedy=Remedy(
            name="shared-group",
            title=f"One group ({gid}) for all containers that write here, kept by setgid",
            commands=(
                f"chgrp {gid} {_shown(case)}",
                f"chmod g+rwxs {_shown(case)}",
                f"setfacl -d -m g::rwx {_shown(case)}",
                f"docker run --group-add {inside} ...   # for each of the containers",
            ),
            why="a chown for one container would take it from the other",
        ),
    )


def _shared_gid(case: Case) -> Kgid:
    """The directory's group if it is nobody's in particular, else the first free one."""
    if case.inode.gid:
        return case.inode.gid
    taken = {g for g, _ in case.facts.users.groups}
    base = case.cred.userns.kgid(Gid(2000)) or Kgid(2000)
    return next(Kgid(g) for g in range(base, base + 1000) if g not in taken)


def _run_as_owner(case: Case) -> Iterator[Draft]:
    """``--user`` of the directory's owner, where that is not root and exists inside."""
    ns, inode = case.cred.userns, case.inode
    uid, gid = ns.uid(inode.uid), ns.gid(inode.gid)
    engine = case.facts.container.engine
    if uid is None or inode.uid is None or inode.uid == case.cred.fsuid:
        return
    rootless_root = uid == 0 and engine.rootless
    if uid == 0 and not rootless_root:
        return
    kgid = inode.gid if gid is not None and inode.gid is not None else case.cred.fsgid
    ids = f"{uid}:{ns.gid(kgid)}"
    effective = DOCKER_DEFAULT if rootless_root else Cap.NONE
    title = f"Run as the owner: user {ids}"
    why = "nothing on the host changes"
    if rootless_root:
        title = f"Run as the container's root, which is host uid {inode.uid} (rootless engine)"
        why = "under a rootless engine the container's root is the ordinary user who runs it"
    yield Draft(
        rank=10,
        cred=replace(case.cred, fsuid=inode.uid, fsgid=kgid, effective=effective),
        remedy=Remedy(
            name="run-as-container-root" if rootless_root else "run-as-owner",
            title=title,
            commands=(f"docker run --user {ids} ...", f'user: "{ids}"   # in compose.yaml'),
            where="container",
            why=why,
        ),
    )


def _namespaces(case: Case) -> Iterator[Draft]:
    engine, ns = case.facts.container.engine, case.cred.userns
    if ns.is_initial or case.bind is None:
        return
    if engine.bind_idmap and case.at.mount.sb.fstype in ("ext4", "xfs", "btrfs", "tmpfs"):
        target = quote(case.bind.bind.target)
        yield _advice(
            "idmapped-mount",
            "Have the engine idmap the bind: ids inside and on the host are then the same",
            (f"docker run --mount type=bind,src={_shown(case)},dst={target},bind-idmap ...",),
            where="container",
            rank=15,
        )
    if engine.userns_remap:
        yield _advice(
            "userns-host",
            "Leave the user namespace for this one container",
            ("docker run --userns=host ...", 'userns_mode: "host"   # in compose.yaml'),
            where="container",
            why_not="gives up the protection that userns-remap is for; the last resort",
            rank=90,
        )


def _airflow(case: Case) -> Iterator[Draft]:
    """Airflow's Compose file takes the uid from ``.env`` and defaults to 50000."""
    container = case.facts.container
    if not any(k.startswith("AIRFLOW") for k, _ in container.env):
        return
    uid = case.inode.uid if case.owner_is_a_user else None
    owner = next((s.cred.fsuid for s in case.facts.users.logins), uid) if uid is None else uid
    if owner is None:
        return
    yield _advice(
        "airflow-uid",
        "Tell Airflow's Compose file whose directories these are",
        (f'echo "AIRFLOW_UID={owner}" >> .env',),
        where="compose",
        why="unset, the file falls back to 50000:0",
        why_not="" if case.owner_is_a_user else f"also: chown {owner}:0 {_shown(case)}",
        rank=12 if case.owner_is_a_user else 25,
    )


def _device(case: Case) -> Iterator[Draft]:
    """A device or socket: the group that owns it, as a number, added to the container."""
    inode, ns = case.inode, case.cred.userns
    gid = ns.gid(inode.gid)
    if gid is not None and inode.gid:
        why_not = ""
        if is_engine_socket(case.host_path or case.at.path):
            why_not = "whoever may talk to this socket is root on the host"
        yield Draft(
            rank=10,
            cred=replace(case.cred, groups=case.cred.groups | {inode.gid}),
            remedy=Remedy(
                name="group-add",
                title=f"Add the node's group by number: {inode.gid}",
                commands=(
                    f"docker run --group-add {gid} ...",
                    f'group_add: ["{gid}"]   # in compose.yaml',
                ),
                where="container",
                why="by number: the host's group names mean nothing inside the image",
                why_not=why_not,
            ),
        )
    elif not ns.is_initial and inode.gid is not None:
        yield _advice(
            "acl-user",
            "Its group does not exist in the user namespace: an ACL entry on the node",
            (f"setfacl -m u:{case.cred.fsuid}:rw {_shown(case)}",),
            why_not="udev makes the node anew at boot: write a rule for it",
        )
    yield _advice(
        "udev-group",
        "Give the node a group of its own (udev), then add that group",
        (f"stat -c '%U:%G %a' {_shown(case)}", "udevadm info --query=all --name=NODE"),
        rank=60,
    )


ENGINE_SOCKETS = (b"docker.sock", b"podman.sock", b"containerd.sock", b"crio.sock")


def is_engine_socket(path: bytes) -> bool:
    """Whether a path is called like the control socket of a container engine."""
    return path.rsplit(b"/", 1)[-1] in ENGINE_SOCKETS


def _read_only_mount(case: Case) -> Iterator[Draft]:
    """Written on a read-only mount: ownership is not the point, and ro is right for models."""
    variable = case.need.via or "HF_HOME"
    place = writable_place(case.facts, case.subject)
    name = variable if variable.isidentifier() else "HF_HOME"
    if place is not None:
        yield _advice(
            "move-cache",
            "Keep :ro and point what is written at a directory the process owns",
            (f"docker run -e {name}={quote(place + b'/cache')} ...",),
            where="container",
            why="the mount's ownership is right; the mount itself is read-only",
            rank=10,
        )
    else:
        ids = _ids(case.subject, case.cred)
        uid, gid = ids.split(":")
        yield _advice(
            "move-cache",
            "Keep :ro and give what is written a small directory of its own",
            (
                f"docker run --tmpfs /cache:uid={uid},gid={gid},mode=0700 -e {name}=/cache ...",
                f"install -d -o {case.cred.fsuid} -g {case.cred.fsgid} -m 0700 DIR"
                f" && docker run -v DIR:/cache -e {name}=/cache ...   # to keep it",
            ),
            where="container",
            why="the mount itself is read-only; chown would change nothing",
            rank=10,
        )
    if case.bind is not None and case.bind.bind.requested is not None:
        yield _advice(
            "mount-writable",
            "Mount it writable, if this container is meant to change it",
            ("docker run -v SOURCE:TARGET ...   # without :ro",),
            where="container",
            why_not="whatever breaks out of the model server can then change the model",
            rank=70,
        )


def writable_place(facts: Facts, subject: Subject) -> bytes | None:
    """A mounted directory that the subject may write, for a cache to live in."""
    for b in facts.binds:
        if b.walk is None or b.walk.object is None or not b.walk.object.inode.is_dir:
            continue
        if b.bind.read_only or b.bind.kind not in (MountKind.BIND, MountKind.VOLUME):
            continue
        if judge(subject.cred, b.walk.hops, Need.WRITE, facts.sysctls).allowed:
            return b.bind.target
    return None


def _in_the_image(case: Case) -> Iterator[Draft]:
    """A path of the image: the host cannot help; the Dockerfile or a mount can."""
    path, ids = case.need.path, _ids(case.subject, case.cred)
    word = quote(path)
    if case.judgement.phase is Phase.WALK:
        yield _advice(
            "mount-elsewhere",
            f"Use a path the process can reach: {printable(case.at.path)} refuses the way",
            _elsewhere_commands(case),
            where="container",
            rank=10,
        )
        yield Draft(
            rank=40,
            inode=replace(case.inode, mode=case.inode.mode | 0o001),
            remedy=Remedy(
                name="dockerfile-search",
                title="Let others search that directory of the image (not list it)",
                commands=(f"RUN chmod o+x {quote(case.at.path)}",),
                where="dockerfile",
                why_not="everybody in the container may then reach what lies below it",
            ),
        )
        return
    home = case.need.via == "HOME"
    place = writable_place(case.facts, case.subject)
    if case.need.via and (place is not None or home):
        variable = "XDG_CACHE_HOME" if home else case.need.via
        directory = place + b"/cache" if place is not None else b"/tmp/cache"
        yield _advice(
            "set-variable",
            f"Point {variable} at a directory that the process may write",
            (f"docker run -e {variable}={quote(directory)} ...",),
            where="container",
            rank=10 if place is not None else 30,
        )
    mkdir = f"install -d -o {ids.split(':')[0]} -g {ids.split(':')[1]} {word}"
    uid, kgid = case.cred.fsuid, case.cred.fsgid
    mode = case.inode.mode | (case.bits | 1) << 6
    yield Draft(
        rank=15,
        inode=None if case.missing else replace(case.inode, uid=uid, gid=kgid, mode=mode),
        remedy=Remedy(
            name="dockerfile-chown",
            title="Give the directory to the user in the image",
            commands=(f"RUN {mkdir}" if case.missing else f"RUN chown {ids} {word}",),
            where="dockerfile",
            why="it lies under no mount: nothing on the host can change it",
        ),
    )
    yield _tmpfs(case, "tmpfs", 20)
    yield _advice(
        "volume",
        "Mount a directory of the host there, if it is to be kept",
        (f"install -d -o {uid} -g {kgid} -m 0755 DIR && docker run -v DIR:{word} ...",),
        where="container",
        rank=25,
    )


def _elsewhere_commands(case: Case) -> tuple[str, ...]:
    if case.bind is None or case.bind.bind.requested is None:
        return ("docker run -e HOME=/home/app ...   # a directory the process owns",)
    source = case.bind.bind.requested.volume or case.bind.bind.requested.source or b"SOURCE"
    name = case.bind.bind.target.rsplit(b"/", 1)[-1].lstrip(b".") or b"data"
    return (
        f"docker run -v {quote(source)}:{quote(b'/' + name)} ...   "
        "# and the program's variable (HF_HOME, ...) set to it",
    )


def _tmpfs(case: Case, name: str, rank: int) -> Draft:
    uid, gid = _ids(case.subject, case.cred).split(":")
    path = case.need.path if case.bind is None else case.bind.bind.target
    return _advice(
        name,
        "A tmpfs that the process owns, if it need not be kept",
        (f"docker run --tmpfs {quote(path)}:uid={uid},gid={gid},mode=0700 ...",),
        where="container",
        rank=rank,
    )


def _letters(bits: int) -> str:
    return "".join(c for c, b in (("r", 4), ("w", 2), ("x", 1)) if bits & b)


def _rwx(bits: int) -> str:
    return "".join(c if bits & b else "-" for c, b in (("r", 4), ("w", 2), ("x", 1)))


def _verbs(bits: int) -> str:
    return "write" if bits & 2 else "read" if bits & 4 else "search"
