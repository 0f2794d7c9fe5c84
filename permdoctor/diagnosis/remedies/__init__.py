"""What would help, at the least privilege, proven by the same rules that refused.

A remedy that changes an inode or a subject is offered only if the need is met when the rules are
run again with the change made; and they are run for everybody else who uses the path, too.  Never
proposed: mode 777, a privileged container, root (but for a rootless engine, whose root is an
ordinary user).
"""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.container.container import MountKind
from permdoctor.container.needs import Need
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.remedies.container_side import (
    airflow,
    device,
    group_add,
    namespaces,
    read_only_mount,
    run_as_owner,
)
from permdoctor.diagnosis.remedies.draft import Draft, advice, shown
from permdoctor.diagnosis.remedies.host_side import (
    acl_user,
    chmod_group,
    chmod_owner,
    chown,
    shared_group,
)
from permdoctor.diagnosis.remedies.image_side import in_the_image, outside_the_image, tmpfs
from permdoctor.diagnosis.remedies.proof import prove
from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import quote
from permdoctor.diagnosis.system import is_system, narrow_mount
from permdoctor.kernel.filesystems import FAKED_OWNERS, SERVER_DECIDES, is_fuse
from permdoctor.kernel.permission import is_owner

LAST_RESORT = 90
"""Ranks from here on come after everything else, even what breaks somebody."""


def remedies_for(case: Case) -> tuple[Remedy, ...]:
    """All that helps, best first: proven before advice, harmless before harmful, by rank."""
    ranked: list[tuple[tuple[bool, bool, int], Remedy]] = []
    for draft in drafts(case):
        proven = prove(draft, case)
        if proven is not None:
            ranked.append(((draft.rank >= LAST_RESORT, proven.breaks, draft.rank), proven))
    return tuple(r for _, r in sorted(ranked, key=lambda r: r[0]))


def drafts(case: Case) -> Iterator[Draft]:
    fstype = case.at.mount.sb.fstype
    match case.code:
        case "PD106" if case.bind is None:
            yield from outside_the_image(case)
        case "PD106":
            yield from read_only_mount(case)
        case "PD107":
            yield advice(
                "remount-filesystem",
                "Find out why the filesystem is read-only, then remount it",
                (f"findmnt -T {shown(case)}", f"dmesg | grep -i {quote(fstype)}"),
                why="a filesystem turns read-only after errors; check it before remounting",
            )
        case "PD108":
            yield advice(
                "clear-flag",
                "Clear the immutable or append-only flag, if nobody set it on purpose",
                (f"lsattr -d {shown(case)}", f"chattr -i -a {shown(case)}"),
                why="the flag stops everybody, root too; ownership and mode do not matter",
            )
        case "PD110":
            yield from device(case)
        case "PD114":
            ids = f"-o {case.cred.fsuid} -g {case.cred.fsgid}"
            source = case.host_path if case.host_path is not None else case.at.path
            yield advice(
                "recreate-source",
                "Make the source again and restart the container, which holds the deleted one",
                (
                    f"install -d {ids} {quote(source)}",
                    f"docker restart {quote(case.facts.container.name)}",
                ),
            )
        case "PD112":
            yield advice(
                "mount-exec",
                "Keep programs in the image, or mount this filesystem without noexec",
                (f"findmnt -T {shown(case)} -o TARGET,OPTIONS",),
            )
        case "PD116":
            yield advice(
                "use-mapped-ids",
                "Run as a user and a group that the mount's id map covers",
                ("docker run --user UID:GID ...",),
                why="-u with a number alone has gid 0, which the map may not cover",
            )
        case _ if fstype in SERVER_DECIDES:
            yield from run_as_owner(case)
        case _ if fstype in FAKED_OWNERS or is_fuse(fstype):
            yield advice(
                "mount-options",
                "The filesystem makes the owner up: give it the right one when mounting",
                (f"findmnt -T {shown(case)} -o SOURCE,OPTIONS",),
                why="uid=, gid=, umask= or allow_other are options of the mount, chown is not",
            )
        case _:
            yield from _discretionary(case)


def _discretionary(case: Case) -> Iterator[Draft]:
    """Owner, group, mode and ACL: the directory's side, the container's side."""
    if case.bind is not None and case.bind.bind.kind is MountKind.TMPFS:
        yield tmpfs(case, "make-tmpfs-own", 10)
        return
    if case.host_path is None:
        yield from in_the_image(case)
        return
    data_root = case.facts.container.engine.data_root
    if case.bind is not None and is_system(case.host_path, data_root):
        yield Draft(rank=10, remedy=narrow_mount(case.host_path, case.bind.bind.target))
        return
    changeable = not case.at.mount.idmap_unknown and case.at.mount.idmap is None
    if changeable:
        yield from chmod_owner(case)
        if not is_owner(case.cred, case.inode):
            yield from _to_the_subject(case)
    yield from group_add(case)
    yield from run_as_owner(case)
    yield from namespaces(case)
    yield from airflow(case)


def _to_the_subject(case: Case) -> Iterator[Draft]:
    """The inode changed in favour of somebody who does not own it."""
    yield from chmod_group(case)
    yield from chown(case)
    if case.need.need is not Need.OWN:
        yield from acl_user(case)
        yield from shared_group(case)
