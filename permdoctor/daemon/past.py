"""What the service repaired before it was started again, by the journals of repairs.

A crash loop must not multiply what the configuration allows in an hour.
"""

from __future__ import annotations

from permdoctor.daemon.events import PastRepair
from permdoctor.kernel.text import printable
from permdoctor.repair.journal import Record, Status, Unasked
from permdoctor.repair.store import Store


def past_repairs(state: str, since: float) -> tuple[PastRepair, ...]:
    """What the service has repaired since then (seconds since the epoch), by the journals in
    ``state``.  Raises ``CannotRepairError``.
    """
    records = Store(state).records(since)
    return tuple(_past(r, r.about.unasked) for r in records if r.about.unasked is not None)


def _past(record: Record, unasked: Unasked) -> PastRepair:
    about, outcome = record.about, record.outcome
    failed = "" if outcome is None else outcome.stopped
    if record.status is Status.INTERRUPTED:
        failed = "it was interrupted"
    return PastRepair(
        at=about.started,
        engine=unasked.engine,
        container=printable(about.container),
        code=unasked.code,
        target=unasked.target,
        remedy=next(iter(about.remedies), ""),
        path=about.roots[0],
        id=record.id,
        applied=1 if outcome is None else outcome.applied,
        failed=failed,
    )
