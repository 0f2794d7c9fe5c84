"""Proposals, results and the history as the documents of ``repair_document.py``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from permdoctor.container.subject import Subject
from permdoctor.diagnosis.choice import Chosen, NotFixable
from permdoctor.diagnosis.effects import Effect, Right
from permdoctor.diagnosis.facts import HostUsers
from permdoctor.diagnosis.plan import Change, Left, Outcome, TreePlan
from permdoctor.diagnosis.proposal import Act, ChangedEntry, Checked, Past, Proposal, Result
from permdoctor.kernel.acl import Acl, Tag
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.text import printable
from permdoctor.render import repair_document as doc
from permdoctor.render.convert import finding_document, skipped_document
from permdoctor.render.difference import difference
from permdoctor.render.layout import one_line
from permdoctor.render.plan import REASONS

_TAGS: Final[dict[Tag, Literal["user", "group", "mask", "other"]]] = {
    Tag.USER_OBJ: "user",
    Tag.USER: "user",
    Tag.GROUP_OBJ: "group",
    Tag.GROUP: "group",
    Tag.MASK: "mask",
    Tag.OTHER: "other",
}
_ACTS: Final[dict[Act, doc.ActName]] = {Act.REPAIR: "repair", Act.UNDO: "undo"}
_RIGHTS: Final[dict[Right, doc.RightName]] = {
    Right.READ: "read",
    Right.SEARCH: "search",
    Right.WRITE: "write",
    Right.OWN: "own",
}


def repair_document(of: Proposal, result: Result | None, version: str) -> doc.RepairDoc:
    return doc.RepairDoc(
        schema=doc.SCHEMA,
        version=version,
        act=_ACTS[of.act],
        what=one_line(of.what),
        plan=_plan(of),
        result=None if result is None else _result(result, of),
    )


def history_document(of: Iterable[Past], version: str) -> doc.HistoryDoc:
    return doc.HistoryDoc(
        schema=doc.SCHEMA, version=version, repairs=[past_document(p) for p in of]
    )


def past_document(of: Past) -> doc.PastDoc:
    return doc.PastDoc(
        id=printable(of.id),
        act=_ACTS[of.act],
        status=of.status,
        started=of.started,
        host=printable(of.host),
        container=printable(of.container),
        remedies=[printable(r) for r in of.remedies],
        roots=[printable(r) for r in of.roots],
        command=one_line(of.command),
        of=printable(of.of),
        undone_by=printable(of.undone_by),
        paused=[printable(p) for p in of.paused],
        trees=[] if of.summary is None else [_tree(t, HostUsers()) for t in of.summary.trees],
        outcome=None if of.outcome is None else _outcome(of.outcome),
        damaged=one_line(of.damaged),
    )


def entry_document(of: ChangedEntry) -> doc.EntryDoc:
    return doc.EntryDoc(
        path=printable(of.path), mark=of.mark, before=_state(of.before), after=_state(of.after)
    )


def _plan(of: Proposal) -> doc.PlanDoc:
    choice, subjects = of.choice, of.subjects
    return doc.PlanDoc(
        count=of.summary.count,
        stopped=one_line(of.summary.stopped),
        trees=[_tree(t, of.names) for t in of.summary.trees],
        chosen=[_chosen(c, subjects) for c in choice.chosen] if choice else [],
        optional=[_chosen(c, subjects) for c in choice.optional] if choice else [],
        not_repaired=[_not_fixable(n, subjects) for n in choice.left] if choice else [],
        effects=[_effect(e) for e in of.effects],
        pauses=[printable(p) for p in of.pauses],
        live=one_line(of.live),
        already=of.already,
        changed=[_left(x) for x in of.changed],
        command=one_line(of.command),
        skipped=[skipped_document(s) for s in of.skipped],
    )


def _tree(of: TreePlan, names: HostUsers) -> doc.TreeDoc:
    return doc.TreeDoc(
        path=printable(of.path),
        entries=of.entries,
        changes=[_change(c, names) for c in of.changes],
        left=[_left(x) for x in of.left],
    )


def _change(of: Change, names: HostUsers) -> doc.ChangeDoc:
    return doc.ChangeDoc(
        type=of.before.type.name.lower(),
        before=_state(of.before),
        after=_state(of.after),
        text=one_line(difference(of.before, of.after, names)),
        count=of.count,
        samples=[printable(s) for s in of.samples],
        drops=list(of.drops),
    )


def _state(of: Inode) -> doc.StateDoc:
    return doc.StateDoc(
        uid=of.uid,
        gid=of.gid,
        mode=f"{of.mode:04o}",
        acl=_acl(of.acl),
        default_acl=_acl(of.default_acl),
    )


def _acl(of: Acl | None) -> list[doc.AclEntryDoc] | None:
    if of is None:
        return None
    return [
        doc.AclEntryDoc(
            tag=_TAGS[e.tag],
            id=e.id,
            perm="".join(c if e.perm & b else "-" for c, b in (("r", 4), ("w", 2), ("x", 1))),
        )
        for e in of.entries
    ]


def _left(of: Left) -> doc.LeftDoc:
    return doc.LeftDoc(
        reason=of.reason.value,
        text=REASONS[of.reason],
        detail=one_line(of.detail),
        count=of.count,
        samples=[printable(s) for s in of.samples],
    )


def _effect(of: Effect) -> doc.EffectDoc:
    return doc.EffectDoc(
        who=one_line(of.who),
        path=printable(of.path),
        gains=[_RIGHTS[r] for r in of.gains],
        loses=[_RIGHTS[r] for r in of.loses],
        count=of.count,
        samples=[printable(s) for s in of.samples],
    )


def _chosen(of: Chosen, subjects: tuple[Subject, ...]) -> doc.ChosenDoc:
    return doc.ChosenDoc(
        finding=finding_document(of.finding, subjects),
        remedy=of.remedy.name,
        path=printable(of.path),
        by_hand=[one_line(c) for c in of.remedy.by_hand],
    )


def _not_fixable(of: NotFixable, subjects: tuple[Subject, ...]) -> doc.NotFixableDoc:
    return doc.NotFixableDoc(
        finding=finding_document(of.finding, subjects),
        reason=one_line(of.reason),
        hint=one_line(of.hint),
    )


def _outcome(of: Outcome) -> doc.OutcomeDoc:
    return doc.OutcomeDoc(
        planned=of.planned,
        applied=of.applied,
        already=of.already,
        left=[_left(x) for x in of.left],
        stopped=one_line(of.stopped),
    )


def _result(of: Result, proposal: Proposal) -> doc.ResultDoc:
    return doc.ResultDoc(
        id=printable(of.id),
        solved=proposal.is_solved_by(of),
        outcome=_outcome(of.outcome),
        target=None if of.target is None else _checked(of.target),
        others=[_checked(c) for c in of.others],
        resumed=[printable(p) for p in of.resumed],
        still_paused=[skipped_document(s) for s in of.stuck],
    )


def _checked(of: Checked) -> doc.CheckedDoc:
    return doc.CheckedDoc(
        who=one_line(of.who),
        solved=[finding_document(f, of.before) for f in of.solved],
        remaining=[finding_document(f, of.after) for f in of.remaining],
        new=[finding_document(f, of.after) for f in of.new],
        failed=one_line(of.failed),
    )
