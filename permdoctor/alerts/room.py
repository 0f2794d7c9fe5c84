"""What goes when there is too much, and what goes with it.  Called inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import Final

from permdoctor.alerts.database import rows_of

AT_ONCE: Final = 100
"""Deliveries that make room together, so that it is not done for each alert of a storm."""


def oldest(db: sqlite3.Connection, sink: str, busy: Collection[int]) -> list[int]:
    """Deliveries of a sink to drop: firings of problems that are over already, first those that
    the sink cannot have heard of; if there are none, other firings; if there are none, resolves.
    Each time the oldest, and none that is ``busy``.
    """
    over = rows_of(
        db,
        "SELECT d.n FROM delivery d JOIN delivery r"
        " ON r.alert = d.alert AND r.sink = d.sink AND r.status = 'resolved' AND r.state = 0"
        " WHERE d.sink = ? AND d.status = 'firing' AND d.state = 0"
        " ORDER BY d.attempts > 0, d.n LIMIT ?",
        (sink, AT_ONCE // 2 + len(busy)),
    )
    if chosen := [n for (n,) in over if n not in busy][: AT_ONCE // 2]:
        return chosen
    rest = rows_of(
        db,
        "SELECT n FROM delivery WHERE sink = ? AND state = 0"
        " ORDER BY status = 'resolved', n LIMIT ?",
        (sink, AT_ONCE + len(busy)),
    )
    return [n for (n,) in rest if n not in busy][:AT_ONCE]


def orphans(db: sqlite3.Connection, dropped: Iterable[int]) -> list[int]:
    """The resolves that wait for a sink that, with these deliveries dropped, has not been and will
    not be told of the firing.
    """
    return [
        resolve
        for n in dropped
        for (resolve,) in rows_of(
            db,
            "SELECT r.n FROM delivery d JOIN delivery r ON r.alert = d.alert AND r.sink = d.sink"
            " WHERE d.n = ? AND r.status = 'resolved' AND r.state = 0 AND NOT EXISTS ("
            "  SELECT 1 FROM delivery f WHERE f.alert = r.alert AND f.sink = r.sink"
            "  AND f.status = 'firing' AND f.state != 2)",
            (n,),
        )
    ]


def forget_resolved(db: sqlite3.Connection, kept: int) -> None:
    """Forget resolved alerts of which nothing is on its way, but for the newest ``kept``."""
    db.execute(
        "DELETE FROM alert WHERE n IN (SELECT n FROM alert a WHERE resolved = 1"
        " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.alert = a.n AND d.state = 0)"
        " ORDER BY n DESC LIMIT -1 OFFSET ?)",
        (kept,),
    )
