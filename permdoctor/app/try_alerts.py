"""A test alert to the configured sinks, through the same outbox and couriers as a real one.

The outbox is one of its own, in a temporary directory: the service may be running.  What groups or
delays what it takes (Alertmanager, PagerDuty) tells nobody of an alert that is over at once: there
it fires for a while.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.alerts.counters import Counters
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.sink import sinks_of
from permdoctor.config import Alertmanager, Config, PagerDuty
from permdoctor.config import Sink as Configured
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError

CODE = "PD000"
"""Of no finding."""

HOLD: Final = 45.0
"""Seconds that it fires at who groups: longer than Alertmanager's group_wait, unless that is set to
more than its 30.
"""

_EXPECT: Final[dict[type, str]] = {
    Alertmanager: "people are told if its group_wait (30 s by default) is shorter",
    PagerDuty: "an incident was open for that time",
}
_LEAVE: Final = 5.0
"""Seconds for the resolve when it was interrupted."""

_PER_MINUTE: Final = 60
"""At least: an alert, its resolve and what is tried again are no flood."""

_POLL = 0.02


class Tried(Struct, frozen=True, kw_only=True):
    """``failed`` says why (empty: the sink took the alert and its resolve).  It took the first of
    them after ``seconds``, and it fired for ``held``; ``expect``: what comes of it at this sink.
    """

    sink: str
    failed: str = ""
    seconds: float = 0.0
    held: float = 0.0
    expect: str = ""


def try_alerts(
    config: Config,
    only: str | None,
    environ: Mapping[str, str],
    *,
    timeout: float,
    hold: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Tried, ...]:
    """Tell every sink, or ``only`` the one of that name, that there is a problem, and after
    ``hold`` seconds that it is gone; each within ``timeout`` seconds.  ``hold`` by default: as long
    as the sinks need (``HOLD`` or 0).  ``say`` is told what is waited for.  Who interrupts it does
    not leave it firing.  Raises ``UsageError``.
    """
    chosen = _chosen(config, only)
    sinks = sinks_of(chosen, environ)
    host = config.alerts.host or os.uname().nodename
    held = needed(chosen) if hold is None else hold
    firing = test_alert(host, time.time(), held)
    with tempfile.TemporaryDirectory(prefix="permdoctor-") as directory:
        outbox = Outbox(f"{directory}/outbox", sinks, host=host, log=lambda *_: None)
        leave = _LEAVE
        try:
            outbox.start()
            outbox.tell(firing)
            took = _wait(outbox, 1, timeout)
            try:
                _hold(outbox, held, say)
            finally:
                ended = time.time()
                outbox.tell(replace(firing, status=AlertStatus.RESOLVED, ended=ended))
            _wait(outbox, 2, timeout)
            leave = 0.0
            return tuple(
                Tried(
                    sink=c.name,
                    failed=_failed(outbox.counters()[c.name], timeout),
                    seconds=took.get(c.name, timeout),
                    held=ended - firing.started,
                    expect=_EXPECT.get(type(c), ""),
                )
                for c in chosen
            )
        finally:
            outbox.close(leave)


def needed(sinks: tuple[Configured, ...]) -> float:
    """Seconds that an alert has to fire until each of them tells people of it."""
    return HOLD if any(type(s) in _EXPECT for s in sinks) else 0.0


def test_alert(host: str, now: float, held: float = 0.0) -> Alert:  # noqa: PT028 - no test
    problem = Problem(host=host, engine="none", container="permdoctor-test", code=CODE)
    ends = f"after {held:g} s" if held else "at once"
    return Alert(
        problem=problem,
        status=AlertStatus.FIRING,
        severity=Severity.ERROR,
        title="A test of permdoctor's alerts: nothing is wrong",
        detail=(f"Sent by `permdoctor alert test`; it is resolved {ends}.",),
        started=now,
    )


def _chosen(config: Config, only: str | None) -> tuple[Configured, ...]:
    sinks = config.alerts.sinks
    if not sinks:
        raise UsageError("no sink is configured", hint="add [[alerts.webhook]] or another")
    chosen = tuple(
        replace(s, per_minute=max(s.per_minute, _PER_MINUTE))
        for s in sinks
        if only is None or s.name == only
    )
    if not chosen:
        raise UsageError(
            f"no sink is called {only}", hint="there are: " + ", ".join(s.name for s in sinks)
        )
    return chosen


def _wait(outbox: Outbox, sent: int, timeout: float) -> dict[str, float]:
    """Until each sink has taken so many, or failed.  After how many seconds each one had."""
    begun = time.monotonic()
    took: dict[str, float] = {}
    while (waited := time.monotonic() - begun) < timeout:
        for name, counters in outbox.counters().items():
            if counters.sent >= sent or counters.last_error:
                took.setdefault(name, waited)
        if len(took) == len(outbox.counters()):
            break
        time.sleep(_POLL)
    return took


def _hold(outbox: Outbox, seconds: float, say: Callable[[str], None]) -> None:
    """Not for those that did not take it."""
    if seconds and any(c.sent for c in outbox.counters().values()):
        say(f"it fires for {seconds:g} s now, and is resolved then")
        time.sleep(seconds)


def _failed(counters: Counters, timeout: float) -> str:
    if counters.last_error:
        return counters.last_error
    return "" if counters.sent == 2 else f"not told within {timeout:g} s"
