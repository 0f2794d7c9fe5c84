"""What a person is shown of a repair: before it, after it, and in the history.

A :class:`Proposal` is everything that is known before the first change, a :class:`Result` what
came of it.  ``fix`` and ``undo`` have the same two.  Names of ids are the host's.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from permdoctor.container.subject import Subject
from permdoctor.diagnosis.choice import Choice
from permdoctor.diagnosis.effects import Effect
from permdoctor.diagnosis.facts import HostUsers
from permdoctor.diagnosis.plan import Left, Outcome, Summary
from permdoctor.diagnosis.report import Finding, Skipped
from permdoctor.kernel.inode import Inode


class Act(StrEnum):
    """Which way it goes."""

    REPAIR = "repair"
    UNDO = "undo"


class Proposal(Struct, frozen=True, kw_only=True):
    """A plan, and what it means.

    ``what`` is whom or what it is for: a container's name, a path, the id of what is undone.
    ``pauses`` are the containers that stand still meanwhile; ``live`` says why nobody does
    (empty: somebody does, or nobody mounts it writable).  ``command`` is the line that applies
    the plan.
    ``subjects`` are those of the container, whom findings name by their index.
    ``already`` and ``changed`` are of an undo: entries that are as they were before, and what
    somebody changed since.
    """

    act: Act
    what: str
    summary: Summary
    command: str
    choice: Choice | None = None
    effects: tuple[Effect, ...] = ()
    pauses: tuple[str, ...] = ()
    live: str = ""
    names: HostUsers = field(default_factory=HostUsers)
    subjects: tuple[Subject, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    already: int = 0
    changed: tuple[Left, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to change."""
        return self.summary.count == 0 and not self.summary.stopped

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done, or would have to be and cannot."""
        left = self.choice.left if self.choice is not None else ()
        return bool(not self.is_empty or self.changed or left or self._skips)

    def is_solved_by(self, result: Result) -> bool:
        """Whether nothing is left to wish for.  An undo brings old problems back: that is meant."""
        if self.act is Act.UNDO:
            return result.done and not self.changed
        return result.done and result.helped and not self.unrepaired

    @property
    def unrepaired(self) -> int:
        """Entries that are wrong and skipped, where a tree is to be right as a whole; 0 for what
        was chosen by its findings: judging again says whether it matters.
        """
        return 0 if self.choice is not None else self._skips

    @property
    def _skips(self) -> int:
        return sum(each.count for t in self.summary.trees for each in t.left)


class Checked(Struct, frozen=True, kw_only=True):
    """One container, judged before and after.  ``solved``, ``remaining`` and ``new`` are its
    refusals (errors and, for the container that is repaired, what was chosen); ``before`` and
    ``after`` are its subjects, whom these name by their index.  ``failed`` says why it could not be
    judged again.
    """

    who: str
    before: tuple[Subject, ...] = ()
    after: tuple[Subject, ...] = ()
    solved: tuple[Finding, ...] = ()
    remaining: tuple[Finding, ...] = ()
    new: tuple[Finding, ...] = ()
    failed: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """A plan that was applied.  ``id`` is the journal's; ``target`` the container that was
    repaired, judged again (``None``: no container was), ``others`` are the other containers that
    use the place.  ``resumed`` were paused and go on; ``stuck`` could not be resumed.  ``signal``
    is the one that ended it early (0: none did); nobody is judged again then.
    """

    id: str
    outcome: Outcome
    target: Checked | None = None
    others: tuple[Checked, ...] = ()
    resumed: tuple[str, ...] = ()
    stuck: tuple[Skipped, ...] = ()
    signal: int = 0

    @property
    def done(self) -> bool:
        """Whether all of the plan was carried out and everybody goes on."""
        return self.outcome.complete and not self.stuck and not self.signal

    @property
    def helped(self) -> bool:
        """Whether the problem is gone, and nobody has a new one, or one that was hidden by it."""
        checks = (*((self.target,) if self.target else ()), *self.others)
        return not (
            any(c.failed or c.new for c in checks)
            or (self.target is not None and self.target.remaining)
        )


class ChangedEntry(Struct, frozen=True, kw_only=True):
    """One entry of a repair.  ``mark`` is what became of it; empty: nobody knows."""

    path: bytes
    before: Inode
    after: Inode
    mark: str = ""


class Past(Struct, frozen=True, kw_only=True):
    """A repair or undo of the history.  ``started`` is a date and time in UTC; ``status`` as the
    journal has it (``done``, ``interrupted``...).  ``of`` is what an undo undid, ``undone_by`` what
    undid this.  ``damaged`` says what is wrong with the journal itself.
    """

    id: str
    act: Act
    status: str
    started: str = ""
    container: str = ""
    remedies: tuple[str, ...] = ()
    roots: tuple[bytes, ...] = ()
    command: str = ""
    host: str = ""
    of: str = ""
    undone_by: str = ""
    paused: tuple[str, ...] = ()
    summary: Summary | None = None
    outcome: Outcome | None = None
    damaged: str = ""
