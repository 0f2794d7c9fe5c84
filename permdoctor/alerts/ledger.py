"""What one transaction of the store does: who is told what, and what needs no telling any more.

The rules are ``store.py``'s.  Nothing here begins or ends a transaction, or holds a lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from permdoctor.alerts import room, wording
from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.database import one, rows_of
from permdoctor.alerts.delivery import DROPPED, WAITING, as_text, from_text
from permdoctor.alerts.sink import Sink

MAX_FIRING: Final = 20_000
MAX_WAITING: Final = 10_000
KEPT: Final = 1_000
"""Resolved alerts that are remembered, so that one that is told again is known."""

CLEANED: Final = 100
"""After so many resolves what is more than that is forgotten."""


class Ledger:
    """``sinks`` are those that are told; ``waiting`` counts their deliveries that wait, and is to
    be put back if the transaction is.  ``now`` is seconds since the epoch.  All raise
    ``sqlite3.Error``.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self.sinks = {sink.name: sink for sink in sinks}
        self.waiting = dict.fromkeys(self.sinks, 0)
        self._busy: dict[str, frozenset[int]] = {}
        self._resolves = 0

    def busy(self, sink: str, ns: Iterable[int]) -> None:
        """These are being sent, and no others: they make no room."""
        self._busy[sink] = frozenset(ns)

    def evict(self, db: sqlite3.Connection) -> tuple[tuple[str, int], ...]:
        """Where too much waits the oldest is dropped: how many, by sink."""
        return tuple(
            (name, self.drop(db, name, room.oldest(db, name, self._busy.get(name, frozenset()))))
            for name in self.sinks
            if self.waiting[name] > MAX_WAITING
        )

    def fire(self, db: sqlite3.Connection, alert: Alert, now: float) -> bool:
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
            self.resolve(db, replace(before, status=AlertStatus.RESOLVED, ended=ended), now)

    def resolve(self, db: sqlite3.Connection, alert: Alert, now: float) -> None:
        firing = one(db, "SELECT n FROM alert WHERE episode = ? AND resolved = 0", (alert.episode,))
        if firing is None:
            return
        db.execute("UPDATE alert SET resolved = 1 WHERE n = ?", firing)
        for (sink,) in rows_of(
            db,
            "SELECT DISTINCT sink FROM delivery WHERE alert = ? AND state != ?",
            (firing[0], DROPPED),
        ):
            if sink in self.sinks:  # in a damaged file another name may be left
                self._add(db, sink, firing[0], alert, now)
        self._resolves += 1
        if self._resolves % CLEANED == 0:
            room.forget_resolved(db, KEPT)

    def _deliver(self, db: sqlite3.Connection, n: int, alert: Alert, now: float) -> None:
        """To every sink that wants it."""
        for sink in self.sinks.values():
            if alert.severity >= sink.min_severity and not wording.replaced(
                db, sink.name, n, alert, only_updates=True
            ):
                self._add(db, sink.name, n, alert, now)

    def _update(self, db: sqlite3.Connection, n: int, alert: Alert, now: float) -> None:
        """To those that can use it, of those that were or will be told of a firing."""
        update = replace(alert, update=True)
        for sink in self.sinks.values():
            if not wording.heard(db, sink.name, n):
                continue
            if not wording.replaced(db, sink.name, n, update) and sink.updates:
                self._add(db, sink.name, n, update, now)

    def _deliver_again(self, db: sqlite3.Connection, n: int, alert: Alert, now: float) -> None:
        """To every sink that wants it and has not heard of it, or where it was dropped."""
        for sink in self.sinks.values():
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
        self.waiting[sink] += added.rowcount

    def tell_others(self, db: sqlite3.Connection, now: float) -> tuple[str, ...]:
        """The sinks are others.  Returns the names of those that are forgotten."""
        self.waiting = dict.fromkeys(self.sinks, 0)
        self._busy = {name: ns for name, ns in self._busy.items() if name in self.sinks}
        forgotten = self._forget_other_sinks(db)
        for n, text in rows_of(db, "SELECT n, text FROM alert WHERE resolved = 0"):
            self._deliver_again(db, n, from_text(text), now)
        self.waiting |= dict(
            rows_of(db, "SELECT sink, count(*) FROM delivery WHERE state = 0 GROUP BY sink")
        )
        room.forget_resolved(db, KEPT)
        return forgotten

    def _forget_other_sinks(self, db: sqlite3.Connection) -> tuple[str, ...]:
        """Deliveries to sinks that are not configured any more.  Returns their names."""
        known = [row[0] for row in rows_of(db, "SELECT DISTINCT sink FROM delivery")]
        gone = tuple(name for name in known if name not in self.sinks)
        for name in gone:
            db.execute("DELETE FROM delivery WHERE sink = ?", (name,))
        return gone

    def drop(self, db: sqlite3.Connection, sink: str, ns: list[int]) -> int:
        dropped = self.note(db, sink, ns, DROPPED)
        return dropped + self.note(db, sink, room.orphans(db, ns), DROPPED)

    def note(self, db: sqlite3.Connection, sink: str, ns: list[int], state: int) -> int:
        """How many of them waited."""
        ended = sum(
            db.execute(
                "UPDATE delivery SET state = ? WHERE n = ? AND state = ?", (state, n, WAITING)
            ).rowcount
            for n in ns
        )
        if ended:
            self.waiting[sink] -= ended
        return ended
