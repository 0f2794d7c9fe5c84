"""On the host: owner, group, mode and ACL of the one inode that refuses.

Each is a recipe, and what it makes of the inode is what is proven; the commands say the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.diagnosis import edits
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.judge import Phase, operations_for
from permdoctor.diagnosis.parties import parties_of
from permdoctor.diagnosis.recipes import (
    Claim,
    Give,
    GroupBits,
    OwnerBits,
    Scope,
    SharedGroup,
    UserEntry,
)
from permdoctor.diagnosis.remedies.draft import (
    Draft,
    letters,
    rwx,
    shown,
    specs,
    verbs,
    with_recipe,
)
from permdoctor.diagnosis.report import Remedy
from permdoctor.kernel.acl import Tag
from permdoctor.kernel.ids import Gid, Kgid
from permdoctor.kernel.text import printable


def _phases(case: Case) -> tuple[Phase, ...]:
    """What is asked of the refusing inode: to pass through it, or what the need asks of it."""
    if case.judgement.phase is Phase.WALK:
        return (Phase.WALK,)
    if case.missing:
        return (Phase.WALK, Phase.CREATE)
    return operations_for(case.need.need, case.inode)


def _claim(case: Case) -> Claim:
    return Claim(
        cred=case.cred,
        mount=case.at.mount,
        need=case.need.need,
        phases=_phases(case),
        spare=parties_of(case.facts, case.host_path, but=case.subject),
    )


def chmod_group(case: Case) -> Iterator[Draft]:
    inode = case.inode
    recipe = GroupBits(name="chmod-group", scope=Scope.ROOT, claim=_claim(case))
    missing = letters(case.bits & ~(inode.mode >> 3))
    remedy = Remedy(
        name=recipe.name,
        title=f"Let group {inode.gid} {verbs(case.bits)}: the process is in it already",
        commands=(f"chmod g+{missing} {shown(case)}",),
        why="one bit of one object; the owner keeps it",
    )
    yield from with_recipe(5, recipe, case, remedy)


def chmod_owner(case: Case) -> Iterator[Draft]:
    """The process owns it already, and the owner's own bits refuse: only a mode can help."""
    recipe = OwnerBits(name="chmod-owner", scope=Scope.ROOT, claim=_claim(case))
    missing = letters(case.bits & ~(case.inode.mode >> 6))
    remedy = Remedy(
        name=recipe.name,
        title=f"Give its owner the missing bit: u+{missing}",
        commands=(f"chmod u+{missing} {shown(case)}",),
        why="the process is the owner; the owner's bits decide and refuse",
    )
    yield from with_recipe(4, recipe, case, remedy)


def chown(case: Case) -> Iterator[Draft]:
    inode, cred = case.inode, case.cred
    recipe = Give(
        name="chown-directory" if inode.is_dir else "chown-file",
        scope=Scope.ROOT,
        claim=_claim(case),
        gid=cred.fsgid,
        bits_too=True,
    )
    gid = recipe.new_gid(inode)
    who = f"{cred.fsuid}" if gid is None else f"{cred.fsuid}:{gid}"
    commands = [f"chown {who} {shown(case)}"]
    if case.bits & ~(inode.mode >> 6):
        commands.append(f"chmod u+{letters(case.bits)} {shown(case)}")
    what = "the directory only, nothing below it" if inode.is_dir else "this one file"
    remedy = Remedy(
        name=recipe.name,
        title=f"Give it to {who} ({what})",
        commands=tuple(commands),
        why=_account_hint(case),
        why_not=f"takes it from {_owner(case)}" if case.owner_is_a_user else "",
    )
    yield from with_recipe(40 if case.owner_is_a_user else 20, recipe, case, remedy)


def _account_hint(case: Case) -> str:
    uid = case.cred.fsuid
    if any(n == uid for n, _ in case.facts.users.users) or not case.cred.userns.is_initial:
        return ""
    return f"no host account has uid {uid}; ls will show the number (useradd -u {uid} names it)"


def _owner(case: Case) -> str:
    uid = case.inode.uid
    name = next((n for i, n in case.facts.users.users if i == uid), "")
    return f"{printable(name)} ({uid})" if name else f"uid {uid}"


def acl_user(case: Case) -> Iterator[Draft]:
    uid = case.cred.fsuid
    recipe = UserEntry(name="acl-user", scope=Scope.ROOT, claim=_claim(case))
    spec = f"u:{uid}:{rwx(case.bits | edits.entry_of(case.inode.acl, Tag.USER, uid))}"
    held_back = specs(edits.held_back(case.inode, (Tag.USER, uid)))
    remedy = Remedy(
        name=recipe.name,
        title=f"An ACL entry for uid {uid} alone; the owner stays",
        commands=(f"setfacl -m {','.join((spec, *held_back))} {shown(case)}",),
        why="least change: nobody else gains or loses anything",
    )
    yield from with_recipe(20 if case.owner_is_a_user else 30, recipe, case, remedy)


def shared_group(case: Case) -> Iterator[Draft]:
    """Two containers as different users: a group that both are in, kept by setgid."""
    others = {
        n.cred_of.cred.fsuid
        for n in case.facts.neighbours
        if n.rw and n.host_path == case.host_path and n.cred_of.processes
    } - {case.cred.fsuid}
    gid = _shared_gid(case)
    inside = case.cred.userns.gid(gid)
    if not others or inside is None:
        return
    cred = replace(case.cred, groups=case.cred.groups | {gid})
    claim = replace(_claim(case), cred=cred)
    recipe = SharedGroup(name="shared-group", scope=Scope.ROOT, claim=claim, gid=gid)
    by_hand = f"docker run --group-add {inside} ...   # for each of the containers"
    remedy = Remedy(
        name=recipe.name,
        title=f"One group ({gid}) for all containers that write here, kept by setgid",
        commands=(*_sharing(case, gid), by_hand),
        why="a chown for one container would take it from the other",
        by_hand=(by_hand,),
    )
    yield from with_recipe(8, recipe, case, remedy, cred)


def _sharing(case: Case, gid: int) -> Iterator[str]:
    place, acl = shown(case), case.inode.acl
    yield f"chgrp {gid} {place}"
    if acl is None:
        yield f"chmod g+rwxs {place}"
    else:
        entries = ("g::rwx", *specs(edits.held_back(case.inode, (Tag.GROUP_OBJ, None))))
        yield f"chmod g+s {place}"
        yield f"setfacl -m {','.join(entries)} {place}"
    if case.at.mount.sb.acls:
        yield f"setfacl -d -m g::rwx {place}"


def _shared_gid(case: Case) -> Kgid:
    """The directory's group if it is nobody's in particular, else the first free one."""
    if case.inode.gid:
        return case.inode.gid
    taken = {g for g, _ in case.facts.users.groups}
    base = case.cred.userns.kgid(Gid(2000)) or Kgid(2000)
    return next(Kgid(g) for g in range(base, base + 1000) if g not in taken)
