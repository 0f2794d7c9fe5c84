"""``undo``: the way back from a repair, as a repair of its own.

The journal says what every entry was before.  What is still as the repair left it is put back; what
was put back already counts as done; what somebody changed since is left and listed.  The policy of
the configuration is not asked: whoever was allowed there has been there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from permdoctor.app.applying import Prepared, limits_of, names_in, who_stands_still
from permdoctor.app.collect import Collector, Options
from permdoctor.app.engines import connected
from permdoctor.app.history import is_undone
from permdoctor.app.pausing import User, users_of
from permdoctor.app.progress import Progress
from permdoctor.app.rights import need_rights
from permdoctor.config import Config
from permdoctor.diagnosis.plan import Reason
from permdoctor.diagnosis.proposal import Act, Proposal
from permdoctor.diagnosis.shell import quote
from permdoctor.engines import Engine
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.host import procfs
from permdoctor.repair.journal import About, Journal, Record, Status
from permdoctor.repair.options import CannotRepairError
from permdoctor.repair.policy import judge_live
from permdoctor.repair.store import Store
from permdoctor.repair.undo import survey_undo


class UndoRequest(Struct, frozen=True, kw_only=True):
    """What to undo: the repair ``id`` (or its beginning or end), or the ``last`` one.

    ``at`` is where its tree lies now, if it was moved or mounted elsewhere.
    """

    id: str | None = None
    last: bool = False
    dry_run: bool = False
    at: bytes | None = None
    live: bool = False
    hosts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    config: Config = field(default_factory=Config)


@contextmanager
def undoing(request: UndoRequest, progress: Progress | None = None) -> Iterator[Prepared]:
    """The plan of the way back.  Nothing is changed yet.

    Raises ``UsageError`` for an unknown id, ``CannotRepairError`` for a damaged journal.
    """
    with ExitStack() as stack:
        yield _prepared(request, stack, progress)


def _prepared(request: UndoRequest, stack: ExitStack, progress: Progress | None) -> Prepared:
    need_rights("undo")
    if request.live:
        refused = judge_live(request.config.repair, procfs.read_sysctls())
        if refused is not None:
            raise UsageError(refused.message, hint=refused.hint)
    store = Store(request.config.repair.state)
    record = _record(store, request)
    collector = stack.enter_context(Collector(Options(config=request.config), progress))
    limits = limits_of(request.config)
    tell = None if progress is None else partial(progress.update, "looking")
    try:
        journal = stack.enter_context(_begin(store, record, request))
        survey = partial(survey_undo, journal, record, store, limits, request.at, tell)
        summary, found = survey()
    except CannotRepairError as e:
        if e.hint is None and request.at is None:
            e.hint = "--at DIR says where the tree lies now, if it was moved"
        raise
    asking = _Asking(request, record, stack, tuple(t.path for t in summary.trees))
    users = asking.users()
    still = who_stands_still(users, live=request.live, silent=asking.silent)
    proposal = Proposal(
        act=Act.UNDO,
        what=record.id,
        summary=summary,
        command=_command(record, request),
        pauses=still if isinstance(still, tuple) else (),
        live=still if isinstance(still, str) else "",
        names=names_in(collector, summary),
        already=found.already,
        changed=found.left,
    )

    def again() -> Proposal:
        """The same once more, with what was just being written and now stands still."""
        summary, found = survey()
        return replace(proposal, summary=summary, already=found.already, changed=found.left)

    busy = any(each.reason is Reason.FRESH for each in found.left)
    return Prepared(
        proposal=proposal,
        journal=journal,
        store=store,
        collector=collector,
        limits=limits,
        find_users=asking.users,
        live=request.live,
        again=again if busy else None,
    )


def _record(store: Store, request: UndoRequest) -> Record:
    record = _last(store) if request.id is None else store.find(request.id)
    if record.damaged:
        raise CannotRepairError(
            f"the journal of {record.id} is damaged: {record.damaged}",
            hint="nothing was changed; the other journals are not affected",
        )
    if record.status is Status.PLANNED:
        raise UsageError(f"{record.id} changed nothing: there is nothing to undo")
    return record


def _last(store: Store) -> Record:
    """The newest repair that changed something and is not undone."""
    records = store.records()
    known = {r.id: r for r in records}
    for record in sorted(records, key=lambda r: r.about.started, reverse=True):
        applied = record.status in (Status.DONE, Status.STOPPED, Status.INTERRUPTED)
        fits = record.about.kind == "repair" and applied and not record.damaged
        if fits and not _changed_nothing(record) and not is_undone(record, known):
            return record
    raise UsageError(
        "there is no repair that could be undone", hint="`permdoctor history` lists all of them"
    )


def _changed_nothing(record: Record) -> bool:
    """Whether every entry is known to have been left alone."""
    outcome = record.outcome
    if outcome is None or outcome.applied:
        return False
    return all(e.reason in (Reason.CHANGED, Reason.GONE, Reason.NOT_REACHED) for e in outcome.left)


def _begin(store: Store, record: Record, request: UndoRequest) -> Journal:
    about = About(
        kind="undo",
        host=os.uname().nodename,
        started=time.time(),
        roots=record.about.roots if request.at is None else (request.at,),
        command=_command(record, request),
        container=record.about.container,
        remedies=record.about.remedies,
        of=record.id,
    )
    return Store.scratch(about) if request.dry_run else store.begin(about)


class _Asking:
    """Who uses the trees now; ``silent`` is why nobody was asked."""

    def __init__(
        self, request: UndoRequest, record: Record, stack: ExitStack, roots: tuple[bytes, ...]
    ) -> None:
        self.silent = ""
        self._roots = roots
        self._named = bool(request.hosts)
        self._engines: tuple[Engine, ...] = ()
        known = tuple(dict.fromkeys(p.engine for p in record.paused))
        try:
            manager = connected(request.hosts or known, request.config.engines.hosts)
            self._engines = stack.enter_context(manager)
        except PermdoctorError as e:
            self._without_engine(e)

    def users(self) -> tuple[User, ...]:
        try:
            return users_of(self._engines, self._roots) if self._roots else ()
        except PermdoctorError as e:
            self._without_engine(e)
            return ()

    def _without_engine(self, e: PermdoctorError) -> None:
        if self._named:
            raise e
        self.silent = f"no engine was asked who uses it ({e.message})"


def _command(record: Record, request: UndoRequest) -> str:
    words: list[str | bytes] = [record.id, *request.options]
    words += [] if request.at is None else ["--at", request.at]
    return " ".join(["permdoctor undo", *(quote(w) for w in words)])
