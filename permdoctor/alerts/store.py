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
from typing import Final

from msgspec.structs import replace

from permdoctor.alerts import room, wording
from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.database import connect, one, rows_of
from permdoctor.alerts.delivery import (
    DROPPED,
    SENT,
    WAITING,
    Delivery,
    StoreClosedError,
    Told,
    as_text,
    from_text,
)
from permdoctor.alerts.sink import Sink

MAX_FIRING: Final = 20_000
MAX_WAITING: Final = 10_000
KEPT: Final = 1_000
"""Resolved alerts that are remembered, so that one that is told again is known."""

CLEANED: Final = 100
"""After so many resolves what is more than that is forgotten."""


class Store:
    """``sinks`` are those that are told; what waits for others is ``forgotten``."""

    def __init__(self, file: str, sinks: tuple[Sink, ...], *, now: float) -> None:
        """Opens a prepared file, and reads every alert in it that will be asked for.  A sink is
        told at the start of what fires and it has not heard: it may be new, or have refused it.
        Raises ``sqlite3.Error``.
        """
        self._sinks = {sink.name: sink for sink in sinks}
        self._lock = threading.Lock()
        self._closed = False
        self._resolves = 0
        self._waiting = dict.fromkeys(self._sinks, 0)
        self._busy: dict[str, frozenset[int]] = dict.fromkeys(self._sinks, frozenset())
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
            self.forgotten = self._tell_others(db, now)
            room.forget_resolved(db, KEPT)

    def change_sinks(self, sinks: tuple[Sink, ...], now: float) -> tuple[str, ...]:
        """Others are told from now on.  Returns the names of those that are forgotten.  Raises
        ``sqlite3.Error``, with everything as it was.
        """
        before = self._sinks
        try:
            with self._writing(self._durable) as db:
                self._sinks = {sink.name: sink for sink in sinks}
                return self._tell_others(db, now)
        except sqlite3.Error:
            self._sinks = before
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
                self._resolve(db, alert, now)
            elif not self._fire(db, alert, now):
                return Told(refused=True)
            evicted = tuple(
                (name, self._drop(db, name, room.oldest(db, name, self._busy[name])))
                for name in self._sinks
                if self._waiting[name] > MAX_WAITING
            )
        return Told(evicted=evicted)

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
            return {name: self._waiting[name] for name in self._sinks}

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
            self._busy[sink] = frozenset(d.n for d in begun)
            return begun

    def sent(self, sink: str, deliveries: Iterable[Delivery]) -> None:
        with self._writing(self._quick) as db:
            self._busy[sink] = frozenset()
            self._note(db, sink, [d.n for d in deliveries], SENT)

    def drop(self, sink: str, deliveries: Iterable[Delivery]) -> None:
        """Not to be told; nor are the resolves of which the sink then knows no firing."""
        with self._writing(self._quick) as db:
            self._busy[sink] = frozenset()
            self._drop(db, sink, [d.n for d in deliveries])

    # --- inside a transaction ---

    def _fire(self, db: sqlite3.Connection, alert: Alert, now: float) -> bool:
        """A new episode, or what is known, in other words."""
        known = one(
            db,
            "SELECT n, severity, revision, resolved FROM alert WHERE episode = ?",
            (alert.episode,),
        )
        if known is not None:
            n, worst, revision, resolved = known
            if resolved or alert.revision < revision:
                return True
            db.execute(
                "UPDATE alert SET severity = ?, revision = ?, text = ? WHERE n = ?",
                (max(worst, int(alert.severity)), alert.revision, as_text(alert), n),
            )
            if alert.revision == revision:
                wording.renew(db, n, alert)
            elif alert.severity > worst:
                self._deliver(db, n, alert, now)
            else:
                self._update(db, n, alert, now)
            return True
        self._end_episode_before(db, alert, now)
        (firing,) = one(db, "SELECT count(*) FROM alert WHERE resolved = 0") or (0,)
        if firing >= MAX_FIRING:
            return False
        added = db.execute(
            "INSERT INTO alert (episode, fingerprint, severity, revision, text)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                alert.episode,
                alert.problem.fingerprint,
                int(alert.severity),
                alert.revision,
                as_text(alert),
            ),
        )
        assert added.lastrowid is not None
        self._deliver(db, added.lastrowid, alert, now)
        return True

    def _end_episode_before(self, db: sqlite3.Connection, alert: Alert, now: float) -> None:
        """A problem fires once at a time."""
        for (text,) in rows_of(
            db,
            "SELECT text FROM alert WHERE fingerprint = ? AND resolved = 0",
            (alert.problem.fingerprint,),
        ):
            before = from_text(text)
            ended = max(before.started, alert.started)
            self._resolve(db, replace(before, status=AlertStatus.RESOLVED, ended=ended), now)

    def _resolve(self, db: sqlite3.Connection, alert: Alert, now: float) -> None:
        firing = one(db, "SELECT n FROM alert WHERE episode = ? AND resolved = 0", (alert.episode,))
        if firing is None:
            return
        db.execute("UPDATE alert SET resolved = 1 WHERE n = ?", firing)
        for (sink,) in rows_of(
            db,
            "SELECT DISTINCT sink FROM delivery WHERE alert = ? AND state != ?",
            (firing[0], DROPPED),
        ):
            self._add(db, sink, firing[0], alert, now)
        self._resolves += 1
        if self._resolves % CLEANED == 0:
            room.forget_resolved(db, KEPT)

    def _deliver(self, db: sqlite3.Connection, n: int, alert: Alert, now: float) -> None:
        """To every sink that wants it."""
        for sink in self._sinks.values():
            if alert.severity >= sink.min_severity and not wording.replaced(
                db, sink.name, n, alert, only_updates=True
            ):
                self._add(db, sink.name, n, alert, now)

    def _update(self, db: sqlite3.Connection, n: int, alert: Alert, now: float) -> None:
        """To those that can use it, of those that were or will be told of a firing."""
        update = replace(alert, update=True)
        for sink in self._sinks.values():
            if not wording.heard(db, sink.name, n):
                continue
            if not wording.replaced(db, sink.name, n, update) and sink.updates:
                self._add(db, sink.name, n, update, now)

    def _deliver_again(self, db: sqlite3.Connection, n: int, alert: Alert, now: float) -> None:
        """To every sink that wants it and has not heard of it, or where it was dropped."""
        for sink in self._sinks.values():
            if alert.severity >= sink.min_severity and not wording.heard(db, sink.name, n):
                self._add(db, sink.name, n, alert, now)
        db.execute(
            "UPDATE delivery SET state = ?, told = ?, attempts = 0"
            " WHERE alert = ? AND revision = ? AND state = ?",
            (WAITING, now, n, alert.revision, DROPPED),
        )

    def _add(self, db: sqlite3.Connection, sink: str, n: int, alert: Alert, now: float) -> None:
        added = db.execute(
            "INSERT OR IGNORE INTO delivery"
            " (sink, alert, fingerprint, status, revision, text, told)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (sink, n, alert.problem.fingerprint, alert.status, alert.revision, as_text(alert), now),
        )  # fmt: skip
        self._waiting[sink] += added.rowcount

    def _tell_others(self, db: sqlite3.Connection, now: float) -> tuple[str, ...]:
        """The sinks are others.  Returns the names of those that are forgotten."""
        self._waiting = dict.fromkeys(self._sinks, 0)
        self._busy = {name: self._busy.get(name, frozenset()) for name in self._sinks}
        forgotten = self._forget_other_sinks(db)
        for n, text in rows_of(db, "SELECT n, text FROM alert WHERE resolved = 0"):
            self._deliver_again(db, n, from_text(text), now)
        self._waiting |= dict(
            rows_of(db, "SELECT sink, count(*) FROM delivery WHERE state = 0 GROUP BY sink")
        )
        return forgotten

    def _forget_other_sinks(self, db: sqlite3.Connection) -> tuple[str, ...]:
        """Deliveries to sinks that are not configured any more.  Returns their names."""
        known = [row[0] for row in rows_of(db, "SELECT DISTINCT sink FROM delivery")]
        gone = tuple(name for name in known if name not in self._sinks)
        for name in gone:
            db.execute("DELETE FROM delivery WHERE sink = ?", (name,))
        return gone

    def _drop(self, db: sqlite3.Connection, sink: str, ns: list[int]) -> int:
        dropped = self._note(db, sink, ns, DROPPED)
        return dropped + self._note(db, sink, room.orphans(db, ns), DROPPED)

    def _note(self, db: sqlite3.Connection, sink: str, ns: list[int], state: int) -> int:
        """How many of them waited."""
        ended = sum(
            db.execute(
                "UPDATE delivery SET state = ? WHERE n = ? AND state = ?", (state, n, WAITING)
            ).rowcount
            for n in ns
        )
        if ended:
            self._waiting[sink] -= ended
        return ended

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
            waiting = dict(self._waiting)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._waiting = waiting
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
