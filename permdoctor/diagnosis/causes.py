"""From a refusal to its code: which finding is this?

The deciding step names the cause.  Where several are true the one is taken that changes what to
do about it: an immutable file is not helped by chown, an unmapped owner not by a capability.
"""

from __future__ import annotations

from permdoctor.container.subject import Subject
from permdoctor.diagnosis.judge import EntryTrouble, Judgement, Phase
from permdoctor.kernel.inode import FileType
from permdoctor.kernel.verdict import Rule

_BY_RULE = {
    Rule.SB_READ_ONLY: "PD107",
    Rule.MOUNT_READ_ONLY: "PD106",
    Rule.IMMUTABLE: "PD108",
    Rule.APPEND_ONLY: "PD108",
    Rule.UNMAPPED: "PD105",
    Rule.UNREPRESENTABLE: "PD116",
    Rule.NOEXEC: "PD112",
    Rule.NODEV: "PD110",
    Rule.MISSING: "PD114",
}

_ACL_RULES = frozenset({Rule.ACL_USER, Rule.ACL_OWNING_GROUP, Rule.ACL_GROUP, Rule.ACL_GROUP_CLASS})

_BY_TROUBLE = {
    EntryTrouble.UNREADABLE: "PD111",
    EntryTrouble.UNWRITABLE: "PD201",
    EntryTrouble.UNDELETABLE: "PD202",
}


def code_of(judgement: Judgement, subject: Subject) -> str:
    """The code of a refused need at a mount's root or a named path."""
    assert judgement.phase is not None
    assert judgement.at is not None
    inode = judgement.at.inode
    rules = [s.rule for s in judgement.verdict.steps]
    last = rules[-1]
    if judgement.phase is Phase.WALK:
        return "PD103"
    if last in _BY_RULE:
        return _BY_RULE[last]
    if owner_unmapped(subject, judgement):
        return "PD105"
    if judgement.phase is Phase.OWN:
        return "PD109"
    if inode.type.is_device or inode.type is FileType.SOCKET:
        return "PD110"
    if subject.uid == 0:
        return "PD113"
    if last in _ACL_RULES or (len(rules) > 1 and rules[-2] in _ACL_RULES):
        return "PD104"
    return "PD102" if judgement.phase is Phase.READ else "PD101"


def owner_unmapped(subject: Subject, judgement: Judgement) -> bool:
    """Whether the refusing inode's owner does not exist in the subject's user namespace."""
    assert judgement.at is not None
    ns = subject.cred.userns
    if ns.is_initial:
        return False
    steps = judgement.verdict.steps
    return not ns.has_uid(judgement.at.inode.uid) or steps[-1].why == "gid-unmapped"


def code_of_trouble(trouble: EntryTrouble) -> str:
    return _BY_TROUBLE[trouble]
