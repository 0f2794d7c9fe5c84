"""On the host: owner, group, mode and ACL of the one inode that refuses."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.container.needs import Need
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.remedies.draft import Draft, letters, rwx, shown, verbs
from permdoctor.diagnosis.report import Remedy
from permdoctor.kernel.acl import Tag, from_mode
from permdoctor.kernel.ids import Gid, Kgid
from permdoctor.kernel.inode import S_ISGID
from permdoctor.kernel.permission import is_owner
from permdoctor.kernel.text import printable


def chmod_group(case: Case) -> Iterator[Draft]:
    inode = case.inode
    if not case.cred.in_group(inode.gid) or inode.uid == case.cred.fsuid:
        return
    missing = letters(case.bits & ~(inode.mode >> 3))
    mode = inode.mode | case.bits << 3
    yield Draft(
        rank=5,
        inode=replace(inode, mode=mode, acl=inode.acl and inode.acl.with_mode(mode)),
        remedy=Remedy(
            name="chmod-group",
            title=f"Let group {inode.gid} {verbs(case.bits)}: the process is in it already",
            commands=(f"chmod g+{missing} {shown(case)}",),
            why="one bit of one object; the owner keeps it",
        ),
    )


def chmod_owner(case: Case) -> Iterator[Draft]:
    """The process owns it already, and the owner's own bits refuse: only a mode can help."""
    inode = case.inode
    if not is_owner(case.cred, inode):
        return
    mode = inode.mode | case.bits << 6
    missing = letters(case.bits & ~(inode.mode >> 6))
    yield Draft(
        rank=4,
        inode=replace(inode, mode=mode, acl=inode.acl and inode.acl.with_mode(mode)),
        remedy=Remedy(
            name="chmod-owner",
            title=f"Give its owner the missing bit: u+{missing}",
            commands=(f"chmod u+{missing} {shown(case)}",),
            why="the process is the owner; the owner's bits decide and refuse",
        ),
    )


def chown(case: Case) -> Draft:
    inode, cred = case.inode, case.cred
    mode = inode.mode | case.bits << 6
    keeps_group = bool(inode.gid) and bool(inode.mode & 0o2020)
    who = f"{cred.fsuid}" if keeps_group else f"{cred.fsuid}:{cred.fsgid}"
    commands = [f"chown {who} {shown(case)}"]
    if mode != inode.mode:
        commands.append(f"chmod u+{letters(case.bits)} {shown(case)}")
    what = "the directory only, nothing below it" if inode.is_dir else "this one file"
    return Draft(
        rank=40 if case.owner_is_a_user else 20,
        inode=replace(
            inode,
            uid=cred.fsuid,
            gid=inode.gid if keeps_group else cred.fsgid,
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


def acl_user(case: Case) -> Draft:
    inode, uid = case.inode, case.cred.fsuid
    perm = case.bits
    acl = (inode.acl or from_mode(inode.mode)).with_entry(Tag.USER, uid, perm)
    return Draft(
        rank=20 if case.owner_is_a_user else 30,
        inode=replace(inode, acl=acl, mode=inode.mode & ~0o777 | acl.mode),
        remedy=Remedy(
            name="acl-user",
            title=f"An ACL entry for uid {uid} alone; the owner stays",
            commands=(f"setfacl -m u:{uid}:{rwx(perm)} {shown(case)}",),
            why="least change: nobody else gains or loses anything",
        ),
    )


def shared_group(case: Case) -> Iterator[Draft]:
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
                f"chgrp {gid} {shown(case)}",
                f"chmod g+rwxs {shown(case)}",
                f"setfacl -d -m g::rwx {shown(case)}",
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
