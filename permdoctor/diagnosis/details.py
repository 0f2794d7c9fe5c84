"""The facts behind a refusal, as sentences."""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.causes import owner_unmapped
from permdoctor.diagnosis.judge import Phase
from permdoctor.kernel.ids import OVERFLOW_ID
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Rule


def owner_label(inode: Inode) -> str:
    """``uid:gid`` in host ids, as ls -n shows them."""

    def number(id_: int | None) -> str:
        return "unmapped" if id_ is None else str(id_)

    return f"{number(inode.uid)}:{number(inode.gid)}"


def details(case: Case) -> Iterator[str]:
    """The facts behind a refusal, as sentences."""
    inode, at = case.inode, case.at
    kind = inode.type.name.lower()
    where = f" ({printable(case.host_path)} on the host)" if case.host_path is not None else ""
    owner = owner_label(inode)
    names = _owner_names(case, inode)
    extra = " with an ACL" if inode.acl is not None and inode.acl.is_extended else ""
    yield f"{kind} {printable(at.path)}{where} is {owner}{names} {inode.mode:04o}{extra}"
    if case.need.via:
        yield f"needed: {case.need.need.value}, by {printable(case.need.via)}"
    if owner_unmapped(case.subject, case.judgement) and inode.uid is not None:
        yield (
            f"host id {owner} has no number in the container's user namespace: it shows there as "
            f"{OVERFLOW_ID}, and no capability of the container counts over it"
        )
    if case.code == "PD113":
        yield "uid 0 without CAP_DAC_OVERRIDE is an ordinary user: the mode bits apply to it"
    if case.code == "PD106":
        yield "the mount is read-only; the ownership of what it shows is not the reason"
    if case.code == "PD109":
        yield (
            "writing may be allowed, but chmod and chown are the owner's alone: "
            "neither mode bits nor an ACL give them"
        )
    group_decides = any(s.rule is Rule.GROUP_BITS for s in case.judgement.verdict.steps[-2:])
    if case.judgement.phase is Phase.CREATE and group_decides and not inode.mode & 0o020:
        yield "the process is in the directory's group, but g+w is missing"


def _owner_names(case: Case, inode: Inode) -> str:
    user = next((n for u, n in case.facts.users.users if u == inode.uid), "")
    group = next((n for g, n in case.facts.users.groups if g == inode.gid), "")
    return f" ({printable(user or '-')}:{printable(group or '-')})" if user or group else ""
