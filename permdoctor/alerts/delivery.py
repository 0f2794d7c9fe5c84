"""What a store says of its deliveries, and alerts as they are kept."""

from __future__ import annotations

import json

import msgspec
from msgspec import Struct

from permdoctor.alerts.alert import Alert

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
    return msgspec.convert(json.loads(text), Alert)
