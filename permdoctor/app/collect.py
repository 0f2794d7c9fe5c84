"""Everything is read first: the facts of one container, live or predicted.

Reads in the order in which facts depend on each other: who, which mounts, what lies there, who
else uses it.  What cannot be read becomes a ``Skipped``; only a container that is gone raises.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from permdoctor.app.neighbours import neighbours_of
from permdoctor.app.progress import Progress
from permdoctor.config import Config
from permdoctor.container.binds import Bind, covering
from permdoctor.container.container import Container
from permdoctor.container.needs import (
    Need,
    NeedSource,
    PathNeed,
    asked_needs,
    bad_labels,
    clean_path,
    environment_needs,
)
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, Facts, HostUsers, Tree, Walk
from permdoctor.diagnosis.report import Skipped
from permdoctor.engines import Engine
from permdoctor.errors import PermdoctorError
from permdoctor.host import look
from permdoctor.host.accounts import host_users
from permdoctor.host.deadline import Giveup, NotAnswering
from permdoctor.host.look import Where
from permdoctor.host.procfs import Census, ProcessGone
from permdoctor.host.scan import Budget
from permdoctor.kernel.filesystems import PSEUDO
from permdoctor.kernel.text import printable

T = TypeVar("T")


_RUNS = 2
"""What is over while it is looked at so often is only ever seen stopped: it crashes."""

MOST_NEEDS = 256
"""Needs of one container: labels are the container's own words, and it may write many."""


class Options(Struct, frozen=True, kw_only=True):
    """How to look.  ``shallow`` leaves out trees and neighbours, for a question about one path."""

    needs: tuple[tuple[bytes, Need], ...] = ()
    deep: bool = False
    probe: bool = False
    shallow: bool = False
    config: Config = field(default_factory=Config)


