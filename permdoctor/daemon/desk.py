"""Everything that the reconciler knows at one time, and the commands that it has thought of.

Mutable, and only the reconciler's own: ``arrivals.py``, ``results.py`` and ``reconciler.py`` work
on it.  ``now`` and ``wall`` are those of the event in hand, ``count`` is its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from permdoctor.alerts.alert import AlertStatus
from permdoctor.daemon.checks import Checks
from permdoctor.daemon.connections import Connections
from permdoctor.daemon.episodes import Episodes, Name
from permdoctor.daemon.events import Command, ContainerRef, Log, Rules, Tell, Watched
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.loops import Loops
from permdoctor.daemon.repairs import Repairs
from permdoctor.daemon.roots import Roots
from permdoctor.daemon.roster import Record, Roster
from permdoctor.daemon.timers import Timers
from permdoctor.daemon.touched import Touched
from permdoctor.daemon.unstarted import Unstarted
from permdoctor.diagnosis.report import Severity
from permdoctor.kernel.text import printable

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "info"}


class Desk:
    """``gone`` are names that nobody has any more but problems, and when that is long enough;
    ``starts`` are names that were started a moment ago, and when the next start is judged;
    ``away`` are containers between two runs of a crash loop, and when that was too long;
    ``absent`` are engines that are away, and when that is long enough to be told;
    ``patients`` wait for a repair.  ``touched`` are paths in which somebody may have written.
    ``watched`` is what the last ``Watch`` said, and the next one is not before ``watch_at``;
    ``watching`` is what came of the last.  ``full`` are the limits that are known to be reached.
    """

    def __init__(self, rules: Rules, limits: Limits, minute_of_day: Callable[[float], int]) -> None:
        self.rules = rules
        self.limits = limits
        self.now = 0.0
        self.wall = 0.0
        self.count = 0
        self.runs = 0
        self.out: list[Command] = []
        self.connections = Connections(limits.engines, limits.list_deadline, limits.forget)
        self.roster = Roster()
        self.roots = Roots(limits.roots)
        self.checks = Checks(limits)
        self.episodes = Episodes(limits.problems)
        self.repairs = Repairs(rules, limits.repair_deadline, minute_of_day)
        self.gone: Timers[Name] = Timers()
        self.starts: Timers[Name] = Timers()
        self.loops = Loops(limits.containers)
        self.unstarted = Unstarted(limits.containers)
        self.away: Timers[ContainerRef] = Timers()
        self.absent: Timers[str] = Timers()
        self.patients: dict[ContainerRef, None] = {}
        self.touched = Touched()
        self.watched: tuple[bytes, ...] | None = None
        self.watching = Watched(paths=())
        self.watch_at = 0.0
        self.full: set[str] = set()

    @property
    def grace(self) -> float:
        """Seconds that a name may be nobody's before its problems are over."""
        return 2 * self.rules.damp

    def next_run(self) -> int:
        self.runs += 1
        return self.runs

    def tell(self, tells: Iterable[Tell]) -> None:
        for tell in tells:
            self.out.append(tell)
            if tell.quiet:
                continue
            alert, problem = tell.alert, tell.alert.problem
            fires = alert.status is AlertStatus.FIRING
            known = "problem changed" if alert.revision else "problem found"
            over = "problem not told any more" if tell.why else "problem resolved"
            self.log(
                _LEVELS[alert.severity] if fires else "info",
                known if fires else over,
                engine=problem.engine,
                container=problem.container,
                code=problem.code,
                target=problem.target,
                title=alert.title,
                why=tell.why,
            )

    def log(self, level: str, event: str, **fields: str) -> None:
        """A line; fields that are empty are left out."""
        size = self.limits.text
        shown = tuple((key, value[:size]) for key, value in fields.items() if value)
        self.out.append(Log(level=level, event=event, fields=shown))

    def limit(self, what: str, *, reached: bool) -> None:
        """A line when a limit is reached, and none before it was not meanwhile."""
        if reached and what not in self.full:
            self.log("warning", what)
        (self.full.add if reached else self.full.discard)(what)

    def log_of(self, level: str, event: str, record: Record, **fields: str) -> None:
        engine = printable(record.ref.engine)
        self.log(level, event, engine=engine, container=record.name, **fields)
