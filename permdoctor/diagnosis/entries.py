"""Entries below a mount's root: the classes of a tree judged one by one, and their remedies.

Remedies name exactly the entries that are wrong; never a blanket -R.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.container.needs import PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.causes import code_of_trouble
from permdoctor.diagnosis.details import owner_label
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts
from permdoctor.diagnosis.judge import EntryTrouble, judge_entry
from permdoctor.diagnosis.report import Finding, Remedy, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.system import is_system, narrow_mount
from permdoctor.kernel.filesystems import SERVER_DECIDES
from permdoctor.kernel.inode import FileType
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Verdict


def entry_findings(
    facts: Facts, bind: BindFacts, need: PathNeed, subject: int
) -> Iterator[Finding]:
    """What lies below the root, by trouble: the classes of a tree judged one by one."""
    if bind.tree is None:
        return
    s = facts.subjects[subject]
    troubled: dict[EntryTrouble, list[tuple[EntryClass, Verdict]]] = {}
    for c in bind.tree.classes:
        if c.samples == (b"lost+found",) and c.inode.uid == 0:
            continue  # mkfs made it, for fsck alone
        trouble = judge_entry(s.cred, c.parent, c.inode, bind.bind.mount, need.need)
        if trouble is not None:
            troubled.setdefault(trouble[0], []).append((c, trouble[1]))
    for kind, classes in troubled.items():
        yield _entries(facts, bind, subject, kind, classes)


_ENTRY_VERBS = {
    EntryTrouble.UNREADABLE: "cannot read or search",
    EntryTrouble.UNWRITABLE: "cannot change",
    EntryTrouble.UNDELETABLE: "cannot delete",
}


def _entries(
    facts: Facts,
    bind: BindFacts,
    subject: int,
    kind: EntryTrouble,
    classes: list[tuple[EntryClass, Verdict]],
) -> Finding:
    s, target = facts.subjects[subject], bind.bind.target
    count = sum(c.count for c, _ in classes)
    largest, verdict = max(classes, key=lambda c: c[0].count)
    sample = target.rstrip(b"/") + b"/" + largest.samples[0]
    steps = tuple(
        replace(step, about=printable(sample)) if step.about == "object" else step
        for step in verdict.steps
    )
    noun = "1 entry" if count == 1 else f"{count:,} entries"
    return Finding(
        code=code_of_trouble(kind),
        severity=Severity.ERROR if kind is EntryTrouble.UNREADABLE else Severity.WARNING,
        title=f"{s.label} {_ENTRY_VERBS[kind]} {noun} below {printable(target)}",
        target=target,
        path=target,
        host_path=bind.bind.host_path,
        subject=subject,
        verdict=replace(verdict, steps=steps),
        detail=tuple(
            f"{c.count:,} x {c.inode.type.name.lower()} {owner_label(c.inode)} "
            f"{c.inode.mode:04o}, such as {printable(c.samples[0])}"
            for c, _ in sorted(classes, key=lambda c: -c[0].count)[:3]
        ),
        count=count,
        samples=tuple(x for c, _ in classes for x in c.samples)[:3],
        remedies=entry_remedies(facts, bind, s, kind, [c for c, _ in classes]),
    )


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
    if is_system(host, facts.container.engine.data_root):
        return (narrow_mount(host, bind.bind.target),)
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
