"""What can be configured: one frozen struct a table.  ``Config()`` is what holds without a file.

Only what exists is accepted.  The defaults here, in ``example.toml`` and in ``schema.json`` are
the same (a test holds them together).
"""

from __future__ import annotations

import datetime
from typing import Literal

from msgspec import Struct, field

from permdoctor.config.sinks import Alerts
from permdoctor.config.values import (
    AbsolutePath,
    Amount,
    Count,
    Delay,
    Entries,
    GroupName,
    Listen,
    PathOrNone,
    Period,
    RemedyName,
    Seconds,
    ServiceWorkers,
    SeverityName,
    SomePaths,
    Text,
    TextfileOrNone,
    UnaskedRemedy,
    Window,
    Workers,
)
from permdoctor.container.needs import Need

LAST_PORT = 65535


class Engines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[engines]``.  ``hosts`` are endpoints as ``docker --host`` takes them; empty: the engine
    that the docker CLI would find.
    """

    hosts: tuple[str, ...] = ()


class Check(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[check]``.  The budget is for each mount's tree; the deadline is how long one filesystem
    may take to answer at all.
    """

    fail_on: SeverityName = "error"
    budget_entries: Entries = 200_000
    budget_seconds: Seconds = 10.0
    deadline_seconds: Seconds = 5.0
    workers: Workers = 2


class NeedRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[need]]``.  ``container`` is a glob over container names, ``path`` is absolute inside."""

    path: AbsolutePath
    need: Need
    container: str = "*"


class Unasked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[repair.unasked]]``: a repair that the service may do on its own.  ``container`` is a
    glob over names, ``engine`` an endpoint; empty: those that root runs, for whoever runs an engine
    chooses the names.  ``remedy`` is a remedy's name; ``roots`` narrow ``repair.roots``, which must
    allow it as well.  ``window`` is in local time; its end may be on the next day; empty: always.
    """

    container: str
    remedy: UnaskedRemedy
    roots: SomePaths
    engine: str = ""
    max_entries: Entries = 10_000
    window: Window = ""

    def __post_init__(self) -> None:
        start, _, end = self.window.partition("-")
        if self.window and start == end:
            raise ValueError("window has no length: its end is its beginning")

    @property
    def minutes(self) -> tuple[int, int] | None:
        """The window as minutes of the local day, from and to; ``None``: always."""
        if not self.window:
            return None
        start, _, end = self.window.partition("-")
        return _minutes(start), _minutes(end)


class Repair(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[repair]``: where repair is allowed, and how far it may go.

    ``roots`` and ``deny`` are directories, as resolved paths: a root that is a symlink allows
    nothing.  ``remedies``: those that are allowed; empty: all of them, as a person asked.
    ``state`` holds the journals, the locks, the key of plan files and the alerts on their way.
    ``per_hour`` is for the repairs that the service does unasked.
    """

    roots: tuple[AbsolutePath, ...] = ()
    deny: tuple[AbsolutePath, ...] = ()
    max_entries: Entries = 5_000_000
    max_seconds: Seconds = 3600.0
    remedies: tuple[RemedyName, ...] = ()
    live: bool = False
    state: AbsolutePath = "/var/lib/permdoctor"
    per_hour: Amount = 6
    unasked: tuple[Unasked, ...] = ()


class Ignore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[ignore]]``: findings that are shown as ignored, and not told.  All that is given must
    match.  ``code``, ``container`` and ``path`` (of the host, or inside) are globs, ``label`` is
    KEY or KEY=VALUE.  ``expires``: a TOML date holds to its end, in local time.
    """

    reason: Text
    code: Text = "*"
    container: Text = "*"
    label: str = ""
    path: Text = "*"
    expires: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if (self.code, self.container, self.label, self.path) == ("*", "*", "", "*"):
            raise ValueError("it would ignore everything: give code, container, label or path")
        try:
            _ = self.until
        except (ValueError, OverflowError):
            raise ValueError("expires is out of range") from None

    @property
    def until(self) -> float | None:
        """When it expires, in seconds since the epoch.  A time without a zone is local."""
        return None if self.expires is None else self.expires.timestamp()


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[service]``: how ``permdoctor serve`` watches.  ``socket_group``: who else than root may
    ask at ``socket``; empty: nobody.  ``socket`` empty: there is none.
    """

    settle_seconds: Delay = 5.0
    sweep_seconds: Period = 300.0
    debounce_seconds: Delay = 1.0
    damp_seconds: Delay = 60.0
    check_again_seconds: Period = 3600.0
    workers: ServiceWorkers = 2
    queue: Count = 10_000
    watch_max: Amount = 4096
    socket: PathOrNone = "/run/permdoctor/status.sock"
    socket_group: GroupName = ""


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``.  ``auto``: for people on a terminal, logfmt elsewhere."""

    format: Literal["auto", "logfmt", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[metrics]``.  ``listen`` and ``textfile`` may both be empty: then there are none."""

    listen: Listen = "127.0.0.1:9477"
    textfile: TextfileOrNone = ""

    def __post_init__(self) -> None:
        address = self.address
        if address is not None and not 0 < address[1] <= LAST_PORT:
            raise ValueError(f"listen: {address[1]} is no port")

    @property
    def address(self) -> tuple[str, int] | None:
        """Host (an IPv6 address without brackets) and port of ``listen``."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    engines: Engines = field(default_factory=Engines)
    check: Check = field(default_factory=Check)
    need: tuple[NeedRule, ...] = ()
    repair: Repair = field(default_factory=Repair)
    ignore: tuple[Ignore, ...] = ()
    service: Service = field(default_factory=Service)
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)
    alerts: Alerts = field(default_factory=Alerts)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
