"""What became of the alerts of one sink, in numbers.  Pure: who shows them needs no sinks."""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct, frozen=True, kw_only=True):
    """Since the start of the service.  Alerts that the sink has taken (``sent``; ``resent`` those
    that it had before), attempts that failed, alerts that were not told because the sink refused
    them (``dropped``), because they were old and over (``stale``), and because there was no room
    (``evicted``).  ``last_error`` is empty when the last attempt went well.
    """

    sent: int = 0
    resent: int = 0
    failed: int = 0
    dropped: int = 0
    stale: int = 0
    evicted: int = 0
    last_error: str = ""
