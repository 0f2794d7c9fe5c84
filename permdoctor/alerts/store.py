"""What people have been told and what is still on its way, in one sqlite3 file.

``alert`` has a row for each episode, ``delivery`` one for each sink and status that it has to be
told.  Invariants:

- ``tell`` is one transaction, on disk (WAL, synchronous=FULL) when it returns.  What the couriers
  note is on disk with the next of those: a power cut may make them tell something again, under the
  same ``Alert.id``, and a killed process does not even that, but for what it was just sending.
- A sink is told of a resolve if, and only if, it was or will be told of the firing.
- Deliveries of one fingerprint to one sink leave in the order in which they were told: the next is
  not taken before the one before it has arrived or was dropped.
- Bounded: ``MAX_FIRING`` alerts, ``MAX_WAITING`` deliveries a sink, ``KEPT`` resolved alerts.

Nothing here waits, and no clock is read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from permdoctor.alerts import room
from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.database import connect, one, rows_of
from permdoctor.alerts.sink import Sink

MAX_FIRING: Final = 20_000
MAX_WAITING: Final = 10_000
KEPT: Final = 1_000
"""Resolved alerts that are remembered, so that one that is told again is known."""

CLEANED: Final = 100
"""After so many resolves what is more than that is forgotten."""

_WAITING, _SENT, _DROPPED = 0, 1, 2


class StoreClosedError(Exception):
    """Asked after ``close``."""


class Told(Struct, frozen=True, kw_only=True):
    """What ``tell`` did: ``refused`` if there are too many alerts already, and the deliveries that
    had to make room, by sink.
    """

    refused: bool = False
    evicted: tuple[tuple[str, int], ...] = ()


class Delivery(Struct, frozen=True, kw_only=True):
    """One alert for one sink.  ``told`` is when, in seconds since the epoch; ``attempts`` how often
    it was tried; ``over`` that its resolve waits behind it.
    """

    n: int
    alert: Alert
    told: float
    attempts: int
    over: bool


class Store:
    """Thread-safe.  ``sinks`` are those that are told; what waits for others is forgotten."""

    def __init__(self, file: str, sinks: tuple[Sink, ...], *, now: float) -> None:
        self._sinks = {sink.name: sink for sink in sinks}
        self._lock = threading.Lock()
        self._closed = False
        self._resolves = 0
        self._waiting = dict.fromkeys(self._sinks, 0)
        self._busy: dict[str, frozenset[int]] = dict.fromkeys(self._sinks, frozenset())
        self._durable = connect(file, synchronous="FULL")
        self._quick = connect(file, synchronous="NORMAL")
        with self._writing(self._durable) as db:
            self.forgotten = self._forget_other_sinks(db)
            for n, fingerprint, text in rows_of(
                db, "SELECT n, fingerprint, firing FROM alert WHERE resolved IS NULL"
            ):
                self._deliver(db, n, fingerprint, _alert(text), now, again=True)
            self._waiting |= dict(
                rows_of(db, "SELECT sink, count(*) FROM delivery WHERE state = 0 GROUP BY sink")
            )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._quick.close()
            self._durable.close()

    def tell(self, alert: Alert, now: float) -> Told:
        """Keep it for everybody."""
        with self._writing(self._durable) as db:
            if alert.status is AlertStatus.RESOLVED:
                self._resolve(db, alert, now)
            elif not self._fire(db, alert, now):
                return Told(refused=True)
            evicted = tuple(
                (name, self._make_room(db, name))
                for name, waiting in self._waiting.items()
                if waiting > MAX_WAITING
            )
        return Told(evicted=evicted)

    def firing(self) -> tuple[Alert, ...]:
        with self._reading() as db:
            rows = rows_of(db, "SELECT firing FROM alert WHERE resolved IS NULL ORDER BY n")
            return tuple(_alert(text) for (text,) in rows)

    def firing_at(self, sink: str) -> tuple[Alert, ...]:
        """What fires and was told there."""
        with self._reading() as db:
            rows = rows_of(
                db,
                "SELECT firing FROM alert JOIN delivery ON alert.n = delivery.alert"
                " WHERE resolved IS NULL AND sink = ? AND state = ? ORDER BY alert.n",
                (sink, _SENT),
            )
            return tuple(_alert(text) for (text,) in rows)

    def waiting(self) -> dict[str, int]:
        with self._lock:
            return dict(self._waiting)

    def next(self, sink: str, limit: int, not_yet: Collection[int]) -> list[Delivery]:
        """Up to ``limit`` deliveries, at most one a fingerprint, those that were tried least often
        first, but for those that shall not be tried ``not_yet``.
        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT d.n, d.status, d.told, d.attempts, a.firing, a.resolved"
                " FROM delivery d JOIN alert a ON a.n = d.alert"
                " WHERE d.sink = ?1 AND d.state = 0 AND NOT EXISTS ("
                "  SELECT 1 FROM delivery e WHERE e.sink = ?1 AND e.state = 0"
                "  AND e.fingerprint = d.fingerprint AND e.n < d.n)"
                " ORDER BY d.attempts, d.n",
                (sink,),
            )
            found: list[Delivery] = []
            for n, status, told, attempts, firing, resolved in rows:
                if len(found) == limit:
                    break
                if n in not_yet:
                    continue
                is_firing = status == AlertStatus.FIRING
                alert = _alert(firing if is_firing else resolved)
                over = is_firing and resolved is not None
                found.append(Delivery(n=n, alert=alert, told=told, attempts=attempts, over=over))
            return found

    def begin(self, sink: str, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Note, before the sink can have heard of them, that they are tried.  Returns those that
        wait still; until they end, or others of this sink begin, they make no room for others.
        """
        with self._writing(self._quick) as db:
            begun = [
                d
                for d in deliveries
                if db.execute(
                    "UPDATE delivery SET attempts = attempts + 1 WHERE n = ? AND state = ?",
                    (d.n, _WAITING),
                ).rowcount
            ]
            self._busy[sink] = frozenset(d.n for d in begun)
            return begun

    def sent(self, sink: str, deliveries: Iterable[Delivery]) -> None:
        with self._writing(self._quick) as db:
            self._busy[sink] = frozenset()
            self._note(db, sink, [d.n for d in deliveries], _SENT)

    def drop(self, sink: str, deliveries: Iterable[Delivery]) -> None:
        """Not to be told; nor is the resolve that waits for a firing among them."""
        with self._writing(self._quick) as db:
            self._busy[sink] = frozenset()
            ns = [d.n for d in deliveries]
            self._note(db, sink, [*ns, *room.resolves_of(db, ns)], _DROPPED)

    # --- inside a transaction ---

    def _fire(self, db: sqlite3.Connection, alert: Alert, now: float) -> bool:
        fingerprint, started = alert.problem.fingerprint, _key(alert)
        row = one(
            db,
            "SELECT n, resolved FROM alert WHERE fingerprint = ? AND started = ?",
            (fingerprint, started),
        )
        if row is None:
            self._end_episode_before(db, alert, now)
            (firing,) = one(db, "SELECT count(*) FROM alert WHERE resolved IS NULL") or (0,)
            if firing >= MAX_FIRING:
                return False
            added = db.execute(
                "INSERT INTO alert (fingerprint, started, firing) VALUES (?, ?, ?)",
                (fingerprint, started, _text(alert)),
            )
            assert added.lastrowid is not None
            n = added.lastrowid
        elif row[1] is not None:
            return True
        else:
            n = row[0]
            db.execute("UPDATE alert SET firing = ? WHERE n = ?", (_text(alert), n))
        self._deliver(db, n, fingerprint, alert, now)
        return True

    def _end_episode_before(self, db: sqlite3.Connection, alert: Alert, now: float) -> None:
        """A problem fires once at a time."""
        for (text,) in rows_of(
            db,
            "SELECT firing FROM alert WHERE fingerprint = ? AND resolved IS NULL",
            (alert.problem.fingerprint,),
        ):
            before = _alert(text)
            ended = max(before.started, alert.started)
            self._resolve(db, replace(before, status=AlertStatus.RESOLVED, ended=ended), now)

    def _resolve(self, db: sqlite3.Connection, alert: Alert, now: float) -> None:
        row = one(
            db,
            "SELECT n FROM alert WHERE fingerprint = ? AND started = ? AND resolved IS NULL",
            (alert.problem.fingerprint, _key(alert)),
        )
        if row is None:
            return
        db.execute("UPDATE alert SET resolved = ? WHERE n = ?", (_text(alert), row[0]))
        for (sink,) in rows_of(
            db,
            "SELECT sink FROM delivery WHERE alert = ? AND status = ? AND state != ?",
            (row[0], AlertStatus.FIRING, _DROPPED),
        ):
            self._add(db, sink, row[0], alert, now)
        self._resolves += 1
        if self._resolves % CLEANED == 0:
            room.forget_resolved(db, KEPT)

    def _deliver(
        self,
        db: sqlite3.Connection,
        n: int,
        fingerprint: str,
        alert: Alert,
        now: float,
        *,
        again: bool = False,
    ) -> None:
        """To every sink that wants it and has none yet.  ``again``: also where it was dropped."""
        for sink in self._sinks.values():
            if alert.severity < sink.min_severity:
                continue
            if again:
                db.execute(
                    "UPDATE delivery SET state = 0, told = ?, attempts = 0"
                    " WHERE alert = ? AND sink = ? AND state = ?",
                    (now, n, sink.name, _DROPPED),
                )
            self._add(db, sink.name, n, alert, now)

    def _add(self, db: sqlite3.Connection, sink: str, n: int, alert: Alert, now: float) -> None:
        added = db.execute(
            "INSERT OR IGNORE INTO delivery (sink, alert, fingerprint, status, told)"
            " VALUES (?, ?, ?, ?, ?)",
            (sink, n, alert.problem.fingerprint, alert.status, now),
        )
        self._waiting[sink] += added.rowcount

    def _forget_other_sinks(self, db: sqlite3.Connection) -> tuple[str, ...]:
        """Deliveries to sinks that are not configured any more.  Returns their names."""
        known = [row[0] for row in rows_of(db, "SELECT DISTINCT sink FROM delivery")]
        gone = tuple(name for name in known if name not in self._sinks)
        for name in gone:
            db.execute("DELETE FROM delivery WHERE sink = ?", (name,))
        return gone

    def _make_room(self, db: sqlite3.Connection, sink: str) -> int:
        return self._note(db, sink, room.oldest(db, sink, self._busy[sink]), _DROPPED)

    def _note(self, db: sqlite3.Connection, sink: str, ns: list[int], state: int) -> int:
        ended = db.executemany(
            "UPDATE delivery SET state = ? WHERE n = ? AND state = 0", [(state, n) for n in ns]
        ).rowcount
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


def _key(alert: Alert) -> int:
    """As in ``Alert.id``."""
    return int(alert.started * 1000)


def _text(alert: Alert) -> str:
    """JSON by the standard library, which keeps lone surrogates: they are part of fingerprints."""
    return json.dumps(msgspec.to_builtins(alert), separators=(",", ":"))


def _alert(text: str) -> Alert:
    return msgspec.convert(json.loads(text), Alert)
