"""What waits for a sink says the newest.  Called inside a transaction."""

from __future__ import annotations

import sqlite3

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.database import one, rows_of
from permdoctor.alerts.delivery import DROPPED, SENT, WAITING, as_text, from_text


def heard(db: sqlite3.Connection, sink: str, n: int) -> bool:
    """Whether the sink was or will be told of a firing of this episode."""
    query = "SELECT 1 FROM delivery WHERE alert = ? AND sink = ? AND status = ? AND state != ?"
    return one(db, query, (n, sink, AlertStatus.FIRING, DROPPED)) is not None


def replaced(
    db: sqlite3.Connection, sink: str, n: int, alert: Alert, *, only_updates: bool = False
) -> bool:
    """Whether there was something that waits there and was never tried: it says ``alert`` now.
    What the sink has to be told anew stays so.
    """
    waits = one(
        db,
        "SELECT n, text FROM delivery WHERE alert = ? AND sink = ? AND status = ? AND state = ?"
        " AND +attempts = 0 ORDER BY n DESC",  # by its alert (+), not among all that waits
        (n, sink, AlertStatus.FIRING, WAITING),
    )
    if waits is None:
        return False
    at, was_update = waits[0], from_text(waits[1]).update
    if only_updates and not was_update:
        return False
    said = replace(alert, update=alert.update and was_update)
    db.execute(
        "UPDATE delivery SET revision = ?, text = ? WHERE n = ?",
        (alert.revision, as_text(said), at),
    )
    return True


def renew(db: sqlite3.Connection, n: int, alert: Alert) -> None:
    """The same revision in other words, wherever it was not sent yet."""
    for at, text in rows_of(
        db,
        "SELECT n, text FROM delivery WHERE alert = ? AND revision = ? AND state != ?",
        (n, alert.revision, SENT),
    ):
        said = replace(alert, update=from_text(text).update)
        db.execute("UPDATE delivery SET text = ? WHERE n = ?", (as_text(said), at))
