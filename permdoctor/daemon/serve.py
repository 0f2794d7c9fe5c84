"""``serve``: the service from its start to its end.

Order matters.  The nursery is there before the first thread; what people were told before is known
before the first engine is asked; READY is said once every engine is being asked.  At the end the
other way round: no new work, what is under way ends in order, what is to be told is told as far as
there is time, and nothing is left behind.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Final

from permdoctor.alerts.sink import Sink, sinks_of
from permdoctor.config import Config, Loaded, changed, places, read
from permdoctor.daemon import log
from permdoctor.daemon.dispatch import AHEAD, Dispatch, Worker
from permdoctor.daemon.doors import Doors
from permdoctor.daemon.episodes import HOUR
from permdoctor.daemon.events import Left, PastRepair, Reloaded, Restored
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.loop import Loop
from permdoctor.daemon.notify import Notifier
from permdoctor.daemon.nursery import CHECKER, WATCHER, Nursery, Work
from permdoctor.daemon.parts import Parts
from permdoctor.daemon.reconciler import Reconciler
from permdoctor.daemon.rules import host_of, local_minute, rules_of
from permdoctor.daemon.signals import ENDS, RELOAD, Signals
from permdoctor.daemon.source import Pace
from permdoctor.daemon.watch import Watch
from permdoctor.errors import CannotCheckError, PermdoctorError, UsageError

if TYPE_CHECKING:
    from permdoctor.daemon.status import Facts

_REPAIR_SECONDS: Final = 30.0
_FLUSH_SECONDS: Final = 5.0


def serve(
    file: str | None,
    hosts: tuple[str, ...],
    environ: MutableMapping[str, str],
    pace: Pace | None = None,
) -> int:
    """Until SIGTERM or SIGINT.  Raises ``UsageError`` for a configuration that is wrong,
    ``CannotCheckError`` where the machine does not let it begin.
    """
    loaded = read(file, environ)
    notifier = Notifier(environ)
    log.configure(loaded.config.log, environ, sys.stderr)
    nursery = Nursery({CHECKER: _checker, WATCHER: _watcher})
    service = _Service(loaded, file, hosts, environ, notifier, nursery, pace)
    try:
        service.begin()
        service.run()
    finally:
        service.end()
    return service.status


def _checker() -> Work:
    """What workers need is imported once."""
    import permdoctor.app.live
    import permdoctor.app.neighbours  # noqa: F401 - it is there then
    from permdoctor.daemon.work import work

    return work


def _watcher() -> Work:
    from permdoctor.daemon.watching import watching

    return watching


class _Service:
    def __init__(
        self,
        loaded: Loaded,
        file: str | None,
        hosts: tuple[str, ...],
        environ: MutableMapping[str, str],
        notifier: Notifier,
        nursery: Nursery,
        pace: Pace | None,
    ) -> None:
        config = loaded.config
        self.status = 0
        self._file, self._hosts, self._environ = file, hosts, environ
        self._loaded = loaded
        self._started = time.time()
        self._config_error = ""
        self._sinks: tuple[Sink, ...] = ()
        self._began = False
        self._parts = parts = Parts(config, hosts, environ, notifier, nursery, pace)
        limits = Limits(checks=AHEAD + config.service.workers, check_deadline=300.0)
        self._reconciler = Reconciler(rules_of(config), limits, local_minute)
        self._loop = loop = Loop(parts, self._reconciler)
        parts.dispatch = Dispatch(
            nursery, config.service.workers, parts.job, self._listen_to, loop.forget
        )
        parts.watch = Watch(
            nursery, config.service.watch_max, log.say, self._listen_to, loop.forget
        )
        self._doors = Doors(parts, lambda: loop.state, self._facts)
        self._signals = Signals()

    # -- beginning ---------------------------------------------------------------------------

    def begin(self) -> None:
        parts, config = self._parts, self._loaded.config
        endpoints = parts.endpoints(config)
        self._sinks = sinks_of(config.alerts.sinks, self._environ)
        parts.open_outbox(self._sinks)
        self._began = True
        firing, repairs = parts.outbox.firing(), self._repairs_before(config)
        if firing:
            log.logger().info("alerts go on from before", count=len(firing))
        if firing or repairs:
            self._loop.take([Restored(firing=firing, repairs=repairs)])
        self._loop.watch(parts.inbox.fileno(), lambda: None)
        self._loop.watch(parts.nursery.fileno(), self._nursery_died)
        self._loop.watch(self._signals.fileno(), self._signals_came)
        self._signals.catch()
        self._doors.open(config)
        if parts.metrics is not None:
            parts.metrics.reloaded(True, time.time())
        parts.care.start()
        parts.connect(endpoints)
        for engine in dict.fromkeys(a.problem.engine for a in firing):
            if not parts.watches(engine):
                self._loop.take([Left(engine=engine)])
        parts.watch.configuration(places(self._loaded))
        log.logger().info(
            "permdoctor serves",
            engines=", ".join(e.url for e in endpoints),
            sinks=", ".join(s.name for s in self._sinks) or "none",
            config=self._loaded.place,
            host=host_of(config),
        )
        parts.notifier.ready(f"watching {len(endpoints)} engines")

    def run(self) -> None:
        self._loop.run()

    def _repairs_before(self, config: Config) -> tuple[PastRepair, ...]:
        """Where the journals cannot be read, no repair can be begun either."""
        from permdoctor.daemon.past import past_repairs

        try:
            return past_repairs(config.repair.state, time.time() - HOUR)
        except PermdoctorError as e:
            log.logger().error(e.message, hint=e.hint)
            return ()

    def _facts(self) -> Facts:
        """In a server's thread."""
        from permdoctor.daemon.status import Facts

        box = self._parts.outbox
        return Facts(
            host=host_of(self._loaded.config),
            started=self._started,
            config_error=self._config_error,
            troubles=tuple(filter(None, (self._parts.health.unkept(), *self._doors.troubles))),
            sinks=box.counters(),
            waiting=box.waiting(),
            tells_from=box.tells_from,
        )

    # -- what comes --------------------------------------------------------------------------

    def _listen_to(self, fd: int, who: object) -> None:
        wake: Callable[[], None]
        if isinstance(who, Worker):
            wake = partial(self._worker_answers, who)
        else:
            wake = self._watch_answers
        self._loop.watch(fd, wake)

    def _worker_answers(self, worker: Worker) -> None:
        self._loop.take(self._parts.dispatch.answered(worker, time.monotonic()))

    def _watch_answers(self) -> None:
        for event in self._parts.watch.answered():
            if isinstance(event, bytes):
                self._config_changed()
            else:
                self._loop.take([event])

    def _nursery_died(self) -> None:
        self.status = CannotCheckError.exit_status
        log.logger().critical("the nursery died: nothing can be judged any more")
        self._loop.end()

    def _signals_came(self) -> None:
        numbers = self._signals.taken()
        if numbers & ENDS:
            self._loop.end()
        elif RELOAD in numbers:
            self._reload()

    # -- another configuration ---------------------------------------------------------------

    def _config_changed(self) -> None:
        """Taken when somebody says so: who edits several files is not done after the first."""
        try:
            new = read(self._file, self._environ)
        except PermdoctorError as e:
            for message, hint in e.lines:
                log.logger().warning("the changed configuration is wrong", why=message, hint=hint)
            return
        if new.config != self._loaded.config:
            log.logger().info(
                "the configuration has changed",
                files=", ".join(changed(self._loaded, new)),
                hint="SIGHUP puts it into force",
            )

    def _reload(self) -> None:
        """All of it, or nothing."""
        parts, before = self._parts, self._loaded
        parts.notifier.reloading()
        try:
            self._take_over(read(self._file, self._environ))
        except PermdoctorError as e:
            self._config_error = e.message
            for message, hint in e.lines:
                log.logger().error("configuration not reloaded", why=message, hint=hint)
        else:
            self._config_error = ""
            log.logger().info(
                "configuration reloaded",
                config=self._loaded.place,
                changed=", ".join(changed(before, self._loaded)) or "nothing",
            )
        if parts.metrics is not None:
            parts.metrics.reloaded(not self._config_error, time.time())
        parts.notifier.ready("configuration not reloaded" if self._config_error else "reloaded")

    def _take_over(self, new: Loaded) -> None:
        """Raises ``PermdoctorError`` with everything as it was."""
        parts, old, config = self._parts, self._loaded.config, new.config
        if config.repair.state != old.repair.state:
            raise UsageError("repair.state changes with a restart only")
        if bool(parts.metrics) != bool(config.metrics.listen or config.metrics.textfile):
            raise UsageError("metrics are switched on and off with a restart only")
        endpoints = parts.endpoints(config)
        sinks = sinks_of(config.alerts.sinks, self._environ)
        self._doors.reopen(config)
        self._enforce(config)
        try:
            parts.outbox.change_sinks(sinks)
        except PermdoctorError:
            self._doors.reopen(old)
            self._enforce(old)
            raise
        self._sinks, self._loaded = sinks, new
        parts.connect(endpoints)
        parts.watch.configuration(places(self._loaded))

    def _enforce(self, config: Config) -> None:
        """Before the sinks change: a new one is not told of what is over by the new rules."""
        log.configure(config.log, self._environ, sys.stderr)
        self._parts.reconfigure(config)
        self._loop.take([Reloaded(rules=rules_of(config))])

    # -- the end -----------------------------------------------------------------------------

    def end(self) -> None:
        """In order, within seconds; whatever of it was begun."""
        parts = self._parts
        parts.notifier.stopping("ending what is under way")
        if self._began:
            log.logger().info("permdoctor stops")
        parts.disconnect()
        parts.dispatch.interrupt()
        self._loop.drain(time.monotonic() + _REPAIR_SECONDS, lambda: parts.dispatch.repairing)
        parts.dispatch.close()
        parts.watch.close()
        self._doors.close()
        if self._began:
            parts.outbox.close(_FLUSH_SECONDS)
        parts.nursery.close()
        parts.care.close()
        textfile = parts.config.metrics.textfile
        if self._began and textfile:
            from permdoctor.daemon.exporter import remove_textfile

            remove_textfile(textfile)
        self._signals.close()
        parts.inbox.close()
        parts.notifier.close()
