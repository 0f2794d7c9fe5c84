"""``fix``: from what is refused to a plan, and from a plan to a tree in which it is not.

The facts are read and judged as for ``check``; what is to be done is chosen from the findings; the
tree is surveyed.  All that is a :class:`~permdoctor.diagnosis.proposal.Proposal` that a person is
shown.  Only what they then apply changes anything (``applying.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.app.applying import (
    Prepared,
    Target,
    limits_of,
    names_in,
    who_stands_still,
)
from permdoctor.app.collect import Collector, Options
from permdoctor.app.engines import AmbiguousNameError, connected, find
from permdoctor.app.pausing import User, users_of
from permdoctor.app.progress import Progress
from permdoctor.app.request import FixRequest, command
from permdoctor.app.rights import home_directories, need_rights, place
from permdoctor.diagnosis.choice import Choice, is_refused, job_for, jobs_of
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.effects import effects
from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.plan import Job, Summary
from permdoctor.diagnosis.proposal import Act, Proposal
from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.diagnosis.report import Finding, Report
from permdoctor.diagnosis.shell import quote
from permdoctor.diagnosis.unfixable import forbidden
from permdoctor.engines import Engine
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.host import procfs
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable
from permdoctor.repair import carried
from permdoctor.repair.journal import About, Journal
from permdoctor.repair.policy import Kind, Machine, Question, Refusal, judge, judge_live
from permdoctor.repair.store import Store
from permdoctor.repair.survey import survey

TO_OWNER = "to-owner"
"""The remedy of ``--to``."""


class _Case(Struct, frozen=True, kw_only=True):
    """A container to be repaired for, read and judged; ``engine`` is its own."""

    engine: Engine
    facts: Facts
    report: Report


@contextmanager
def fixing(request: FixRequest, progress: Progress | None = None) -> Iterator[Prepared]:
    """The plan, its trees locked if it is to be applied.  Nothing is changed yet.

    Raises ``UsageError`` for what does not exist or is refused, ``CannotRepairError`` where the
    machine does not let it happen.
    """
    with ExitStack() as stack:
        yield _Preparation(request, stack, progress).prepared()


class _Preparation:
    """The steps to a plan, in their order."""

    def __init__(self, request: FixRequest, stack: ExitStack, progress: Progress | None) -> None:
        self.request = request
        self.progress = progress
        self._stack = stack
        self._store = Store(request.config.repair.state)
        self._limits = limits_of(request.config)
        denied = tuple(os.fsencode(d) for d in request.config.repair.deny)
        self._asked = replace(request.asked, protected=denied)
        options = Options(deep=True, config=request.config)
        self._collector = stack.enter_context(Collector(options, progress))
        self._engines: tuple[Engine, ...] = ()
        self._silent = ""
        self._head: carried.Head | None = None

    def prepared(self) -> Prepared:
        request = self.request
        if request.apply:
            need_rights("--apply")
        if request.live:
            _raise_if(judge_live(request.config.repair, procfs.read_sysctls()))
        if request.plan is not None:
            self._head = carried.peek(request.plan, self._store)
        self._connect()
        case = self._case()
        choice = None
        jobs: tuple[Job, ...] = ()
        if request.name is not None and case is not None:
            choice = jobs_of(case.report, mounts=request.mounts, remedy=request.remedy)
            jobs = choice.jobs
        elif request.path is not None:
            jobs = (self._job_of_path(request.path, case),)
        journal, summary, allow = self._planned(jobs, case)
        roots = tuple(t.path for t in summary.trees)
        find_users = partial(self._users, roots if summary.count else ())
        users = find_users()
        still = who_stands_still(users, live=request.live, silent=self._silent)
        names = names_in(self._collector, summary)
        proposal = Proposal(
            act=Act.REPAIR,
            what=_what(request, case),
            summary=summary,
            command=command(request, allow),
            choice=choice,
            effects=effects(summary, case.facts if case else None, names),
            pauses=still if isinstance(still, tuple) else (),
            live=still if isinstance(still, str) else "",
            names=names,
            subjects=case.report.subjects if case else (),
            skipped=case.report.skipped if case else (),
        )
        return Prepared(
            proposal=proposal,
            journal=journal,
            store=self._store,
            collector=self._collector,
            limits=self._limits,
            find_users=find_users,
            live=request.live,
            target=_target(case, choice, roots, users),
        )

    # -- who, and what -----------------------------------------------------------------------

    def _connect(self) -> None:
        request = self.request
        try:
            manager = connected(request.hosts, request.config.engines.hosts)
            self._engines = self._stack.enter_context(manager)
        except PermdoctorError as e:
            self._without_engine(e)

    def _without_engine(self, e: PermdoctorError) -> None:
        """A tree that is named can be repaired without one, unless one was named, too."""
        if self.request.container is not None or self.request.hosts:
            raise e
        self._engines = ()
        self._silent = f"no engine was asked who uses it ({e.message})"

    def _case(self) -> _Case | None:
        """The container that is named, or that a plan was made for, if it is still there."""
        name = self.request.container
        try:
            if name is None and self._head is not None:
                name = self._head.about.container
            if not name:
                return None
            engine, container = find(self._engines, name)
        except AmbiguousNameError:
            raise
        except PermdoctorError:
            if self.request.container is None:
                return None
            raise
        facts = self._collector.facts(engine, container)
        report = diagnose(facts)
        if why := forbidden(report):
            raise UsageError(
                f"{printable(container.name)} is not repaired: {why}",
                hint="`permdoctor check` shows what would help",
            )
        return _Case(engine=engine, facts=facts, report=report)

    def _job_of_path(self, path: bytes, case: _Case | None) -> Job:
        real, _ = self._collector.in_worker(place, path)
        if real != path:
            raise UsageError(
                f"{printable(path)} is, or lies behind, a symlink",
                hint=f"name the place itself: --path {quote(real)}",
            )
        if case is not None:
            self._must_mount(case, path)
            return job_for(case.facts, path)
        assert self.request.to is not None
        uid, gid = self.request.to
        return Job(path=path, recipes=(ToOwner(name=TO_OWNER, scope=Scope.ALL, uid=uid, gid=gid),))

    def _must_mount(self, case: _Case, path: bytes) -> None:
        """A container needs nothing of a tree that it does not see."""
        sources = {b.bind.host_path for b in case.facts.binds if b.bind.host_path is not None}
        if any(is_beneath(path, s) for s in sources):
            return
        real = {self._collector.in_worker(os.path.realpath, s) for s in sources}
        if any(is_beneath(path, s) for s in real):
            return
        below = sorted(s for s in real if is_beneath(s, path))
        raise UsageError(
            f"{printable(case.facts.container.name)} does not mount {printable(path)}",
            hint=f"it mounts {', '.join(map(printable, below))} in it: name that"
            if below
            else "`permdoctor check` shows what it mounts; --to UID:GID needs no container",
        )

    # -- the plan ----------------------------------------------------------------------------

    def _planned(
        self, jobs: tuple[Job, ...], case: _Case | None
    ) -> tuple[Journal | None, Summary, tuple[bytes, ...]]:
        """The journal, the plan in it, and what has to be allowed before it may be applied."""
        if self._head is not None:
            return self._carried(self._head)
        if not jobs:
            return None, Summary(trees=()), ()
        placed = [self._collector.in_worker(place, j.path) for j in jobs]
        allow = self._allowed(
            tuple(placed),
            _remedies(jobs),
            deep=any(r.scope is not Scope.ROOT for j in jobs for r in j.recipes),
        )
        jobs = tuple(replace(j, path=p) for j, (p, _) in zip(jobs, placed, strict=True))
        journal = self._entered(self._about(case, jobs))
        tell = None if self.progress is None else partial(self.progress.update, "planning")
        return journal, survey(journal, jobs, self._limits, self._asked, tell), allow

    def _carried(self, head: carried.Head) -> tuple[Journal, Summary, tuple[bytes, ...]]:
        """The plan of a file.  Its places are looked at again, and the policy is asked again."""
        assert self.request.plan is not None
        placed = [self._collector.in_worker(place, r) for r in head.about.roots]
        allow = self._allowed(placed, head.about.remedies, deep=True)
        about = replace(head.about, started=time.time(), command=command(self.request, ()))
        journal = self._entered(about)
        return journal, carried.load(self.request.plan, journal, self._store), allow

    def _about(self, case: _Case | None, jobs: tuple[Job, ...]) -> About:
        return About(
            kind="repair",
            host=os.uname().nodename,
            started=time.time(),
            command=command(self.request, ()),
            container="" if case is None else case.facts.container.name,
            remedies=_remedies(jobs),
            unasked=self.request.unasked,
            roots=tuple(j.path for j in jobs),
        )

    def _entered(self, about: About) -> Journal:
        """A journal with its locks, or a scratch one where the plan is only shown."""
        begun = self._store.begin(about) if self.request.apply else Store.scratch(about)
        return self._stack.enter_context(begun)

    def _allowed(
        self, places: Sequence[tuple[bytes, bool]], remedies: tuple[str, ...], *, deep: bool
    ) -> tuple[bytes, ...]:
        """What is not allowed yet, where a plan is only shown.  Raises for what never is."""
        request, missing = self.request, []
        machine = Machine(
            homes=self._collector.or_quiet(home_directories) or frozenset(),
            data_roots=tuple(self._data_roots()),
        )
        for path, socket in places:
            question = Question(
                path=path,
                remedies=remedies,
                named=request.path is not None and request.plan_out is None,
                allow=request.allow,
                socket=socket,
                deep=deep,
            )
            refused = judge(request.config.repair, machine, question)
            if refused is not None and refused.kind is Kind.NOT_ALLOWED and not request.apply:
                missing.append(path)
            else:
                _raise_if(refused)
        return tuple(missing)

    def _data_roots(self) -> Iterator[bytes]:
        for engine in self._engines:
            try:
                yield engine.info.data_root
            except PermdoctorError as e:
                self._without_engine(e)
                return

    def _users(self, roots: Sequence[bytes]) -> tuple[User, ...]:
        try:
            return users_of(self._engines, roots) if roots else ()
        except PermdoctorError as e:
            self._without_engine(e)
            return ()


def _what(request: FixRequest, case: _Case | None) -> str:
    if request.name is not None and case is not None:
        return printable(case.facts.container.name)
    if request.path is not None:
        return printable(request.path)
    return f"plan {printable(request.plan or '')}"


def _remedies(jobs: Sequence[Job]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r.name for j in jobs for r in j.recipes))


def _target(
    case: _Case | None, choice: Choice | None, roots: Sequence[bytes], users: Sequence[User]
) -> Target | None:
    """Whom to judge again, and for what.  For trees by name: what was refused in all of them."""
    if case is None:
        return None
    problems = (
        tuple(c.finding for c in choice.chosen)
        if choice is not None
        else tuple(f for f in case.report.findings if is_refused(f) and _lies_in(f, roots))
    )
    user = next(
        (u for u in users if u.container.id == case.facts.container.id),
        User(engine=case.engine, container=case.facts.container, writes=False),
    )
    return Target(user=user, report=case.report, problems=problems)


def _lies_in(finding: Finding, roots: Sequence[bytes]) -> bool:
    place = finding.host_path
    return place is not None and any(is_beneath(place, r) for r in roots)


def _raise_if(refused: Refusal | None) -> None:
    if refused is not None:
        raise UsageError(refused.message, hint=refused.hint)
