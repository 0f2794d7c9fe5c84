"""Remedies for entries below a mount's root: exactly those that are wrong, never a blanket -R."""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts
from permdoctor.diagnosis.judge import EntryTrouble
from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import path_argument
from permdoctor.kernel.filesystems import SERVER_DECIDES
from permdoctor.kernel.inode import FileType

_NAMED = 3
"""So many entries are named one by one; more are found by owner and mode."""


def entry_remedies(
    facts: Facts,
    bind: BindFacts,
    subject: Subject,
    trouble: EntryTrouble,
    classes: list[EntryClass],
) -> tuple[Remedy, ...]:
    """Best first.  Nothing where the host has no path, or the owners are not its to change."""
    host = bind.bind.host_path
    mount = bind.bind.mount
    if host is None or mount.idmap is not None or mount.sb.fstype in SERVER_DECIDES:
        return ()
    if any(c.inode.immutable or c.inode.append_only for c in classes):
        named = " ".join(_paths(host, classes))
        return (
            Remedy(
                name="clear-flag",
                title="Clear the immutable or append-only flag, if nobody set it on purpose",
                commands=(f"lsattr -d {named}", f"chattr -i -a {named}"),
            ),
        )
    acl = _acl(host, subject, trouble, classes) if mount.sb.acls else None
    chown = _chown(host, subject, classes)
    ordered = (acl, chown) if trouble is EntryTrouble.UNREADABLE else (chown, acl)
    return tuple(r for r in ordered if r is not None)


def _acl(
    host: bytes, subject: Subject, trouble: EntryTrouble, classes: list[EntryClass]
) -> Remedy | None:
    if trouble is EntryTrouble.UNDELETABLE:
        return None
    perm = "rX" if trouble is EntryTrouble.UNREADABLE else "rwX"
    uid = subject.cred.fsuid
    return Remedy(
        name="acl-entries",
        title=f"An ACL entry for uid {uid} on these entries alone",
        commands=tuple(_commands(host, classes, f"setfacl -m u:{uid}:{perm}")),
        why="owners and modes stay as they are",
    )


def _chown(host: bytes, subject: Subject, classes: list[EntryClass]) -> Remedy | None:
    """Only for what root left behind: a user's entries are not given away."""
    stray = [c for c in classes if c.inode.uid == 0]
    if not stray or subject.cred.fsuid == 0:
        return None
    to = f"{subject.cred.fsuid}:{subject.cred.fsgid}"
    return Remedy(
        name="chown-entries",
        title=f"Give what root left behind to {to}",
        commands=tuple(_commands(host, stray, f"chown -h {to}")),
        why="with the container stopped",
    )


def _commands(host: bytes, classes: list[EntryClass], command: str) -> Iterator[str]:
    if sum(c.count for c in classes) <= _NAMED:
        yield f"{command} {' '.join(_paths(host, classes))}"
        return
    seen = sorted({(c.inode.uid, c.inode.mode, c.inode.type) for c in classes}, key=str)
    for uid, mode, type_ in seen:
        letter = "d" if type_ is FileType.DIRECTORY else "f"
        owner = f"-uid {uid} " if uid is not None else ""
        yield (
            f"find {path_argument(host)} -xdev -type {letter} {owner}-perm {mode:04o} "
            f"-exec {command} {{}} +"
        )


def _paths(host: bytes, classes: list[EntryClass]) -> list[str]:
    return [path_argument(host.rstrip(b"/") + b"/" + s) for c in classes for s in c.samples][
        :_NAMED
    ]
