"""On the container: whom it runs as, its groups, its namespace, where it writes."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.container.container import is_engine_socket
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.remedies.draft import Draft, advice, ids_of, shown, writable_place
from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import quote
from permdoctor.kernel.caps import DOCKER_DEFAULT, Cap

POWERFUL = frozenset({"docker", "shadow", "disk", "sudo", "wheel", "adm", "lxd", "kvm", "root"})
"""Groups of the host whose members are more than users of a directory."""


def group_add(case: Case) -> Iterator[Draft]:
    """The object's group may do what is needed already: join it, and change nothing."""
    inode, ns = case.inode, case.cred.userns
    gid = ns.gid(inode.gid)
    name = next((n for g, n in case.facts.users.groups if g == inode.gid), "")
    if gid is None or not inode.gid or name in POWERFUL or case.bits & ~(inode.mode >> 3):
        return
    yield Draft(
        rank=9,
        cred=replace(case.cred, groups=case.cred.groups | {inode.gid}),
        remedy=Remedy(
            name="group-add",
            title=f"Add the group that may do it already: {inode.gid}",
            commands=(
                f"docker run --group-add {gid} ...",
                f'group_add: ["{gid}"]   # in compose.yaml',
            ),
            where="container",
            why="nothing on the host changes",
        ),
    )


def run_as_owner(case: Case) -> Iterator[Draft]:
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
    commands: tuple[str, ...] = (
        f"docker run --user {ids} ...",
        f'user: "{ids}"   # in compose.yaml',
    )
    if case.subject.processes and all(p.via_exec for p in case.subject.processes):
        commands = (f"docker exec -u {ids} {quote(case.facts.container.name)} ...",)
    if rootless_root:
        title = f"Run as the container's root, which is host uid {inode.uid} (rootless engine)"
        why = "under a rootless engine the container's root is the ordinary user who runs it"
    yield Draft(
        rank=10,
        cred=replace(case.cred, fsuid=inode.uid, fsgid=kgid, effective=effective),
        remedy=Remedy(
            name="run-as-container-root" if rootless_root else "run-as-owner",
            title=title,
            commands=commands,
            where="container",
            why=why,
        ),
    )


def namespaces(case: Case) -> Iterator[Draft]:
    engine, ns = case.facts.container.engine, case.cred.userns
    if ns.is_initial or case.bind is None:
        return
    if engine.bind_idmap and case.at.mount.sb.fstype in ("ext4", "xfs", "btrfs", "tmpfs"):
        target = quote(case.bind.bind.target)
        yield advice(
            "idmapped-mount",
            "Have the engine idmap the bind: ids inside and on the host are then the same",
            (f"docker run --mount type=bind,src={shown(case)},dst={target},bind-idmap ...",),
            where="container",
            rank=15,
        )
    if engine.userns_remap:
        yield advice(
            "userns-host",
            "Leave the user namespace for this one container",
            ("docker run --userns=host ...", 'userns_mode: "host"   # in compose.yaml'),
            where="container",
            why_not="gives up the protection that userns-remap is for; the last resort",
            rank=90,
        )


def airflow(case: Case) -> Iterator[Draft]:
    """Airflow's Compose file takes the uid from ``.env`` and defaults to 50000."""
    container = case.facts.container
    if not any(k.startswith("AIRFLOW") for k, _ in container.env):
        return
    uid = case.inode.uid if case.owner_is_a_user else None
    owner = next((s.cred.fsuid for s in case.facts.users.logins), uid) if uid is None else uid
    if owner is None:
        return
    yield advice(
        "airflow-uid",
        "Tell Airflow's Compose file whose directories these are",
        (f'echo "AIRFLOW_UID={owner}" >> .env',),
        where="compose",
        why="unset, the file falls back to 50000:0",
        why_not="" if case.owner_is_a_user else f"also: chown {owner}:0 {shown(case)}",
        rank=12 if case.owner_is_a_user else 25,
    )


def device(case: Case) -> Iterator[Draft]:
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
        yield advice(
            "acl-user",
            "Its group does not exist in the user namespace: an ACL entry on the node",
            (f"setfacl -m u:{case.cred.fsuid}:rw {shown(case)}",),
            why_not="udev makes the node anew at boot: write a rule for it",
        )
    yield advice(
        "udev-group",
        "Give the node a group of its own (udev), then add that group",
        (f"stat -c '%U:%G %a' {shown(case)}", "udevadm info --query=all --name=NODE"),
        rank=60,
    )


def read_only_mount(case: Case) -> Iterator[Draft]:
    """Written on a read-only mount: ownership is not the point, and ro is right for models."""
    variable = case.need.via or "HF_HOME"
    place = writable_place(case.facts, case.subject)
    name = variable if variable.isidentifier() else "HF_HOME"
    if place is not None:
        yield advice(
            "move-cache",
            "Keep :ro and point what is written at a directory the process owns",
            (f"docker run -e {name}={quote(place + b'/cache')} ...",),
            where="container",
            why="the mount's ownership is right; the mount itself is read-only",
            rank=10,
        )
    else:
        ids = ids_of(case.subject, case.cred)
        uid, gid = ids.split(":")
        yield advice(
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
        yield advice(
            "mount-writable",
            "Mount it writable, if this container is meant to change it",
            (f"docker run -v {shown(case)}:{quote(case.bind.bind.target)} ...   # without :ro",),
            where="container",
            why_not="whatever breaks out of the model server can then change the model",
            rank=70,
        )
