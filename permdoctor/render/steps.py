"""The kernel's steps as sentences.  The explanation is made from them and from nothing else.

A sentence names the rule, the numbers it compared, and what came of it: ``class other applies:
r-x, asked for w: refused``.
"""

from __future__ import annotations

from typing import Final

from permdoctor.container.subject import Subject
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.caps import names as cap_names
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.verdict import Outcome, Rule, Step, Verdict, Want
from permdoctor.render.names import Names

_PLAIN: Final = {
    Rule.SB_READ_ONLY: "the filesystem itself is read-only (ro superblock)",
    Rule.MOUNT_READ_ONLY: "the mount is read-only (ro)",
    Rule.NOEXEC: "the mount is noexec: nothing on it can be executed",
    Rule.NODEV: "the mount is nodev: devices on it cannot be opened",
    Rule.IMMUTABLE: "it is immutable (chattr +i)",
    Rule.APPEND_ONLY: "it is append-only (chattr +a)",
    Rule.UNMAPPED: "its owner or group has no mapping: such an inode cannot be changed, "
    "by root either",
    Rule.ACL_SWITCHED_OFF: "its ACL does not count, because the group bits are ---: "
    "the mode bits decide",
    Rule.NO_X_BIT: "no x bit is set for anybody, and then no capability executes it",
    Rule.PROTECTED_SYMLINKS: "a symlink in a sticky, world-writable directory is followed only "
    "if its owner is the follower's or the directory's (fs.protected_symlinks)",
    Rule.PROTECTED_HARDLINKS: "only what one owns, or may read and write, can be hard-linked "
    "(fs.protected_hardlinks)",
    Rule.PROTECTED_CREATE: "O_CREAT of somebody else's file in a sticky directory "
    "(fs.protected_regular, fs.protected_fifos)",
    Rule.TOO_MANY_LINKS: "more than 40 symlinks on the way",
    Rule.CROSS_MOUNT: "it would cross from one mount to another",
    Rule.WRONG_TYPE: "it is of the wrong type",
    Rule.EXISTS: "it exists already",
    Rule.MISSING: "it does not exist",
    Rule.MOUNTPOINT: "something is mounted on it, or it is the root",
    Rule.NOT_IN_NAMESPACE: "the id does not exist in this user namespace",
    Rule.NO_ACL_SUPPORT: "the filesystem has no ACLs",
}

_CLASSES: Final = {
    Rule.OWNER_BITS: "owner",
    Rule.GROUP_BITS: "group",
    Rule.OTHER_BITS: "other",
}

_ACL_ENTRIES: Final = {
    Rule.ACL_USER: "user",
    Rule.ACL_OWNING_GROUP: "owning group",
    Rule.ACL_GROUP: "group",
    Rule.ACL_OTHER: "other",
}


def sentence(step: Step, subject: Subject, names: Names, inode: Inode | None = None) -> str:
    """One step.  ``inode`` is the one it was about, where the caller has it."""
    if step.rule in _CLASSES:
        return _class(step, names)
    if step.rule in _ACL_ENTRIES:
        return _acl_entry(step, names)
    match step.rule:
        case Rule.ACL_GROUP_CLASS:
            return f"a group entry matched and none covers {letters(step.want)}: refused"
        case Rule.CAPABILITY:
            return _capability(step, subject, names, inode)
        case Rule.OWNER:
            return f"it is the owner ({names.user(step.id)})"
        case Rule.NOT_OWNER:
            return f"only its owner, {names.user(step.id)}, may do this{_fowner(step, subject)}"
        case Rule.STICKY:
            return (
                f"the directory is sticky, and this belongs to {names.user(step.id)}"
                f"{_fowner(step, subject)}"
            )
        case Rule.UNREPRESENTABLE:
            kind = step.why or "id"
            shown = names.group(step.id) if kind == "gid" else names.user(step.id)
            return f"{kind} {shown} cannot be stored on this filesystem or idmapped mount"
        case _:
            return _PLAIN.get(step.rule, step.rule.value.replace("-", " "))


def reason(verdict: Verdict, subject: Subject, names: Names, inode: Inode | None = None) -> str:
    """The verdict in one sentence: what decided, and why no capability overrode it."""
    deciding = verdict.deciding
    if deciding is None:
        return ""
    last = sentence(deciding, subject, names, inode)
    if verdict.allowed or deciding.rule not in (Rule.CAPABILITY, Rule.NO_X_BIT):
        return last
    asked = next(
        (s for s in reversed(verdict.steps) if s.outcome is Outcome.PASSES and s.want), None
    )
    if asked is None:
        return last
    first = sentence(asked, subject, names, inode)
    if deciding.why == "absent" and subject.uid != 0:
        return first
    return f"{first}; {last}"


def letters(want: Want) -> str:
    """``rw`` for ``rw-``: what is asked for, as one says it."""
    return str(want).replace("-", "") or "nothing"


def _class(step: Step, names: Names) -> str:
    of = ""
    if step.rule is Rule.OWNER_BITS:
        of = f" ({names.user(step.id)})"
    elif step.rule is Rule.GROUP_BITS:
        of = f" ({names.group(step.id)})"
    return f"class {_CLASSES[step.rule]}{of} applies: {_compared(step, step.has)}"


def _acl_entry(step: Step, names: Names) -> str:
    entry = _ACL_ENTRIES[step.rule]
    if step.rule is Rule.ACL_USER:
        entry += f" {names.user(step.id)}"
    elif step.rule in (Rule.ACL_GROUP, Rule.ACL_OWNING_GROUP):
        entry += f" {names.group(step.id)}"
    if step.mask is None and step.outcome is Outcome.PASSES and step.rule is not Rule.ACL_OTHER:
        return f"ACL entry {entry} is {step.has}, which does not cover {letters(step.want)}"
    if step.mask is None or step.has is None:
        return f"ACL entry {entry} applies: {_compared(step, step.has)}"
    left = step.has & step.mask
    if left == step.has:
        return f"ACL entry {entry} applies: {_compared(step, step.has)}"
    compared = _compared(step, left)
    return f"ACL entry {entry} applies: {step.has}, of which the mask {step.mask} leaves {compared}"


def _compared(step: Step, has: Want | None) -> str:
    outcome = "granted" if step.outcome is Outcome.GRANTS else "refused"
    return f"{has}, asked for {letters(step.want)}: {outcome}"


def _capability(step: Step, subject: Subject, names: Names, inode: Inode | None) -> str:
    cap = "/".join(cap_names(step.cap)) or "the capability"
    if step.outcome is Outcome.GRANTS:
        return f"{cap} grants it"
    if step.why == "absent":
        return f"{_me(subject)} has no {cap}"
    return f"{cap} is in the effective set but {_unmapped(step, names, inode)}: it does not count"


def _unmapped(step: Step, names: Names, inode: Inode | None) -> str:
    if step.why == "gid-unmapped":
        which = (
            f"host gid {inode.gid}" if inode is not None and inode.gid is not None else "the group"
        )
    else:
        which = (
            f"host uid {inode.uid}" if inode is not None and inode.uid is not None else "the owner"
        )
    return f"{which} has no mapping in this user namespace"


def _fowner(step: Step, subject: Subject) -> str:
    if step.cap is Cap.NONE:
        return ""
    cap = "/".join(cap_names(step.cap))
    if step.why in ("uid-unmapped", "gid-unmapped"):
        return f"; {cap} does not count, as the id has no mapping in this user namespace"
    return f"; {_me(subject)} has no {cap}" if subject.uid == 0 else ""


def _me(subject: Subject) -> str:
    return "root here" if subject.uid == 0 else f"uid {subject.uid}"