class Collector:
    """Reads facts; owns the worker that touches filesystems.  A context manager.

    ``skipped`` gathers what could not be read of the container at hand.
    """

    def __init__(self, options: Options, progress: Progress | None = None) -> None:
        self.options = options
        self.skipped: list[Skipped] = []
        self.census = Census()
        self._progress = progress
        self._silent: set[tuple[int, int]] = set()
        self._worker = Giveup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def facts(self, engine: Engine | None, container: Container, *, predict: bool = True) -> Facts:
        """Raises ``CannotCheckError`` if the container is gone or nothing can be known of it;
        without ``predict`` ``ProcessGone`` for one that does not run (any more).
        """
        self.skipped = []
        facts = self._own_facts(engine, container, predict=predict)
        for key, value in bad_labels(container):
            self.skip(
                f"label {printable(key)}",
                f"{printable(value)} is no need",
                "use permdoctor.need.PATH with none, read, write or own",
            )
        neighbours = None
        if not self.options.shallow:
            neighbours = self.or_skip(
                "who else uses these mounts", neighbours_of, self, engine, facts
            )
        roots = [b.walk.object.inode for b in facts.binds if b.walk and b.walk.object]
        uids = {s.cred.fsuid for s in facts.subjects} | {i.uid for i in roots if i.uid is not None}
        gids = {s.cred.fsgid for s in facts.subjects} | {i.gid for i in roots if i.gid is not None}
        return replace(
            facts,
            neighbours=neighbours or (),
            users=self.or_quiet(host_users, uids, gids) or HostUsers(),
            skipped=tuple(self.skipped),
        )

    def _own_facts(self, engine: Engine | None, container: Container, *, predict: bool) -> Facts:
        from permdoctor.app.live import live

        for _ in range(_RUNS):
            if not container.running:
                break
            try:
                return live(self, container)
            except ProcessGone:
                if engine is None:
                    raise
            self.skipped = []
            container = engine.inspect(container.id)  # it stopped or restarted while we looked
        if not predict:
            raise ProcessGone(f"{printable(container.name)} does not run")
        assert engine is not None
        return self._predicted(engine, container)

    def _predicted(self, engine: Engine, container: Container) -> Facts:
        from permdoctor.app.predict import predict

        return predict(self, engine, container)

    # -- reading, with what goes wrong -----------------------------------------------------

    def skip(self, what: str, reason: str, hint: str = "") -> None:
        self.skipped.append(Skipped(what=what, reason=reason, hint=hint))

    def or_skip(self, what: str, read: Callable[..., T], *args: object) -> T | None:
        """The value, or ``None`` and a ``Skipped``.  A process that is gone is not skipped."""
        try:
            return read(*args)
        except ProcessGone:
            raise
        except PermdoctorError as e:
            self.skip(what, e.message, e.hint or "")
            return None

    def or_quiet(self, read: Callable[..., T], *args: object) -> T | None:
        """A read in the worker whose failure means only that there is nothing to say."""
        try:
            return self.in_worker(read, *args)
        except PermdoctorError:
            return None

    def in_worker(self, read: Callable[..., T], *args: object) -> T:
        """Read a filesystem where it can be given up.  Raises ``NotAnswering``."""
        seconds = self.options.config.check.deadline_seconds
        return self._worker.call(read, *args, seconds=seconds)

    # -- needs and paths, live or predicted --------------------------------------------------

    def needs(self, container: Container, home: bytes | None) -> tuple[PathNeed, ...]:
        """What people asked for, then what the environment points to."""
        configured = [
            PathNeed(
                path=clean_path(rule.path.encode("utf-8", "surrogateescape")),
                need=rule.need,
                source=NeedSource.CONFIG,
                via="the configuration",
            )
            for rule in self.options.config.need
            if fnmatch.fnmatchcase(container.name, rule.container)
        ]
        asked = asked_needs(container, configured, self.options.needs)
        if len(asked) > MOST_NEEDS:
            self.skip("needs", f"{len(asked):,} were asked for, {MOST_NEEDS} are judged")
            asked = asked[:MOST_NEEDS]
        named = {n.path for n in asked}
        hints = (n for n in environment_needs(container, home) if n.path not in named)
        return (*asked, *hints)

    def places(
        self, needs: Iterable[PathNeed], binds: tuple[BindFacts, ...], walk: Callable[[bytes], Walk]
    ) -> tuple[Walk, ...]:
        """Walks to the paths that are needed and are not the root of a mount, nor on one that does
        not answer: it was said of that already, and each would be waited for.
        """
        roots = {b.bind.target for b in binds}
        mounts = tuple(b.bind for b in binds)
        wanted = dict.fromkeys(
            n.path
            for n in needs
            if n.need is not Need.NONE
            and not (n.source.asked and n.path in roots)
            and not self._is_silent(covering(mounts, n.path))
        )
        walks = (self.or_skip(printable(path), walk, path) for path in wanted)
        return tuple(w for w in walks if w is not None)

    def bind(
        self, bind: Bind, where: Where, path: bytes, subjects: tuple[Subject, ...]
    ) -> tuple[Walk | None, Tree | None]:
        """The walk to a mount's root as ``where`` sees it, and the classes of its tree."""
        name = f"mount {printable(bind.target)} ({bind.fstype})"
        if self._is_silent(bind):
            self.skip(name, "the same filesystem did not answer before")
            return None, None
        try:
            walk = self.in_worker(look.walk, where, path)
        except ProcessGone:
            raise
        except PermdoctorError as e:
            if isinstance(e, NotAnswering) and (device := _device(bind)) is not None:
                self._silent.add(device)
            self.skip(name, e.message, e.hint or "")
            return None, None
        root = walk.object
        if root is None or not root.inode.is_dir or self.options.shallow:
            return walk, None
        if bind.fstype in PSEUDO:
            return walk, None
        return walk, self.or_skip(f"what lies below {name}", self._scan, where, walk, subjects)

    def _is_silent(self, bind: Bind | None) -> bool:
        """Whether its filesystem has not answered before."""
        return bind is not None and _device(bind) in self._silent

    def _scan(self, where: Where, walk: Walk, subjects: tuple[Subject, ...]) -> Tree:
        limits = self.options.config.check
        assert walk.object is not None
        budget = Budget(
            entries=limits.budget_entries, seconds=limits.budget_seconds, deep=self.options.deep
        )
        silence = limits.deadline_seconds + (0 if self.options.deep else limits.budget_seconds)
        shown = printable(walk.path)
        progress = self._progress

        def tell(entries: int) -> None:
            """A sign of life, whoever sees it."""
            if progress is not None:
                progress.update(shown, entries)

        return self._worker.call(
            look.tree,
            where,
            walk.object,
            subjects,
            budget,
            limits.workers,
            seconds=silence,
            progress=tell,
        )


def _device(bind: Bind) -> tuple[int, int] | None:
    """Of the filesystem that is mounted there."""
    return None if bind.mounted is None else (bind.mounted.major, bind.mounted.minor)
