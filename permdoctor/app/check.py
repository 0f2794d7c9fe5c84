"""``check``: which mounts refuse a container's processes what, by which rule, and what helps.

The product in one function: find the container, read its facts, judge them.  Start here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

from msgspec import Struct, field

from permdoctor import __version__
from permdoctor.app.collect import Collector, Options
from permdoctor.app.engines import connected, distinct, find_all
from permdoctor.app.progress import Progress
from permdoctor.config import Config
from permdoctor.container.container import Container
from permdoctor.container.needs import Need
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.ignoring import marked
from permdoctor.diagnosis.report import CheckResult, Report, Skipped
from permdoctor.engines import Engine
from permdoctor.engines.process import container_of_process
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.text import printable


class CheckRequest(Struct, frozen=True, kw_only=True):
    """What to check.  ``needs`` are (path inside, need) from ``--need``."""

    names: tuple[str, ...] = ()
    all: bool = False
    pid: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    needs: tuple[tuple[bytes, Need], ...] = ()
    deep: bool = False
    probe: bool = False
    config: Config = field(default_factory=Config)


def check(request: CheckRequest, progress: Progress | None = None) -> CheckResult:
    """Judge every container asked for.  One that cannot be checked does not stop the others.

    A name that several engines know is several containers.  Where a single one was asked for its
    error is raised: ``UsageError`` for a name nobody knows, ``CannotCheckError`` where the machine
    does not answer.
    """
    options = Options(
        needs=request.needs, deep=request.deep, probe=request.probe, config=request.config
    )
    reports: list[Report] = []
    failed: list[Skipped] = []
    raised: list[Exception] = []
    with Collector(options, progress) as collector:
        for what, job in _jobs(request, collector):
            try:
                reports.append(job())
            except PermdoctorError as e:
                raised.append(e)
                failed.append(Skipped(what=what, reason=e.message, hint=e.hint or ""))
            except Exception as e:  # noqa: BLE001 - it does not stop the others
                raised.append(e)
                failed.append(Skipped(what=what, reason=f"internal error: {type(e).__name__}: {e}"))
    if len(request.names) + len(request.pid) == len(raised) == 1 and not reports:
        raise raised[0]
    return CheckResult(
        reports=tuple(reports),
        failed=tuple(failed),
        host=os.uname().nodename,
        version=__version__,
    )


def _jobs(
    request: CheckRequest, collector: Collector
) -> Iterator[tuple[str, Callable[[], Report]]]:
    """(what, how) for each container asked for; nothing is read before it is called."""
    for pid in request.pid:
        yield f"pid {pid}", partial(_process, collector, pid)
    if not (request.names or request.all):
        return
    with connected(request.hosts, request.config.engines.hosts) as engines:
        for name in request.names:
            yield from _named(collector, engines, name)
        if request.all:
            for engine in distinct(engines):
                yield from _all_of(engine, collector, alone=len(engines) == 1)


def _named(
    collector: Collector, engines: tuple[Engine, ...], name: str
) -> Iterator[tuple[str, Callable[[], Report]]]:
    """The containers of a name, or why there is none."""
    try:
        found = find_all(engines, name)
    except Exception as e:  # noqa: BLE001 - raised again where it does not stop the others
        yield printable(name), partial(_raise, e)
        return
    for engine, container in found:
        on = f" on {printable(container.engine.endpoint)}" if len(found) > 1 else ""
        yield f"{printable(name)}{on}", partial(_judged, collector, engine, container)


def _all_of(
    engine: Engine, collector: Collector, *, alone: bool
) -> Iterator[tuple[str, Callable[[], Report]]]:
    """Every running container of one engine.  One of several that is down fails for itself."""
    try:
        summaries = engine.list()
    except PermdoctorError as e:
        if alone:
            raise
        yield "an engine", partial(_raise, e)
        return
    for summary in summaries:
        yield printable(summary.name), partial(_by_id, collector, engine, summary.id)


def _judged(collector: Collector, engine: Engine | None, container: Container) -> Report:
    report = diagnose(collector.facts(engine, container))
    now = time.time()
    rules = collector.options.config.ignore
    return marked(report, [r for r in rules if r.until is None or now < r.until])


def _raise(e: Exception) -> Report:
    raise e


def _process(collector: Collector, pid: int) -> Report:
    container = collector.in_worker(container_of_process, pid)  # its environment may not answer
    return _judged(collector, None, container)


def _by_id(collector: Collector, engine: Engine, id_: str) -> Report:
    return _judged(collector, engine, engine.inspect(id_))
