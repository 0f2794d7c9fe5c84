"""What a sink is, how it says that it could not tell, and the sinks of a configuration.

A sink tells once and says how it went; when, how often and in which order belongs to the outbox.
Its errors name the sink's address without path, query and secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from permdoctor import config
from permdoctor.alerts.alert import Alert
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import PermdoctorError


class DeliveryError(PermdoctorError):
    """Somebody could not be told."""


class RetryError(DeliveryError):
    """Not now: the sink is away, overloaded or wrongly configured.  ``after``: the seconds that it
    asked to be left alone (``None``: it did not say).
    """

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class UndeliverableError(DeliveryError):
    """Never: the sink refused what was said, and would refuse it again."""


class Sink(Protocol):
    """One way to tell.  ``send`` gets at most ``batch`` alerts of different fingerprints, and all
    or none of them count as told.  ``resend`` is the interval in seconds at which the sink wants to
    hear again what still fires (``None``: once is enough).  ``updates``: what it was told of an
    alert can be replaced, so that it is told when that changes (``Alert.matter``); people whom each
    message calls are told only when it becomes worse.
    """

    @property
    def name(self) -> str: ...
    @property
    def min_severity(self) -> Severity: ...
    @property
    def per_minute(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def resend(self) -> float | None: ...
    @property
    def updates(self) -> bool: ...

    def send(self, alerts: Sequence[Alert]) -> None:
        """Tell, within the sink's own timeout.  Raises ``RetryError`` or ``UndeliverableError``."""
        ...


def sinks_of(configured: Sequence[config.Sink], environ: Mapping[str, str]) -> tuple[Sink, ...]:
    """The sinks of ``Config.alerts.sinks``, secrets read.  Raises ``UsageError``."""
    return tuple(_sink_of(c, environ) for c in configured)


def _sink_of(of: config.Sink, environ: Mapping[str, str]) -> Sink:
    """A sink's module is imported when there is one."""
    match of:
        case config.Webhook():
            from permdoctor.alerts import webhook

            return webhook.configured(of, environ)
        case config.Alertmanager():
            from permdoctor.alerts import alertmanager

            return alertmanager.configured(of)
        case config.PagerDuty():
            from permdoctor.alerts import pagerduty

            return pagerduty.configured(of, environ)
        case config.Apprise():
            from permdoctor.alerts import apprise

            return apprise.configured(of, environ)
        case config.Command():
            from permdoctor.alerts import command

            return command.configured(of)
        case config.Journald():
            from permdoctor.alerts import journald

            return journald.configured(of)
        case _:
            raise AssertionError(f"no such sink: {type(of).__name__}")
