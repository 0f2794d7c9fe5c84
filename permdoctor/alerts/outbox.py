"""Keeps what is to be told until each sink has taken it, over restarts and kill -9.

``store.py`` keeps it, a ``Courier`` with a thread of its own brings it to each sink: one that
hangs or is away delays no other.  Every alert arrives at least once; what was being sent when the
process was killed arrives again, with the same ``Alert.id``, by which a receiver counts it once.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from permdoctor.alerts import database
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.counters import Counters
from permdoctor.alerts.courier import Courier, Log
from permdoctor.alerts.delivery import StoreClosedError
from permdoctor.alerts.sink import Sink
from permdoctor.alerts.store import Store
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import CannotCheckError

_AFTER_TROUBLE: Final = 5.0
"""Seconds after which a courier tries again when the file could not be read or written."""


def log_to_logging(level: str, event: str, fields: Mapping[str, str]) -> None:
    """The standard library's logging; the service gives its own."""
    words = " ".join(f"{name}={value!r}" for name, value in fields.items())
    logging.getLogger("permdoctor.alerts").log(
        logging.getLevelNamesMapping().get(level.upper(), logging.ERROR), "%s %s", event, words
    )


class Outbox:
    """One process's.  Thread-safe.  ``clock`` (seconds since the epoch), ``monotonic`` and
    ``chance`` are arguments for tests and replays.
    """

    def __init__(
        self,
        file: str,
        sinks: tuple[Sink, ...],
        *,
        host: str,
        log: Log = log_to_logging,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Opens ``file``, made if it is missing.  ``host`` is named in the log.

        Raises ``UsageError`` if another process has it, ``CannotCheckError`` if it cannot be used.
        """
        self._file, self._log, self._clock, self._monotonic = file, log, clock, monotonic
        self._lock_fd = database.lock(file)
        try:
            whole = database.prepare(file)
            try:
                self._store = Store(file, sinks, now=clock())
            except database.ERRORS as e:
                if not database.is_damage(e):
                    raise
                database.renew(file)
                whole, self._store = False, Store(file, sinks, now=clock())
        except (OSError, sqlite3.Error) as e:
            os.close(self._lock_fd)
            raise CannotCheckError(f"cannot keep alerts in {file}: {e}") from None
        except BaseException:
            os.close(self._lock_fd)
            raise
        if not whole:
            log("error", "the outbox was damaged: set aside, begun anew", {"host": host})
        for name in self._store.forgotten:
            log("warning", "alerts for a sink that is gone are forgotten", {"sink": name})
        self._chance = chance
        self._couriers = self._made(sinks, {})
        self._woken = {name: threading.Event() for name in self._couriers}
        self._threads: dict[str, threading.Thread] | None = None
        self._refused = 0
        self._end_at: float | None = None

    def tell(self, alert: Alert) -> None:
        """Durable when it returns; waits for no sink.  The same ``alert.id`` twice is one; its
        newest text is what is resent and restored.  Raises ``CannotCheckError`` if it cannot be
        written.
        """
        try:
            told = self._store.tell(alert, self._clock())
        except sqlite3.Error as e:
            raise self._cannot(e) from None
        if told.refused:
            self._refused += 1
            self._log("error", "alert dropped: too many fire already", {"alert": alert.id})
        for name, number in told.evicted:
            self._couriers[name].evicted(number)
        for event in self._woken.values():
            event.set()

    def _cannot(self, e: sqlite3.Error) -> CannotCheckError:
        return CannotCheckError(
            f"cannot keep an alert in {self._file}: {e}",
            hint="make room in the state directory (repair.state)",
        )

    def firing(self) -> tuple[Alert, ...]:
        """What was told and not resolved, oldest first."""
        return self._store.firing()

    def waiting(self) -> dict[str, int]:
        """Deliveries on their way, by sink."""
        return self._store.waiting()

    def counters(self) -> dict[str, Counters]:
        """By sink."""
        return {name: courier.counters() for name, courier in self._couriers.items()}

    @property
    def tells_from(self) -> Severity | None:
        """The least severity that any sink is told; ``None``: there is no sink."""
        return min((c.sink.min_severity for c in self._couriers.values()), default=None)

    @property
    def refused(self) -> int:
        """Alerts that nobody was told of because too many fired already."""
        return self._refused

    def start(self) -> None:
        """One thread a sink."""
        self._threads = {name: self._thread(name, None) for name in self._couriers}

    def change_sinks(self, sinks: tuple[Sink, ...]) -> None:
        """Others are told from now on; one of a name that was there before begins when that one has
        ended what it is just telling, so that nobody is told twice.  Raises ``CannotCheckError``,
        with everything as it was.
        """
        try:
            gone = self._store.change_sinks(sinks, self._clock())
        except sqlite3.Error as e:
            raise self._cannot(e) from None
        for name in gone:
            self._log("warning", "alerts for a sink that is gone are forgotten", {"sink": name})
        woken = self._woken
        self._couriers = self._made(sinks, self._couriers)
        self._woken = {name: threading.Event() for name in self._couriers}
        for event in woken.values():
            event.set()
        if (before := self._threads) is not None:
            self._threads = {n: self._thread(n, before.get(n)) for n in self._couriers}

    def _made(self, sinks: tuple[Sink, ...], before: Mapping[str, Courier]) -> dict[str, Courier]:
        now = self._monotonic()
        return {
            s.name: Courier(s, self._store, self._log, self._chance, now, before.get(s.name))
            for s in sinks
        }

    def _thread(self, name: str, before: threading.Thread | None) -> threading.Thread:
        thread = threading.Thread(
            target=self._work,
            args=(self._couriers[name], self._woken[name], before),
            name=f"permdoctor-{name}",
            daemon=True,
        )
        thread.start()
        return thread

    def close(self, seconds: float) -> None:
        """Tell what can be told within so many seconds; the rest is told after the next start."""
        self._end_at = end = self._monotonic() + seconds
        for event in self._woken.values():
            event.set()
        for thread in (self._threads or {}).values():
            thread.join(max(0.0, end - self._monotonic()))
        self._store.close()
        os.close(self._lock_fd)

    def _work(
        self, courier: Courier, woken: threading.Event, before: threading.Thread | None
    ) -> None:
        """Until another courier is its sink's, or the end."""
        if before is not None:
            before.join()
        while self._couriers.get(courier.sink.name) is courier:
            woken.clear()
            try:
                wait = courier.step(self._monotonic(), self._clock())
            except StoreClosedError:
                return
            except sqlite3.Error as e:
                self._log("error", "the outbox cannot be used", {"why": str(e)})
                wait = _AFTER_TROUBLE
            if self._end_at is not None and (wait != 0.0 or self._monotonic() >= self._end_at):
                return
            if wait != 0.0:
                woken.wait(wait)
