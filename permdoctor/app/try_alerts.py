"""A test alert to the configured sinks, through the same outbox and couriers as a real one.

The outbox is one of its own, in a temporary directory: the service may be running.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.alerts.courier import Counters
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.sink import Sink, sinks_of
from permdoctor.config import Config
from permdoctor.config import Sink as Configured
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError

CODE = "PD000"
"""Of no finding."""

_POLL = 0.02


class Tried(Struct, frozen=True, kw_only=True):
    """``failed`` says why (empty: the sink took the alert and its resolve)."""

    sink: str
    failed: str = ""
    seconds: float = 0.0


def try_alerts(
    config: Config, only: str | None, environ: Mapping[str, str], *, timeout: float
) -> tuple[Tried, ...]:
    """Tell every sink, or ``only`` the one of that name, that there is a problem and then that it
    is gone; within ``timeout`` seconds.  Raises ``UsageError``.
    """
    sinks = sinks_of(_chosen(config, only), environ)
    host = config.alerts.host or os.uname().nodename
    with tempfile.TemporaryDirectory(prefix="permdoctor-") as directory:
        outbox = Outbox(f"{directory}/outbox", sinks, host=host, log=lambda *_: None)
        try:
            outbox.start()
            return _try(outbox, sinks, test_alert(host, time.time()), timeout)
        finally:
            outbox.close(0)


def test_alert(host: str, now: float) -> Alert:
    problem = Problem(host=host, engine="none", container="permdoctor-test", code=CODE)
    return Alert(
        problem=problem,
        status=AlertStatus.FIRING,
        severity=Severity.ERROR,
        title="A test of permdoctor's alerts: nothing is wrong",
        detail=("Sent by `permdoctor alert test`; it is resolved at once.",),
        started=now,
    )


def _chosen(config: Config, only: str | None) -> tuple[Configured, ...]:
    sinks = config.alerts.sinks
    if not sinks:
        raise UsageError("no sink is configured", hint="add [[alerts.webhook]] or another")
    chosen = tuple(s for s in sinks if only is None or s.name == only)
    if not chosen:
        raise UsageError(
            f"no sink is called {only}", hint="there are: " + ", ".join(s.name for s in sinks)
        )
    return chosen


def _try(outbox: Outbox, sinks: Iterable[Sink], firing: Alert, timeout: float) -> tuple[Tried, ...]:
    begun = time.monotonic()
    resolved = replace(firing, status=AlertStatus.RESOLVED, ended=time.time())
    took: dict[str, float] = {}

    def over(sent: int) -> Callable[[Counters], bool]:
        return lambda c: c.sent >= sent or bool(c.last_error)

    for number, alert in enumerate((firing, resolved), 1):
        outbox.tell(alert)
        enough = over(number)
        while time.monotonic() - begun < timeout:
            for name, counters in outbox.counters().items():
                if enough(counters):
                    took[name] = time.monotonic() - begun
            if all(enough(c) for c in outbox.counters().values()):
                break
            time.sleep(_POLL)
    return tuple(
        Tried(
            sink=s.name,
            failed=_failed(outbox.counters()[s.name], timeout),
            seconds=took.get(s.name, timeout),
        )
        for s in sinks
    )


def _failed(counters: Counters, timeout: float) -> str:
    if counters.last_error:
        return counters.last_error
    return "" if counters.sent == 2 else f"not told within {timeout:g} s"
