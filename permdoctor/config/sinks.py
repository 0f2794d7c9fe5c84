"""``[alerts]``: who is told, and how.  What they are made into belongs in ``alerts/``.

No secret stands in the configuration: only the file or the environment variable that holds it.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from permdoctor.config.values import (
    AddedLabel,
    Count,
    Interval,
    Name,
    PathOrNone,
    Period,
    SeverityName,
    SomeUrls,
    Url,
    Variable,
)

OWN_LABELS = frozenset(("alertname", "code", "severity", "host", "engine", "container", "target"))
"""Of an alert at Alertmanager."""


class Sink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all have.  ``name`` is how metrics, logs and ``alert test`` call it; the default is its
    table's name.  ``min_severity``: of what is told at all (``alerts.min_severity``), this and
    what is worse.
    """

    name: Name
    min_severity: SeverityName = "info"
    per_minute: Count = 60


class HttpSink(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``ca_file``: certificates to trust instead of the system's (PEM)."""

    timeout_seconds: Interval = 10.0
    ca_file: PathOrNone = ""


class Webhook(HttpSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[alerts.webhook]]``: a CloudEvents envelope by POST, signed if there is a secret."""

    name: Name = "webhook"
    url: Url
    secret_file: PathOrNone = ""
    secret_env: Variable = ""

    def __post_init__(self) -> None:
        if self.secret_file and self.secret_env:
            raise ValueError("give one of secret_file and secret_env")


class Alertmanager(HttpSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[alerts.alertmanager]]``: API v2, to each of ``urls`` (the members of a cluster).
    ``labels`` are added to those of each alert, which are ``OWN_LABELS``.
    """

    name: Name = "alertmanager"
    urls: SomeUrls
    resend_seconds: Period = 60.0
    labels: tuple[AddedLabel, ...] = ()

    def __post_init__(self) -> None:
        names = Counter(label.partition("=")[0] for label in self.labels)
        for name, count in names.items():
            if name in OWN_LABELS:
                raise ValueError(f"the label {name} is set by each alert itself")
            if count > 1:
                raise ValueError(f"the label {name} is given {count} times")


class PagerDuty(HttpSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[alerts.pagerduty]]``: Events API v2."""

    name: Name = "pagerduty"
    url: Url = "https://events.pagerduty.com/v2/enqueue"
    routing_key_file: PathOrNone = ""
    routing_key_env: Variable = ""

    def __post_init__(self) -> None:
        _one(routing_key_file=self.routing_key_file, routing_key_env=self.routing_key_env)


class Apprise(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[alerts.apprise]]``: an apprise URL (it is a secret as a whole)."""

    name: Name = "apprise"
    url_file: PathOrNone = ""
    url_env: Variable = ""

    def __post_init__(self) -> None:
        _one(url_file=self.url_file, url_env=self.url_env)


class Command(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[alerts.command]]``: a program without a shell, with the alert as JSON on its stdin."""

    name: Name = "command"
    argv: tuple[str, ...]
    timeout_seconds: Interval = 10.0

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0].startswith("/"):
            raise ValueError("argv begins with the absolute path of a program")


class Journald(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[alerts.journald]]``: an entry with fields of its own (``PERMDOCTOR_CODE=`` and so on)."""

    name: Name = "journald"


class Alerts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[alerts]``.  ``min_severity``: from which on anybody is told.  ``host``: what this machine
    is called there; empty: its host name.
    """

    min_severity: SeverityName = "warning"
    host: str = ""
    webhook: tuple[Webhook, ...] = ()
    alertmanager: tuple[Alertmanager, ...] = ()
    pagerduty: tuple[PagerDuty, ...] = ()
    apprise: tuple[Apprise, ...] = ()
    command: tuple[Command, ...] = ()
    journald: tuple[Journald, ...] = ()

    def __post_init__(self) -> None:
        for name, count in Counter(s.name for s in self.sinks).items():
            if count > 1:
                raise ValueError(f"{count} sinks are called {name}: give each its own name")

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """All of them, with different names."""
        return (
            *self.webhook,
            *self.alertmanager,
            *self.pagerduty,
            *self.apprise,
            *self.command,
            *self.journald,
        )


def _one(**given: str) -> None:
    if sum(bool(v) for v in given.values()) != 1:
        raise ValueError(f"give one of {' and '.join(given)}")
