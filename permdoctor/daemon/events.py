"""What happens, and what is to be done: the two languages of the reconciler.

Pure data.  Times are monotonic seconds where they say when to do something, and seconds since the
epoch in alerts.  A container is known by its engine's endpoint and its full id.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from permdoctor.alerts.alert import Alert, Problem
from permdoctor.diagnosis.report import Severity


class ContainerRef(Struct, frozen=True, kw_only=True):
    """Which container.  ``engine`` is an endpoint."""

    engine: str
    id: str


class Seen(Struct, frozen=True, kw_only=True):
    """A container as a list or an event shows it.  ``started`` is the engine's word for when its
    present run began, empty if it does not say; another one is another run.  ``restarting``: the
    engine counts it as running, but waits before it starts it again; ``started`` is of the run
    before.  ``refused``: it does not run because the engine could not start it.
    """

    ref: ContainerRef
    name: str
    running: bool
    started: str = ""
    restarting: bool = False
    refused: bool = False
    labels: tuple[tuple[str, str], ...] = ()


class Found(Struct, frozen=True, kw_only=True):
    """A finding in the words of an alert: everything that has to be told of it.

    ``who`` is refused something, by ids; empty: nobody in particular.  ``fixable`` are the names of
    the remedies that permdoctor can do itself, ``host_path`` where the problem is on the host.
    """

    problem: Problem
    severity: Severity
    title: str
    who: str = ""
    detail: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    fixable: tuple[str, ...] = ()
    host_path: str = ""
    count: int = 1


# --- events ---


class Connected(Struct, frozen=True, kw_only=True):
    """An engine answers (again), and this is everything that runs on it now, or should.
    ``by_root``: root runs it, as the kernel says.
    """

    engine: str
    containers: tuple[Seen, ...]
    by_root: bool = False


class Disconnected(Struct, frozen=True, kw_only=True):
    """The stream ended, or nothing was heard for too long."""

    engine: str
    why: str


class Swept(Struct, frozen=True, kw_only=True):
    """A full list while the engine is connected, as in ``Connected``: the answer to the ``List`` of
    this ``number``, and to those before it; ``None``: nobody asked, and it is of this moment.
    """

    engine: str
    containers: tuple[Seen, ...]
    number: int | None = None


class Lost(Struct, frozen=True, kw_only=True):
    """Some of an engine's events were not heard."""

    engine: str


class Left(Struct, frozen=True, kw_only=True):
    """An engine is not watched any more, and nothing more is said of it."""

    engine: str


class Action(StrEnum):
    """What an engine's event means to us."""

    CREATE = "create"
    """There is one that has not been started."""
    START = "start"
    STOP = "stop"
    CHANGE = "change"
    """exec, unpause, rename, a volume mounted: look again."""
    GONE = "gone"


class Happened(Struct, frozen=True, kw_only=True):
    """An engine's event, in our words."""

    action: Action
    container: Seen


class Changed(Struct, frozen=True, kw_only=True):
    """Something changed at or below one of the watched host paths."""

    path: bytes


class Watched(Struct, frozen=True, kw_only=True):
    """What became of the last ``Watch``: these ``paths`` are watched, with the directories in them,
    but for those that are ``dark``.  So many ``directories`` are under watch altogether.  ``why``
    not everything is that should be, printable; empty: what is dark is not there.
    """

    paths: tuple[bytes, ...]
    dark: tuple[bytes, ...] = ()
    directories: int = 0
    why: str = ""


class MapsChanged(Struct, frozen=True, kw_only=True):
    """/etc/subuid, /etc/subgid or daemon.json changed: everybody is judged again."""

    path: bytes


class Unknown(Struct, frozen=True, kw_only=True):
    """What a check could not see: of ``target`` and what lies below it nothing, or not what makes
    these ``codes``.  What was found there before is neither there nor gone.  ``partial``: it was
    read as far as the budget goes, which is seen, and asking again soon gives no more.
    """

    target: str
    codes: frozenset[str] = frozenset()
    partial: bool = False

    def covers(self, problem: Problem) -> bool:
        """Whether this check says nothing about it, if it did not find it."""
        if self.codes and problem.code not in self.codes:
            return False
        if self.partial:
            return problem.target == self.target
        above = self.target.rstrip("/") + "/"
        return problem.target == self.target or problem.target.startswith(above)


