"""What the state and the outbox say, as families of Prometheus' series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from permdoctor.alerts.counters import Counters
from permdoctor.daemon.state import State
from permdoctor.diagnosis.report import Severity
from permdoctor.kernel.text import clean

if TYPE_CHECKING:
    from prometheus_client.core import Metric

OTHER: Final = "other"
MAX_LABEL: Final = 256
"""Characters."""

Labels = tuple[str, str, str, str]
"""container, target, code, severity."""

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Values by their labels."""


def counted(state: State) -> tuple[Counter[Labels], Counter[tuple[str, str]]]:
    """How many findings there are of each kind, and how many are ignored by code and severity."""
    told: Counter[Labels] = Counter()
    ignored: Counter[tuple[str, str]] = Counter()
    for container in state.containers:
        for finding in container.findings:
            problem = finding.found.problem
            severity = finding.found.severity.name.lower()
            if finding.ignored:
                ignored[problem.code, severity] += 1
            else:
                told[_label(container.name), _label(problem.target), problem.code, severity] += 1
    return told, ignored


def other(labels: Labels) -> Labels:
    """Where the findings of a series are counted for which there is no room."""
    return (OTHER, "", labels[2], labels[3])


def findings(
    shown: Counter[Labels], ignored: Counter[tuple[str, str]], collapsed: int
) -> Iterator[Metric]:
    yield gauge(
        "findings",
        "Findings that are there now and not ignored.",
        shown.items(),
        "container",
        "target",
        "code",
        "severity",
    )
    yield gauge(
        "findings_ignored",
        "Findings that a rule of the configuration ignores.",
        ignored.items(),
        "code",
        "severity",
    )
    text = 'Series beyond the limit, counted under container "other".'
    yield single("findings_collapsed_series", text, collapsed)


def containers(state: State) -> Iterator[Metric]:
    of = state.containers
    unjudged = sum(not c.judged for c in of)
    failing = sum(bool(c.failed) for c in of)
    for name, text, value in (
        ("containers", "Containers that run, or should, and are looked after.", len(of)),
        ("containers_unjudged", "Of these: not judged since they started.", unjudged),
        ("containers_failing", "Of these: the last check had no result.", failing),
        ("containers_left_out", "Running containers beyond the limit.", state.left_out),
        ("checks_running", "Checks that workers make now.", state.checking),
        ("checks_waiting", "Checks that are due and wait for a worker.", state.waiting),
        (
            "watched_roots",
            "Mounted host paths that are watched, with the directories in them.",
            state.watched,
        ),
        (
            "unwatched_roots",
            "Mounted host paths that are not, or not with all of these.",
            state.unwatched,
        ),
    ):
        yield single(name, text, value)


def engines(state: State) -> Iterator[Metric]:
    connected = [((e.engine,), float(e.connected)) for e in state.engines]
    swept = [((e.engine,), e.swept) for e in state.engines if e.swept is not None]
    yield gauge("engine_connected", "Whether the engine answers.", connected, "engine")
    text = "When everything on the engine was last listed."
    yield gauge("last_sweep_timestamp_seconds", text, swept, "engine")


def firing(state: State) -> Iterator[Metric]:
    by_severity = Counter({(s.name.lower(),): 0 for s in Severity})
    by_severity.update((a.severity.name.lower(),) for a in state.firing)
    text = "Alerts that people were told of, and not that they are over."
    yield gauge("alerts_firing", text, by_severity.items(), "severity")


def outbox(
    counters: Mapping[str, Counters], waiting: Mapping[str, int], refused: int
) -> Iterator[Metric]:
    of = counters.items()
    for name, text, field in (
        ("alerts_sent", "Alerts that the sink took.", "sent"),
        ("alerts_resent", "Firing alerts that the sink was told again.", "resent"),
        ("alerts_failed", "Attempts to tell the sink that failed.", "failed"),
    ):
        yield counter(name, text, [((n,), getattr(c, field)) for n, c in of], "sink")
    dropped = [
        ((name, reason), number)
        for name, c in of
        for reason, number in (("refused", c.dropped), ("stale", c.stale), ("evicted", c.evicted))
    ]
    text = "Alerts that the sink was not told, and will not be."
    yield counter("alerts_dropped", text, dropped, "sink", "reason")
    text = "Alerts that nobody was told, because too many fired."
    yield counter("alerts_refused", text, [((), refused)])
    on_their_way = [((name,), number) for name, number in waiting.items()]
    yield gauge("alerts_waiting", "Alerts on their way to the sink.", on_their_way, "sink")
    failing = [((n,), float(bool(c.last_error))) for n, c in of]
    text = "Whether the last attempt to tell the sink failed."
    yield gauge("alerts_failing", text, failing, "sink")


def gauge(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"permdoctor_{name}", text, labels=labels)
    for of, value in _clean(rows).items():
        family.add_metric(of, value)
    return family


def single(name: str, text: str, value: float) -> Metric:
    return gauge(name, text, [((), value)])


def counter(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    """Prometheus appends ``_total`` to the name."""
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"permdoctor_{name}", text, labels=labels)
    for of, value in _clean(rows).items():
        family.add_metric(of, value)
    return family


def _clean(rows: Rows) -> dict[tuple[str, ...], float]:
    """Each series once: Prometheus would refuse all of them."""
    return {tuple(_label(each) for each in of): value for of, value in rows}


def _label(text: str) -> str:
    """One line of UTF-8, not longer than it should be."""
    return clean(text[:MAX_LABEL]).replace("\n", "\\x0a")[:MAX_LABEL]
