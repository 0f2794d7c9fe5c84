"""``permission()``: may these credentials read, write or search this inode?

Mirrors ``inode_permission`` and below it ``generic_permission``, ``acl_permission_check``
(``fs/namei.c``) and ``posix_acl_permission`` (``fs/posix_acl.c``) of Linux 6.12 and later.  The
first rule that decides is the answer.  What comes after DAC (the device cgroup, security modules)
and the mount's own read-only flag (see ``operations.py``) is not here.
"""

from __future__ import annotations

from permdoctor.kernel.acl import Acl, Tag
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.verdict import Errno, Outcome, Rule, Step, Verdict, Want


def permission(cred: Cred, inode: Inode, mount: Mount, want: Want, about: str = "") -> Verdict:
    """``inode_permission(idmap, inode, want)``: EROFS, EPERM, EACCES, or allowed."""
    steps: list[Step] = []

    def refuse(rule: Rule, code: Errno, id_: int | None = None) -> Verdict:
        steps.append(Step(rule=rule, outcome=Outcome.REFUSES, about=about, want=want, id=id_))
        return Verdict(errno=code, steps=tuple(steps))

    if want & Want.W:
        if mount.sb.read_only and not inode.type.is_special:
            return refuse(Rule.SB_READ_ONLY, Errno.EROFS)
        if inode.immutable:
            return refuse(Rule.IMMUTABLE, Errno.EPERM)
        if inode.uid is None or inode.gid is None:
            return refuse(Rule.UNMAPPED, Errno.EACCES)
    steps.append(_dac(cred, inode, mount, want, about, steps))
    if steps[-1].outcome is Outcome.GRANTS:
        return Verdict(errno=None, steps=tuple(steps))
    granted = _capability(cred, inode, want, about, steps)
    return Verdict(errno=None if granted else Errno.EACCES, steps=tuple(steps))


def capable_wrt(cred: Cred, inode: Inode, cap: Cap) -> bool:
    """``capable_wrt_inode_uidgid``: effective, and **both** ids mapped in the namespace."""
    return cred.has(cap) and cred.userns.has_uid(inode.uid) and cred.userns.has_gid(inode.gid)


def is_owner(cred: Cred, inode: Inode) -> bool:
    """``vfsuid_eq_kuid``: an unmapped owner is nobody."""
    return inode.uid is not None and inode.uid == cred.fsuid


def owner_or_capable(cred: Cred, inode: Inode) -> bool:
    """``inode_owner_or_capable``: the owner, or CAP_FOWNER with the **uid only** mapped."""
    return is_owner(cred, inode) or (cred.has(Cap.FOWNER) and cred.userns.has_uid(inode.uid))


def _dac(cred: Cred, inode: Inode, mount: Mount, want: Want, about: str, steps: list[Step]) -> Step:
    """The class that decides: owner, ACL, group, other.  Owner and group classes deny too."""

    def decide(rule: Rule, bits: int, id_: int | None) -> Step:
        has = Want(bits & 7)
        outcome = Outcome.PASSES if want & ~has else Outcome.GRANTS
        return Step(rule=rule, outcome=outcome, about=about, want=want, has=has, id=id_)

    if is_owner(cred, inode):
        return decide(Rule.OWNER_BITS, inode.mode >> 6, inode.uid)
    if inode.acl is not None and mount.sb.acls:
        if inode.mode & 0o070:
            return _acl(cred, inode, inode.acl, want, about, steps)
        steps.append(
            Step(rule=Rule.ACL_SWITCHED_OFF, outcome=Outcome.PASSES, about=about, want=want)
        )
    if cred.in_group(inode.gid):
        return decide(Rule.GROUP_BITS, inode.mode >> 3, inode.gid)
    return decide(Rule.OTHER_BITS, inode.mode, None)


def _acl(cred: Cred, inode: Inode, acl: Acl, want: Want, about: str, steps: list[Step]) -> Step:
    """``posix_acl_permission``.  One entry must cover all of ``want``: groups never add up."""

    def decide(rule: Rule, perm: int, id_: int | None, mask: int | None = None) -> Step:
        has = Want(perm & (7 if mask is None else mask))
        outcome = Outcome.PASSES if want & ~has else Outcome.GRANTS
        return Step(
            rule=rule,
            outcome=outcome,
            about=about,
            want=want,
            has=Want(perm),
            mask=None if mask is None else Want(mask),
            id=id_,
        )

    in_group_class = False
    rule: Rule
    id_: int | None
    for entry in acl.entries:
        match entry.tag:
            case Tag.USER if entry.id is not None and entry.id == cred.fsuid:
                return decide(Rule.ACL_USER, entry.perm, entry.id, acl.mask)
            case Tag.GROUP_OBJ if cred.in_group(inode.gid):
                rule, id_ = Rule.ACL_OWNING_GROUP, inode.gid
            case Tag.GROUP if entry.id is not None and (
                entry.id == cred.fsgid or entry.id in cred.groups
            ):
                rule, id_ = Rule.ACL_GROUP, entry.id
            case Tag.OTHER if not in_group_class:
                return decide(Rule.ACL_OTHER, entry.perm, None)
            case _:
                continue
        in_group_class = True
        if not want & ~Want(entry.perm):
            return decide(rule, entry.perm, id_, acl.mask)
        steps.append(decide(rule, entry.perm, id_))
    return Step(rule=Rule.ACL_GROUP_CLASS, outcome=Outcome.PASSES, about=about, want=want)


def _capability(cred: Cred, inode: Inode, want: Want, about: str, steps: list[Step]) -> bool:
    """The capability half of ``generic_permission``.  Appends the step that decides."""
    if inode.is_dir:
        search_only, override = not want & Want.W, True
    else:
        search_only, override = want == Want.R, not want & Want.X or inode.any_x
    if not override:
        steps.append(Step(rule=Rule.NO_X_BIT, outcome=Outcome.REFUSES, about=about, want=want))
        return False
    caps = [Cap.DAC_READ_SEARCH] * search_only + [Cap.DAC_OVERRIDE]
    for cap in caps:
        if capable_wrt(cred, inode, cap):
            steps.append(
                Step(rule=Rule.CAPABILITY, outcome=Outcome.GRANTS, about=about, want=want, cap=cap)
            )
            return True
    steps.append(
        Step(
            rule=Rule.CAPABILITY,
            outcome=Outcome.REFUSES,
            about=about,
            want=want,
            cap=Cap.DAC_OVERRIDE,
            why=why_not_capable(cred, inode, caps),
        )
    )
    return False


def why_not_capable(cred: Cred, inode: Inode, caps: list[Cap]) -> str:
    """``absent`` (not in the effective set), ``uid-unmapped`` or ``gid-unmapped``."""
    if not any(cred.has(c) for c in caps):
        return "absent"
    return "gid-unmapped" if cred.userns.has_uid(inode.uid) else "uid-unmapped"
