"""Alerts, and sinks that take or refuse what a test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.diagnosis.report import Severity

STARTED = 1_700_000_000.25


def alert(number: int = 1, **changed: Any) -> Alert:
    """A firing one; each number is a problem of its own."""
    problem = Problem(
        host="gpu-1",
        engine="unix:///var/run/docker.sock",
        container=f"trainer-{number}",
        code="PD101",
        target="/data",
    )
    values: dict[str, Any] = {
        "problem": problem,
        "status": AlertStatus.FIRING,
        "severity": Severity.ERROR,
        "title": "uid 1000 cannot write /data",
        "detail": ("owner 0:0, mode 0755", "o-w refuses"),
        "remedies": ("chown 1000:1000 /srv/data",),
        "host_path": "/srv/data",
        "started": STARTED,
    }
    return Alert(**(values | changed))


def resolved(of: Alert, ended: float = STARTED + 60) -> Alert:
    return replace(of, status=AlertStatus.RESOLVED, ended=ended)


@dataclass
class Taker:
    """A sink in this process.  ``failures`` are raised in turn, one a call, ``None`` is none."""

    name: str = "taker"
    min_severity: Severity = Severity.INFO
    per_minute: int = 6000
    batch: int = 1
    resend: float | None = None
    updates: bool = False
    failures: list[Exception | None] = field(default_factory=list)
    calls: list[tuple[Alert, ...]] = field(default_factory=list)
    taken: list[Alert] = field(default_factory=list)

    def send(self, alerts: Sequence[Alert]) -> None:
        self.calls.append(tuple(alerts))
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        self.taken.extend(alerts)

    @property
    def ids(self) -> list[str]:
        return [a.id for a in self.taken]
