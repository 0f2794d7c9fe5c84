"""What a store says of its deliveries, and alerts as they are kept."""

from __future__ import annotations

import json
import sqlite3

import msgspec
from msgspec import Struct

from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import rfc3339

WAITING, SENT, DROPPED = 0, 1, 2
"""The state of a delivery."""


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
    it was tried.  ``over``: the problem is gone, and the sink cannot have heard of it.
    """

    n: int
    alert: Alert
    told: float
    attempts: int
    over: bool


def as_text(alert: Alert) -> str:
    """JSON by the standard library, which keeps lone surrogates: they are part of fingerprints."""
    return json.dumps(msgspec.to_builtins(alert), separators=(",", ":"))


def from_text(text: str) -> Alert:
    """Raises ``sqlite3.DatabaseError``: that is damage which sqlite3 itself cannot see."""
    try:
        alert = msgspec.convert(json.loads(text), Alert)
        for time in (alert.started, alert.started if alert.ended is None else alert.ended):
            rfc3339(time)
        if not (0 <= alert.count < 1 << 63 and 0 <= alert.revision < 1 << 63):
            raise ValueError("a number that nobody counted")
    except (ValueError, TypeError, OverflowError, RecursionError) as e:
        raise sqlite3.DatabaseError(f"an alert that is none: {type(e).__name__}") from None
    return alert
