"""The JSON documents of ``fix``, ``undo`` and ``history``: their schema is generated from here.

Stable, and names are escaped, as in ``document.py``; what would break a reader makes
``permdoctor-repair/2``.  All ids are the host's.  Paths of samples and entries are relative to
their tree's ``path``; the tree's root itself is ``.``.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from permdoctor.render.document import FindingDoc, SkippedDoc

SchemaName = Literal["permdoctor-repair/1"]
SCHEMA: Final[SchemaName] = "permdoctor-repair/1"
ActName = Literal["repair", "undo"]
RightName = Literal["read", "search", "write", "own"]


class AclEntryDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is null for the owner's, the group's, the mask's and others' entries."""

    tag: Literal["user", "group", "mask", "other"]
    id: int | None
    perm: str


class StateDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair can change of an entry.  ``mode`` is octal text; an ACL is null where there
    is none beside the mode.
    """

    uid: int | None
    gid: int | None
    mode: str
    acl: list[AclEntryDoc] | None
    default_acl: list[AclEntryDoc] | None


class ChangeDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Entries that change alike.  ``text`` says it as the table does, ``drops`` what they lose."""

    type: str
    before: StateDoc
    after: StateDoc
    text: str
    count: int
    samples: list[str]
    drops: list[str]


class LeftDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Entries that are left alone.  ``reason`` is stable."""

    reason: str
    text: str
    detail: str
    count: int
    samples: list[str]


class TreeDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``entries`` were looked at, the root included."""

    path: str
    entries: int
    changes: list[ChangeDoc]
    left: list[LeftDoc]


class EffectDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose rights on ``count`` entries change."""

    who: str
    path: str
    gains: list[RightName]
    loses: list[RightName]
    count: int
    samples: list[str]


class ChosenDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, and the remedy that repairs it at ``path``."""

    finding: FindingDoc
    remedy: str
    path: str
    by_hand: list[str]


class NotFixableDoc(msgspec.Struct, frozen=True, kw_only=True):
    finding: FindingDoc
    reason: str
    hint: str


class PlanDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``stopped`` says why the plan is not complete; such a plan is never applied.

    ``live`` says why nobody is paused.  ``already`` and ``changed`` are of an undo.
    """

    count: int
    stopped: str
    trees: list[TreeDoc]
    chosen: list[ChosenDoc]
    optional: list[ChosenDoc]
    not_repaired: list[NotFixableDoc]
    effects: list[EffectDoc]
    pauses: list[str]
    live: str
    already: int
    changed: list[LeftDoc]
    command: str
    skipped: list[SkippedDoc]


class OutcomeDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``stopped`` says why the rest was not tried."""

    planned: int
    applied: int
    already: int
    left: list[LeftDoc]
    stopped: str


class CheckedDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A container judged before and after: codes of what is solved, what remains, what is new."""

    who: str
    solved: list[FindingDoc]
    remaining: list[FindingDoc]
    new: list[FindingDoc]
    failed: str


class ResultDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is what ``permdoctor undo`` takes.  ``solved``: all done, and the problem is gone."""

    id: str
    solved: bool
    outcome: OutcomeDoc
    target: CheckedDoc | None
    others: list[CheckedDoc]
    resumed: list[str]
    still_paused: list[SkippedDoc]


class RepairDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="repair"):
    """``permdoctor fix`` and ``undo`` with ``--format json``.  ``result`` is null where the plan
    was only shown.
    """

    schema: SchemaName
    version: str
    act: ActName
    what: str
    plan: PlanDoc
    result: ResultDoc | None


class PastDoc(msgspec.Struct, frozen=True, kw_only=True):
    """One journal.  ``started`` is UTC; ``of`` is what an undo undid."""

    id: str
    act: ActName
    status: str
    started: str
    host: str
    container: str
    remedies: list[str]
    roots: list[str]
    command: str
    of: str
    undone_by: str
    paused: list[str]
    trees: list[TreeDoc]
    outcome: OutcomeDoc | None
    damaged: str


class EntryDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``mark`` is what became of it; empty: it is not known."""

    path: str
    mark: str
    before: StateDoc
    after: StateDoc


class HistoryDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="history"):
    """``permdoctor history --format json``, the newest last."""

    schema: SchemaName
    version: str
    repairs: list[PastDoc]


class OneDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="journal"):
    """``permdoctor history show ID --format json``.  ``entries`` is null without ``--entries``."""

    schema: SchemaName
    version: str
    repair: PastDoc
    entries: list[EntryDoc] | None


Document = RepairDoc | HistoryDoc | OneDoc
