"""Carrying out a plan that was shown: everybody stands still, it is applied, everybody is judged.

The same for ``fix`` and ``undo``.  Exactly the plan in the journal is applied; what changed since
it was made is refused entry by entry by the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.app import verify
from permdoctor.app.collect import Collector
from permdoctor.app.pausing import Standstill, User, while_paused
from permdoctor.app.progress import Progress
from permdoctor.config import Config
from permdoctor.diagnosis.facts import HostUsers
from permdoctor.diagnosis.plan import Outcome, Summary
from permdoctor.diagnosis.proposal import Act, Checked, Proposal, Result
from permdoctor.diagnosis.report import Finding, Report
from permdoctor.errors import PermdoctorError
from permdoctor.host.accounts import host_users
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.text import printable
from permdoctor.repair import carried, executor
from permdoctor.repair.journal import Journal
from permdoctor.repair.options import CannotRepairError, Limits
from permdoctor.repair.store import Store


class StoppedError(PermdoctorError):
    """A signal came before the first change was tried, or after the last."""

    def __init__(self, id_: str, still: Standstill) -> None:
        paused = "".join(f"; {s.what} is STILL PAUSED ({s.hint})" for s in still.stuck)
        super().__init__(f"interrupted{paused}", hint=f"permdoctor history show {id_} says more")
        self.exit_status = 128 + still.signal


class Target(Struct, frozen=True, kw_only=True):
    """The container that is repaired, as it was judged, and the findings that are to go."""

    user: User
    report: Report
    problems: tuple[Finding, ...] = ()


class Prepared(Struct, kw_only=True):
    """A plan in its journal, ready to be applied.  ``find_users`` says who uses its trees: asked
    again when it is applied, for a person may have thought about it for long.
    """

    proposal: Proposal
    journal: Journal | None
    store: Store
    collector: Collector
    limits: Limits
    find_users: Callable[[], tuple[User, ...]]
    live: bool = False
    target: Target | None = None
    again: Callable[[], Proposal] | None = None
    """Makes the plan once more, when everybody stands still; ``None``: as it was shown it stays."""

    def apply(self, progress: Progress | None = None) -> Result:
        """Raises ``CannotRepairError`` or, ended by a signal, ``StoppedError``."""
        self.must_be_complete()
        assert self.journal is not None
        users = self._held_users(self.journal)
        others = self._others(users)
        before = verify.judged_or_none(self.collector, others)
        still = Standstill()
        outcome = self._apply(self.journal, users, still, progress)
        done = Result(
            id=self.journal.id,
            outcome=outcome,
            resumed=tuple(still.resumed),
            stuck=tuple(still.stuck),
            signal=still.signal,
        )
        if still.signal:
            return done  # who interrupts does not want to wait
        return replace(
            done,
            target=self._target_again(),
            others=tuple(
                verify.again(self.collector, u, before.get(u.container.id))
                for u in others[: verify.MOST]
            ),
        )

    def must_be_complete(self) -> None:
        """Raises ``CannotRepairError`` for a plan that is never applied."""
        if self.proposal.summary.stopped:
            raise CannotRepairError(
                f"the plan is not complete: {self.proposal.summary.stopped}",
                hint="repair.max_entries and repair.max_seconds say how far one may go",
            )

    def save(self, file: str) -> None:
        """The plan to a new file, for another time.  Raises ``PermdoctorError``."""
        assert self.journal is not None
        carried.save(self.journal, file, self.store, self.proposal.summary)

    def _others(self, users: tuple[User, ...]) -> tuple[User, ...]:
        target = None if self.target is None else self.target.user.container.id
        return tuple(u for u in users if u.container.id != target)

    def _target_again(self) -> Checked | None:
        t = self.target
        if t is None:
            return None
        return verify.again(self.collector, t.user, t.report, t.problems)

    def _held_users(self, journal: Journal) -> tuple[User, ...]:
        """Who uses the trees, with those that write held for this repair: one that stands still
        for another would go on in the middle of ours.
        """
        users = self.find_users()
        writers = [u for u in users if u.writes and not u.ours]
        if self.live or not writers:
            return users
        journal.hold([(u.container.id, u.name) for u in writers])
        return users if all(u.must_pause for u in writers) else self.find_users()

    def _apply(
        self,
        journal: Journal,
        users: tuple[User, ...],
        still: Standstill,
        progress: Progress | None,
    ) -> Outcome:
        verb = "repairing" if self.proposal.act is Act.REPAIR else "restoring"
        tell = None if progress is None else partial(progress.update, verb)

        def work() -> Outcome:
            if self.again is not None:
                self.proposal = self.again()
            return executor.apply(journal, self.limits, tell)

        pause = () if self.live else tuple(u for u in users if u.must_pause)
        try:
            return while_paused(journal, pause, still, work)
        except KeyboardInterrupt as e:
            raise StoppedError(journal.id, still) from e
        except PermdoctorError as e:
            stuck = "".join(f"; {s.what} is STILL PAUSED ({s.hint})" for s in still.stuck)
            e.message += stuck
            raise


def limits_of(config: Config) -> Limits:
    """The configured ones."""
    repair = config.repair
    return Limits(
        entries=repair.max_entries, seconds=repair.max_seconds, workers=config.check.workers
    )


def names_in(collector: Collector, summary: Summary) -> HostUsers:
    """The host's names for the ids that a plan speaks of."""
    inodes = [i for t in summary.trees for c in t.changes for i in (c.before, c.after)]
    uids = {i.uid for i in inodes if i.uid is not None}
    gids = {i.gid for i in inodes if i.gid is not None}
    found = collector.or_quiet(host_users, uids | _named(inodes), gids | _named(inodes))
    return found or HostUsers()


def _named(inodes: Iterable[Inode]) -> set[int]:
    """Ids of ACL entries, of users and groups alike."""
    acls = (a for i in inodes for a in (i.acl, i.default_acl) if a is not None)
    return {e.id for a in acls for e in a.entries if e.id is not None}


def who_stands_still(users: tuple[User, ...], *, live: bool, silent: str) -> tuple[str, ...] | str:
    """The names of those that are paused, or why nobody is."""
    if live:
        return "--live: containers can write there meanwhile"
    within = [u.name for u in users if u.ours and u.writes]
    if within:
        return f"permdoctor runs in {printable(within[0])} itself"
    return silent or tuple(u.name for u in users if u.must_pause)
