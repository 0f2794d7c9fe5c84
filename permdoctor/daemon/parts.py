"""What the loop has at hand: every part of the service, made from one configuration.

A new configuration is put into force part by part; a part that cannot be made anew goes on as it
was, and the service says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.sink import Sink
from permdoctor.config import Config
from permdoctor.daemon import log
from permdoctor.daemon.asking import Asking
from permdoctor.daemon.care import Care
from permdoctor.daemon.claims import Claims
from permdoctor.daemon.dispatch import Dispatch
from permdoctor.daemon.events import Check, Left, List, Repair
from permdoctor.daemon.health import Health
from permdoctor.daemon.inbox import Inbox
from permdoctor.daemon.notify import Notifier
from permdoctor.daemon.nursery import Nursery
from permdoctor.daemon.rules import host_of
from permdoctor.daemon.source import Pace, Source
from permdoctor.daemon.state import State
from permdoctor.daemon.watch import Watch
from permdoctor.daemon.work import Job
from permdoctor.engines.endpoints import Endpoint, find_endpoints
from permdoctor.errors import CannotCheckError, PermdoctorError
from permdoctor.kernel.text import printable
from permdoctor.render.service_json import View
from permdoctor.repair.files import must_be_ours

if TYPE_CHECKING:
    from permdoctor.daemon.metrics import Metrics

OUTBOX: Final = "alerts.db"
_SOURCE_SECONDS: Final = 2.0
_MODE: Final = 0o700


class Parts:
    """``dispatch`` and ``watch`` belong to the loop's thread, as do all methods here."""

    inbox: Inbox
    dispatch: Dispatch
    watch: Watch
    outbox: Outbox
    asking: Asking

    def __init__(
        self,
        config: Config,
        hosts: tuple[str, ...],
        environ: Mapping[str, str],
        notifier: Notifier,
        nursery: Nursery,
        pace: Pace | None = None,
    ) -> None:
        self.config, self.notifier, self.nursery = config, notifier, nursery
        self._hosts, self._environ, self._pace = hosts, environ, pace
        self._raw = msgspec.msgpack.encode(config)
        self._claims = Claims()
        self._sources: dict[str, Source] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._sessions: dict[str, int] = {}
        self.inbox = Inbox(config.service.queue)
        self.health = Health()
        self.metrics: Metrics | None = _metrics(config)
        self.asking = Asking(nursery)
        self.care = Care(config.repair.state, log.say)

    # -- engines -----------------------------------------------------------------------------

    def endpoints(self, config: Config) -> tuple[Endpoint, ...]:
        """Raises ``UsageError``."""
        found = find_endpoints(self._hosts, self._environ, config.engines.hosts)
        for each in found:
            for name in each.also:
                log.logger().warning("an engine has two names", engine=each.url, also=name)
        return found

    def connect(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Watch these engines and no others."""
        wanted = {e.url: e for e in endpoints}
        gone = [url for url, e in self._endpoints.items() if wanted.get(url) != e]
        ended = [self._sources.pop(url) for url in gone]
        for source in ended:
            source.stop()
        for url in gone:
            del self._endpoints[url]
            if url not in wanted:
                self._sessions.pop(url, None)
                self.inbox.put(Left(engine=url))
        self._claims.expect(tuple(wanted))
        for url, endpoint in wanted.items():
            if url not in self._sources:
                self._endpoints[url] = endpoint
                self._sources[url] = Source(endpoint, self.inbox, self._pace, self._claims)
                self._sources[url].start()

    def disconnect(self) -> None:
        for source in self._sources.values():
            source.stop()
        end = time.monotonic() + _SOURCE_SECONDS
        for source in self._sources.values():
            if not source.join(max(0.0, end - time.monotonic())):
                log.logger().debug("a source does not end", engine=source.engine)

    def list(self, command: List) -> None:
        source = self._sources.get(command.engine)
        if source is not None:
            source.list(command.number)

    def connected(self, engine: str) -> None:
        """What was known of the engine itself may be otherwise, and what waited for it goes on."""
        self._sessions[engine] = self._sessions.get(engine, 0) + 1
        self.care.look()

    def watches(self, engine: str) -> bool:
        return engine in self._sources

    def job(self, command: Check | Repair) -> Job | None:
        engine = command.ref.engine
        endpoint = self._endpoints.get(engine)
        if endpoint is None:
            return None
        return Job(
            config=self._raw,
            endpoint=endpoint,
            session=self._sessions.get(engine, 0),
            check=command if isinstance(command, Check) else None,
            repair=command if isinstance(command, Repair) else None,
        )

    def check(self, name: str, view: View) -> bytes:
        """What somebody asks about, for any thread.  Raises ``PermdoctorError``."""
        return self.asking.check(Job(config=self._raw, name=name, view=view, hosts=self._hosts))

    # -- people ------------------------------------------------------------------------------

    def open_outbox(self, sinks: tuple[Sink, ...]) -> None:
        """Raises ``PermdoctorError``."""
        self.outbox = opened(self.config, sinks)
        self.outbox.start()

    # -- what others see ---------------------------------------------------------------------

    def untold(self, number: int, why: str) -> None:
        """So many alerts cannot be kept, let alone sent."""
        self.health.untold(number, why)
        if self.metrics is not None:
            self.metrics.untold(number)

    def observe(self, state: State) -> None:
        self.health.observe(state)
        if self.metrics is not None:
            self.metrics.observe(state)
            self.metrics.queue(len(self.inbox))
            self.metrics.workers_lost(self.dispatch.late, self.dispatch.died)
            self.metrics.watching(state.directories, fallback=bool(state.blind))

    def count(self) -> None:
        if self.metrics is None:
            return
        box = self.outbox
        self.metrics.alerts(box.counters(), box.waiting(), box.refused)
        if self.config.metrics.textfile:
            from permdoctor.daemon.exporter import write_textfile

            try:
                write_textfile(self.config.metrics.textfile, self.metrics)
            except PermdoctorError as e:
                log.logger().warning(e.message, hint=e.hint)

    def reconfigure(self, config: Config) -> None:
        self.config = config
        self._raw = msgspec.msgpack.encode(config)
        self.inbox.size = config.service.queue
        self.dispatch.resize(config.service.workers)
        self.watch.resize(config.service.watch_max)


def opened(config: Config, sinks: tuple[Sink, ...]) -> Outbox:
    """The outbox in the state directory, which is made.  Who else could write there would speak in
    our name.  Raises ``PermdoctorError``.
    """
    state = config.repair.state
    try:
        os.makedirs(state, _MODE, exist_ok=True)
        must_be_ours(state)
    except OSError as e:
        raise CannotCheckError(
            f"cannot make {printable(state)}: {e.strerror}",
            hint="repair.state names a directory that root can write",
        ) from e
    file = os.path.join(state, OUTBOX)
    return Outbox(file, sinks, host=host_of(config), log=log.say)


def _metrics(config: Config) -> Metrics | None:
    if not (config.metrics.listen or config.metrics.textfile):
        return None
    from permdoctor.daemon.metrics import Metrics

    return Metrics()
