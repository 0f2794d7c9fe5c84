"""What the service's workers do: judge one container, or repair for one, and say what came of it.

Runs in a worker process.  One at a time; whoever waits for it may kill it.  Facts come from the
same ``Collector`` as ``check``'s; whatever goes wrong is an answer.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Final

import msgspec
from msgspec import Struct

from permdoctor.app.collect import Collector, Options
from permdoctor.config import Config
from permdoctor.container.container import Container
from permdoctor.container.subject import Basis
from permdoctor.daemon.bounds import found_of as bounded
from permdoctor.daemon.channel import Channel
from permdoctor.daemon.events import Check, Checked, Found, Repair, Repaired, Unknown
from permdoctor.daemon.found import (
    asked_writes,
    found_of,
    roots_of,
    unjudged,
    unknown_of,
    writes_of,
)
from permdoctor.daemon.limits import Limits
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.report import Report
from permdoctor.engines import ContainerGoneError
from permdoctor.engines.docker import DockerEngine
from permdoctor.engines.endpoints import Endpoint
from permdoctor.engines.transport import AnsweredError, EngineError
from permdoctor.errors import PermdoctorError
from permdoctor.host import syscalls
from permdoctor.host.process import ProcessGone
from permdoctor.kernel.text import printable
from permdoctor.render.service_json import View

_ENGINE_SECONDS: Final = 60.0
"""How long what an engine says of itself is believed."""

_SEND_SECONDS: Final = 30.0


class Job(Struct, frozen=True, kw_only=True):
    """One of ``check``, ``repair`` and ``name``, a container that somebody asks about.  ``config``
    is a ``Config`` in MessagePack; ``session`` is another one after each new connection to the
    engine.  ``endpoint`` is the engine's; who asks about a name asks all of ``hosts``.
    """

    config: bytes
    endpoint: Endpoint | None = None
    session: int = 0
    check: Check | None = None
    repair: Repair | None = None
    name: str | None = None
    view: View = View()
    hosts: tuple[str, ...] = ()


class Answer(Struct, frozen=True, kw_only=True):
    """``clean``: the worker may be used again.  ``result`` is a document for who asked, or
    ``refused`` (exit status, message, hint) why there is none.
    """

    checked: Checked | None = None
    repaired: Repaired | None = None
    result: bytes = b""
    refused: tuple[int, str, str | None] | None = None
    clean: bool = True


def work(sock: socket.socket) -> None:
    """Serve one job after the other.  Raises ``Closed`` when the service is done with us."""
    channel: Channel[Job] = Channel(sock, Job)
    bench = _Bench()
    while True:
        channel.send(bench.answer(channel.wait()), _SEND_SECONDS)


class _Bench:
    """What is kept from one job to the next: the collector of a configuration, and the engines."""

    def __init__(self) -> None:
        self._raw = b""
        self._config = Config()
        self._collector: Collector | None = None
        self._engines: dict[str, tuple[int, float, DockerEngine]] = {}

    def answer(self, job: Job) -> Answer:
        self._configure(job.config)
        if job.repair is not None:
            return Answer(repaired=self._repair(job.repair), clean=False)
        if job.name is not None:
            return self._asked(job.name, job)
        assert job.check is not None
        checked, clean = self._check(job.check, job)
        return Answer(checked=checked, clean=clean)

    def _configure(self, raw: bytes) -> None:
        if raw != self._raw or self._collector is None:
            if self._collector is not None:
                self._collector.__exit__()
            self._raw, self._config = raw, msgspec.msgpack.decode(raw, type=Config)
            self._collector = Collector(Options(config=self._config))

    def _check(self, check: Check, job: Job) -> tuple[Checked, bool]:
        assert self._collector is not None
        begun = time.monotonic()
        started, failed, away, gone, clean, predicted = "", "", False, False, True, False
        found: tuple[Found, ...] = ()
        unknown: tuple[Unknown, ...] = ()
        roots: tuple[bytes, ...] = ()
        writes: tuple[bytes, ...] = ()
        container: Container | None = None
        try:
            engine = self._engine(job)
            container = engine.inspect(check.ref.id)
            facts = self._collector.facts(engine, container, predict=check.stopped)
            report, unknown = diagnose(facts), unknown_of(facts)
            started = report.container.started
            predicted = report.basis is Basis.PREDICTED or not container.running
            roots, writes = roots_of(report, unknown), writes_of(facts)
            found = bounded((*found_of(report), *unjudged(report, unknown)), Limits())
            known = facts.subjects and not facts.partial and len(unknown) <= Limits().roots_each
            refused = container.error and not container.running
            failed = "" if known or refused else _why_not(report)
            clean = not report.skipped
        except (ContainerGoneError, ProcessGone):
            gone = True
            writes = () if container is None else self._wrote(container)
        except PermdoctorError as e:
            failed, clean = e.message, False
            away = isinstance(e, EngineError) and not isinstance(e, AnsweredError)
        except Exception as e:  # noqa: BLE001 - a fault of ours is no reason to stop
            failed, clean = f"internal error: {type(e).__name__}: {printable(str(e))}", False
        checked = Checked(
            number=check.number,
            ref=check.ref,
            started=started,
            found=() if failed else found,
            unknown=unknown,
            roots=roots,
            writes=writes,
            failed=failed,
            away=away,
            gone=gone,
            predicted=predicted,
            seconds=time.monotonic() - begun,
        )
        return checked, clean

    def _wrote(self, container: Container) -> tuple[bytes, ...]:
        """Where it could; what an engine calls a place may be a symlink."""
        assert self._collector is not None
        asked = asked_writes(container)
        resolved = self._collector.or_quiet(_resolved, asked) or ()
        return tuple(dict.fromkeys((*asked, *resolved)))

    def _asked(self, name: str, job: Job) -> Answer:
        from permdoctor.app.check import CheckRequest, check
        from permdoctor.render.service_json import checked

        try:
            result = check(CheckRequest(names=(name,), hosts=job.hosts, config=self._config))
        except PermdoctorError as e:
            return Answer(refused=(e.exit_status, e.message, e.hint), clean=False)
        return Answer(result=checked(result, job.view), clean=False)

    def _engine(self, job: Job) -> DockerEngine:
        assert job.endpoint is not None
        url = job.endpoint.url
        session, since, engine = self._engines.get(url, (0, 0.0, None))
        now = time.monotonic()
        if engine is None or session != job.session or now - since > _ENGINE_SECONDS:
            if engine is not None:
                engine.close()
            engine = DockerEngine(job.endpoint)
            self._engines[url] = (job.session, now, engine)
        return engine

    def _repair(self, repair: Repair) -> Repaired:
        """Ended by SIGTERM it says so itself, when everybody goes on again."""
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        from permdoctor.daemon.repairing import repaired

        return repaired(repair, self._config)


def _resolved(paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(os.path.realpath(p) for p in paths)


def _why_not(report: Report) -> str:
    why = next((f"{s.what}: {s.reason}" for s in report.skipped), "")
    return f"not enough could be read: {why}" if why else "not enough could be read"
