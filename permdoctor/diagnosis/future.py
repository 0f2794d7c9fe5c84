"""Files that do not exist yet: who will own them, and who of the host's people can use them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.container.container import MountKind
from permdoctor.container.needs import Need
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, Facts, Neighbour
from permdoctor.diagnosis.judge import judge_entry
from permdoctor.diagnosis.recipes import Claim, DefaultEntry, Scope
from permdoctor.diagnosis.report import Finding, Remedy, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.system import is_system
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.operations import created
from permdoctor.kernel.permission import permission
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Want

_UMASK = 0o022


def owner_on_host(facts: Facts, bind: BindFacts, root: Inode) -> Neighbour | None:
    """The host account that owns the mount's root, unless that is root."""
    if not root.uid or bind.bind.mount.idmap is not None or bind.bind.mount.idmap_unknown:
        return None
    return next(
        (
            n
            for n in facts.neighbours
            if n.host_path == bind.bind.host_path
            and not n.cred_of.processes
            and n.cred_of.cred.fsuid == root.uid
        ),
        None,
    )


def future_files(
    facts: Facts, bind: BindFacts, root: Inode, writers: tuple[int, ...]
) -> Iterator[Finding]:
    """PD302 for the first subject whose files somebody of the host could not change.

    ``writers`` are the subjects that may write; of another it is asked what would come after the
    directory was given to it.
    """
    if not root.is_dir or bind.bind.kind is MountKind.TMPFS:
        return
    if is_system(bind.bind.host_path, facts.container.engine.data_root) or not root.mode & 0o077:
        return  # nobody else's business, or closed to others on purpose
    owner = owner_on_host(facts, bind, root)
    people = [*([owner.cred_of] if owner is not None else []), *facts.users.logins]
    for i, s in enumerate(facts.subjects):
        parent = root
        if i not in writers:
            parent = replace(root, uid=s.cred.fsuid, gid=s.cred.fsgid)
        umask = _UMASK if s.umask is None else s.umask
        file = created(s.cred, parent, bind.bind.mount, mode=0o666, umask=umask)
        strangers = [p for p in people if _cannot_use(p, s, parent, file, bind)]
        if strangers:
            yield _finding(bind, i, parent, file, umask, strangers)
            return


def _cannot_use(
    person: Subject, writer: Subject, parent: Inode, file: Inode, bind: BindFacts
) -> bool:
    if person.cred.fsuid in (0, writer.cred.fsuid):
        return False
    return judge_entry(person.cred, parent, file, bind.bind.mount, Need.WRITE) is not None


def _finding(
    bind: BindFacts,
    subject: int,
    parent: Inode,
    file: Inode,
    umask: int,
    strangers: list[Subject],
) -> Finding:
    target, host = bind.bind.target, bind.bind.host_path
    place = path_argument(host if host is not None else target)
    who = strangers[0].cred.fsuid
    lines = dict.fromkeys(
        f"{printable(p.host_user)} {_can(p, parent, file, bind)}" for p in strangers
    )
    mount = bind.bind.mount
    claim = Claim(cred=strangers[0].cred, mount=mount, need=Need.WRITE)
    recipe = DefaultEntry(name="default-acl", scope=Scope.ROOT, claim=claim)
    ours = host is not None and mount.sb.acls and mount.idmap is None and not mount.idmap_unknown
    return Finding(
        code="PD302",
        severity=Severity.INFO,
        title=f"{printable(target)}: new files will belong to {file.uid}:{file.gid}",
        target=target,
        path=target,
        host_path=host,
        subject=subject,
        detail=(
            f"new files will be {file.uid}:{file.gid} {file.mode:04o} (umask {umask:04o})",
            *lines,
        ),
        remedies=(
            Remedy(
                name=recipe.name,
                title="Let the people of the host at what arrives: a default ACL",
                commands=(
                    f"setfacl -d -m u:{who}:rwX {place}",
                    f"setfacl -m u:{who}:rwx {place}",
                ),
                recipes=(recipe,) if ours else (),
            ),
            Remedy(
                name="setgid-group",
                title="Or a shared group that new files inherit",
                commands=(f"chgrp GROUP {place}", f"chmod 2775 {place}"),
                why="with umask 002 in the container",
            ),
        ),
    )


def _can(person: Subject, parent: Inode, file: Inode, bind: BindFacts) -> str:
    mount = bind.bind.mount
    reaches = permission(person.cred, parent, mount, Want.X).allowed
    if reaches and permission(person.cred, file, mount, Want.R).allowed:
        return "can read them but not change or delete them"
    return "cannot read, change or delete them"