class Checked(Struct, frozen=True, kw_only=True):
    """A check came back.  ``failed`` says why there is no result (empty: there is one; ``away``:
    the engine did not answer, which is told of the engine), ``gone`` that the container does not
    run any more.  ``roots`` are the host paths of its mounts, and ``writes`` those of directories
    in which it may write, both known of one that is ``gone``, too.  ``number`` is the command's;
    ``started`` is the run that was judged, as in ``Seen``.  ``predicted``: nothing ran, and this is
    what its configuration says.
    """

    number: int
    ref: ContainerRef
    started: str = ""
    found: tuple[Found, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    roots: tuple[bytes, ...] = ()
    writes: tuple[bytes, ...] = ()
    failed: str = ""
    away: bool = False
    gone: bool = False
    predicted: bool = False
    seconds: float = 0.0


class Repaired(Struct, frozen=True, kw_only=True):
    """A repair came back.  ``failed`` says why it did nothing or not everything; empty, and none
    ``applied``: it was not needed any more; ``denied``: it was not tried, for it is not allowed.
    ``id`` is the journal's.  ``applied`` entries were changed.
    """

    number: int
    ref: ContainerRef
    path: bytes
    id: str = ""
    applied: int = 0
    failed: str = ""
    denied: bool = False


class Tick(Struct, frozen=True, kw_only=True):
    """Time has passed."""


class PastRepair(Struct, frozen=True, kw_only=True):
    """A repair that the service did before it was started again.  ``at`` is when it began, in
    seconds since the epoch; ``failed`` as in ``Repaired``.
    """

    at: float
    engine: str
    container: str
    code: str
    target: str
    remedy: str
    path: bytes
    id: str = ""
    applied: int = 0
    failed: str = ""


class Restored(Struct, frozen=True, kw_only=True):
    """At the start of the service: the alerts that fired when it ended, and what it repaired
    within the last hour.
    """

    firing: tuple[Alert, ...] = ()
    repairs: tuple[PastRepair, ...] = ()


class Reloaded(Struct, frozen=True, kw_only=True):
    """The configuration was read again and is valid."""

    rules: Rules


Event = (
    Connected | Disconnected | Swept | Lost | Left | Happened | Changed | Watched | MapsChanged
    | Checked | Repaired | Tick | Restored | Reloaded
)  # fmt: skip


# --- rules: what of the configuration the reconciler needs ---


class Silence(Struct, frozen=True, kw_only=True):
    """``[[ignore]]``: findings that are shown as ignored and not told.  Globs; ``expires`` is
    seconds since the epoch (``None``: never).
    """

    reason: str
    code: str = "*"
    container: str = "*"
    label: str = ""
    path: str = "*"
    expires: float | None = None


class RepairRule(Struct, frozen=True, kw_only=True):
    """``[[repair.unasked]]`` (config.Unasked), with the maintenance window as (start, end) minutes
    of the local day; ``None``: always.
    """

    container: str
    remedy: str
    roots: tuple[str, ...]
    max_entries: int
    engine: str = ""
    window: tuple[int, int] | None = None


class Rules(Struct, frozen=True, kw_only=True):
    """``settle`` seconds after a start everything is judged a second time; ``damp`` seconds must
    pass without a finding before it is resolved if it flaps; ``min_severity`` is what is told.
    ``policy`` is another text whenever something of ``[repair]`` is.
    """

    host: str
    settle: float = 5.0
    sweep: float = 300.0
    debounce: float = 1.0
    damp: float = 60.0
    check_again: float = 3600.0
    min_severity: Severity = Severity.WARNING
    repairs_per_hour: int = 6
    silences: tuple[Silence, ...] = ()
    repairs: tuple[RepairRule, ...] = ()
    policy: str = ""


# --- commands ---


class Check(Struct, frozen=True, kw_only=True):
    """Judge this container; answer with ``Checked`` of the same number.  ``stopped``: from its
    configuration, if it does not run.
    """

    number: int
    ref: ContainerRef
    why: str
    stopped: bool = False


class List(Struct, frozen=True, kw_only=True):
    """List everything that runs on an engine; answer with ``Swept`` of the same number, which is
    the count of events by now.
    """

    engine: str
    number: int


class Watch(Struct, frozen=True, kw_only=True):
    """These host paths, and no others, are to be watched."""

    paths: tuple[bytes, ...]


class Tell(Struct, frozen=True, kw_only=True):
    """Hand an alert to the outbox.  ``quiet``: what is known already, in newer words; ``why`` it is
    resolved although it is there (empty: it is gone).
    """

    alert: Alert
    quiet: bool = False
    why: str = ""


class Repair(Struct, frozen=True, kw_only=True):
    """Repair for this container by this remedy below ``root``; answer with ``Repaired``.  ``code``
    and ``target`` are those of the problem.
    """

    number: int
    ref: ContainerRef
    remedy: str
    root: bytes
    max_entries: int
    code: str = ""
    target: str = ""


class Log(Struct, frozen=True, kw_only=True):
    """A line for the log: ``event`` in a few words, ``level`` as structlog's, with fields."""

    level: str
    event: str
    fields: tuple[tuple[str, str], ...] = ()


Command = Check | List | Watch | Tell | Repair | Log
