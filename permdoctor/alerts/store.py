"""What people have been told and what is still on its way, in one sqlite3 file.

Invariants:

- ``tell`` is one transaction, on disk (WAL, synchronous=FULL) when it returns.  What the couriers
  note is on disk with the next of those: a power cut may make them tell something again, under the
  same ``Alert.id``; after a kill that is only what was just being sent.
- A sink is told of a resolve if, and only if, it was or will be told of a firing of that episode.
- What waits says the newest: an update takes the place of what the sink cannot have heard yet.
- Deliveries of one fingerprint to one sink leave in the order in which they were told: the next is
  not taken before the one before it has arrived or was dropped.
- Bounded: ``MAX_FIRING`` alerts, ``MAX_WAITING`` deliveries a sink (after a start, until the next
  ``tell``, as many as fire), ``KEPT`` resolved alerts.

Nothing here waits for a sink, and no clock is read.  Thread-safe.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.database import connect, one, rows_of
from permdoctor.alerts.delivery import (
    SENT,
    WAITING,
    Delivery,
    StoreClosedError,
    Told,
    from_text,
)
from permdoctor.alerts.ledger import Ledger
from permdoctor.alerts.sink import Sink


class Store:
    """``sinks`` are those that are told; what waits for others is ``forgotten``."""

    def __init__(self, file: str, sinks: tuple[Sink, ...], *, now: float) -> None:
        """Opens a prepared file, and reads every alert in it that will be asked for.  A sink is
        told at the start of what fires and it has not heard: it may be new, or have refused it.
        Raises ``sqlite3.Error``.
        """
        self._ledger = Ledger(sinks)
        self._lock = threading.Lock()
        self._closed = False
        self._durable = connect(file, synchronous="FULL")
        self._quick = connect(file, synchronous="NORMAL")
        try:
            self._begin(now)
        except BaseException:
            self.close()
            raise

    def _begin(self, now: float) -> None:
        with self._writing(self._durable) as db:
            for (text,) in db.execute("SELECT text FROM delivery WHERE state = 0"):
                from_text(text)
            self.forgotten = self._ledger.tell_others(db, now)

    def change_sinks(self, sinks: tuple[Sink, ...], now: float) -> tuple[str, ...]:
        """Others are told from now on.  Returns the names of those that are forgotten.  Raises
        ``sqlite3.Error``, with everything as it was.
        """
        before = self._ledger.sinks
        try:
            with self._writing(self._durable) as db:
                self._ledger.sinks = {sink.name: sink for sink in sinks}
                return self._ledger.tell_others(db, now)
        except sqlite3.Error:
            self._ledger.sinks = before
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._quick.close()
            self._durable.close()

    def tell(self, alert: Alert, now: float) -> Told:
        """Keep it for everybody.  ``now`` is since the epoch."""
        with self._writing(self._durable) as db:
            if alert.status is AlertStatus.RESOLVED:
                self._ledger.resolve(db, alert, now)
            elif not self._ledger.fire(db, alert, now):
                return Told(refused=True)
            return Told(evicted=self._ledger.evict(db))

    def firing(self) -> tuple[Alert, ...]:
        with self._reading() as db:
            rows = rows_of(db, "SELECT text FROM alert WHERE resolved = 0 ORDER BY n")
            return tuple(from_text(text) for (text,) in rows)

    def firing_at(self, sink: str, limit: int, after: int) -> tuple[tuple[Alert, ...], int | None]:
        """What fires and was told there, ``after`` the end of the call before (0: none was); and
        where this one ended, ``None`` if that was all.
        """
        with self._reading() as db:
            rows = rows_of(
                db,
                "SELECT n, text FROM alert a WHERE n > ? AND resolved = 0 AND EXISTS ("
                "  SELECT 1 FROM delivery d WHERE d.alert = a.n AND d.sink = ? AND d.state = ?)"
                " ORDER BY n LIMIT ?",
                (after, sink, SENT, limit),
            )
            last = rows[-1][0] if len(rows) == limit else None
            return tuple(from_text(text) for _, text in rows), last

    def waiting(self) -> dict[str, int]:
        with self._lock:
            return dict(self._ledger.waiting)

    def next(self, sink: str, limit: int, not_yet: Collection[int]) -> list[Delivery]:
        """Up to ``limit`` deliveries, at most one a fingerprint, those that were tried least often
        first, but for those that shall not be tried ``not_yet``.
        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT d.n, d.text, d.told, d.attempts, d.status = 'firing' AND a.resolved = 1"
                "  AND NOT EXISTS (SELECT 1 FROM delivery f WHERE f.alert = d.alert"
                "  AND f.sink = d.sink AND f.status = 'firing' AND (f.state = 1 OR f.attempts > 0))"
                " FROM delivery d JOIN alert a ON a.n = d.alert"
                " WHERE d.sink = ?1 AND d.state = 0 AND NOT EXISTS ("
                "  SELECT 1 FROM delivery e WHERE e.sink = ?1 AND e.state = 0"
                "  AND e.fingerprint = d.fingerprint AND e.n < d.n)"
                " ORDER BY d.attempts, d.n",
                (sink,),
            )
            found: list[Delivery] = []
            for n, text, told, tried, over in rows:
                if len(found) == limit:
                    break
                if n in not_yet:
                    continue
                alert = from_text(text)
                found.append(Delivery(n=n, alert=alert, told=told, attempts=tried, over=bool(over)))
            return found

    def begin(self, sink: str, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Note, before the sink can have heard of them, that they are tried.  Returns those that
        wait still, as they are now; until they end, or others of this sink begin, they make no room
        for others.
        """
        with self._writing(self._quick) as db:
            begun: list[Delivery] = []
            for d in deliveries:
                waits = one(
                    db, "SELECT text FROM delivery WHERE n = ? AND state = ?", (d.n, WAITING)
                )
                if waits is not None:
                    db.execute("UPDATE delivery SET attempts = attempts + 1 WHERE n = ?", (d.n,))
                    begun.append(replace(d, alert=from_text(waits[0])))
            self._ledger.busy(sink, (d.n for d in begun))
            return begun

    def sent(self, sink: str, deliveries: Iterable[Delivery]) -> None:
        with self._writing(self._quick) as db:
            self._ledger.busy(sink, ())
            self._ledger.note(db, sink, [d.n for d in deliveries], SENT)

    def drop(self, sink: str, deliveries: Iterable[Delivery]) -> None:
        """Not to be told; nor are the resolves of which the sink then knows no firing."""
        with self._writing(self._quick) as db:
            self._ledger.busy(sink, ())
            self._ledger.drop(db, sink, [d.n for d in deliveries])

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise StoreClosedError
            yield self._quick

    @contextmanager
    def _writing(self, db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing, the count of what waits as well."""
        with self._lock:
            if self._closed:
                raise StoreClosedError
            waiting = dict(self._ledger.waiting)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._ledger.waiting = waiting
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
