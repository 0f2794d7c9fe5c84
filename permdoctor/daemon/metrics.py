"""The service's metrics, in a registry of their own.

What the state says is taken from it when it is asked for; what only happens (checks, repairs) is
counted.  No label holds an id or a name of a file.  A finding's labels are its container's name,
its mount's target, its code and severity: at most ``limit`` series of these; the findings of what
comes after are counted under container "other", without a target.  A series that is there stays
as long as it has findings, whatever comes.

prometheus_client is in the extra ``service`` and is imported here only.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from permdoctor import __version__
from permdoctor.alerts.counters import Counters
from permdoctor.daemon import series
from permdoctor.daemon.events import Repaired
from permdoctor.daemon.series import Labels
from permdoctor.daemon.state import State
from permdoctor.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MAX_SERIES: Final = 1000
BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Thread-safe.  Times are seconds since the epoch.

    Raises ``UsageError`` where prometheus_client is not installed.
    """

    def __init__(self, *, limit: int = MAX_SERIES) -> None:
        try:
            import prometheus_client as client
        except ImportError:
            raise UsageError(
                "metrics need prometheus-client, which is not installed",
                hint="pip install 'permdoctor[service]', or set metrics.listen and "
                'metrics.textfile to ""',
            ) from None
        client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()
        self._limit = limit
        self._series: set[Labels] = set()
        self._state: State | None = None
        self._lost = {"late": 0, "died": 0}
        self._alerts: tuple[Mapping[str, Counters], Mapping[str, int], int] = ({}, {}, 0)
        self._registry = registry = client.CollectorRegistry()
        self._process = client.CollectorRegistry()
        client.ProcessCollector(registry=self._process)
        self._generate = client.generate_latest

        def counter(name: str, text: str, *labels: str) -> client.Counter:
            return client.Counter(f"permdoctor_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> client.Gauge:
            return client.Gauge(f"permdoctor_{name}", text, labels, registry=registry)

        self._checks = counter("checks", "Checks that came back.")
        self._check_failures = counter("check_failures", "Checks that came back without a result.")
        self._check_seconds = client.Histogram(
            "permdoctor_check_duration_seconds",
            "How long checks took.",
            buckets=BUCKETS,
            registry=registry,
        )
        self._repairs = counter("repairs", "Repairs that the service did unasked.", "result")
        for result in ("applied", "nothing", "failed"):
            self._repairs.labels(result)
        self._entries = counter("repaired_entries", "Entries that these repairs changed.")
        self._queue = gauge("queue_length", "Events that wait for the loop.")
        self._untold = gauge(
            "alerts_untold", "Alerts that cannot be kept in the state directory, nor sent before."
        )
        self._watches = gauge("watches", "Directories under inotify watch.")
        self._fallback = gauge(
            "watch_fallback", "1 if not everything can be watched and sweeps must find changes."
        )
        self._reload_ok = gauge(
            "config_last_reload_successful", "Whether the configuration in the files is in force."
        )
        self._reload_at = gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
        )
        gauge("build_info", "Always 1.", "version").labels(__version__).set(1)
        registry.register(_Shown(self))

    def observe(self, state: State) -> None:
        """What is shown from now on.  Costs nothing: it is looked at when metrics are asked for.

        Findings, containers, engines and their sweeps, checks waiting, watched roots and firing
        alerts are all taken from it.
        """
        self._state = state

    def checked(self, seconds: float, ok: bool) -> None:
        """A check came back, with a result or without."""
        self._checks.inc()
        self._check_seconds.observe(seconds)
        if not ok:
            self._check_failures.inc()

    def workers_lost(self, late: int, died: int) -> None:
        """Processes since the start that were given up, and that died of what they did."""
        self._lost = {"late": late, "died": died}

    def repaired(self, result: Repaired) -> None:
        """A repair came back."""
        outcome = "failed" if result.failed else "applied" if result.applied else "nothing"
        self._repairs.labels(outcome).inc()
        self._entries.inc(result.applied)

    def queue(self, length: int) -> None:
        self._queue.set(length)

    def untold(self, number: int) -> None:
        """Alerts that cannot be kept."""
        self._untold.set(number)

    def watching(self, watches: int, *, fallback: bool) -> None:
        """``fallback``: inotify's or our own limits were reached."""
        self._watches.set(watches)
        self._fallback.set(fallback)

    def reloaded(self, ok: bool, wall: float) -> None:
        """The configuration was read: at the start, too."""
        self._reload_ok.set(ok)
        if ok:
            self._reload_at.set(wall)

    def alerts(
        self, counters: Mapping[str, Counters], waiting: Mapping[str, int], refused: int = 0
    ) -> None:
        """What the outbox says, by sink."""
        self._alerts = (dict(counters), dict(waiting), refused)

    def text(self, *, process: bool = True) -> bytes:
        """Prometheus' text format.  ``process``: with process_*, which a file for node_exporter
        must not have: it has its own.
        """
        with self._lock:
            own = self._generate(self._registry)
        return own + self._generate(self._process) if process else own

    def _collect(self) -> Iterator[Metric]:
        """Called by ``text`` alone, through the registry."""
        lost = self._lost
        if self._state is not None:
            yield from self._findings(self._state)
            yield from series.containers(self._state)
            yield from series.engines(self._state)
            yield from series.firing(self._state)
        yield from series.outbox(*self._alerts)
        text = "Processes that were given up with a check or a repair, or died of it."
        yield series.counter("workers_lost", text, [((w,), n) for w, n in lost.items()], "reason")

    def _findings(self, state: State) -> Iterator[Metric]:
        told, ignored = series.counted(state)
        self._series &= told.keys()
        for labels in told:
            if len(self._series) >= self._limit:
                break
            self._series.add(labels)
        shown: Counter[Labels] = Counter()
        for labels, number in told.items():
            shown[labels if labels in self._series else series.other(labels)] += number
        return series.findings(shown, ignored, len(told) - len(self._series))


class _Shown:
    """A collector, as prometheus_client calls it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics._collect()

    def describe(self) -> Iterator[Metric]:
        return iter(())
