"""When a container is judged: at once, later, or when it has its turn."""

from __future__ import annotations

from typing import Final

from permdoctor.daemon import neighbours
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.roster import Record

_DRIFT_MOST: Final = 60.0
_COST: Final = 10.0
"""A tree in which somebody writes all the time for nothing is judged after 1, 2, 4 ... 60 seconds
(times ``debounce``), and takes at most a tenth of a worker, or one check a minute.
"""


def drifted(desk: Desk, record: Record) -> None:
    """A file of its mounts may be another: the more often that changed nothing for it, the later
    it is judged again.
    """
    _rested(desk, record)
    delay = min(desk.rules.debounce * 2 ** min(record.drifts, 16), _DRIFT_MOST)
    cost = record.seconds * (_COST if record.drifts else 1.0)
    delay = max(delay, desk.rules.debounce, min(cost, _DRIFT_MOST))
    again(desk, record, delay, "drift")


def stirred(desk: Desk, record: Record) -> None:
    """The engine did something in it; most often a health check."""
    neighbours.touch(desk, record.ref, record.writes)
    _rested(desk, record)
    most = max(desk.rules.debounce, desk.rules.check_again / 6)
    delay = min(desk.rules.debounce * 2 ** min(record.stirs, 16), most)
    rest = record.looked + min(_COST * record.seconds, _DRIFT_MOST) - desk.now
    again(desk, record, max(delay, rest), "stirred")


def started(desk: Desk, record: Record) -> None:
    """At once, if it is not started again and again, and can be judged."""
    now, debounce = desk.now, desk.rules.debounce
    at = min(max(now, desk.starts.get(record.key) or now), now + debounce)
    retry = desk.checks.due_at(record.ref)
    if retry is not None and desk.checks.hung(record.ref):
        return
    desk.starts.set(record.key, at + debounce)
    desk.checks.want(record.ref, at, "started", fresh=True)


def stopped(desk: Desk, record: Record) -> None:
    """From its configuration: the more often that said nothing new, the later."""
    if record.failures and desk.checks.due_at(record.ref) is not None:
        return
    at = desk.now
    if record.checked is not None:
        delay = min(desk.rules.debounce * 2 ** min(record.rounds, 16), _DRIFT_MOST)
        at = max(at, record.looked + delay)
    desk.checks.put_off(record.ref, at, "crash loop")


def again(desk: Desk, record: Record, delay: float, why: str) -> None:
    """Unless it could not be judged just now: then it has its time."""
    if record.failures and desk.checks.due_at(record.ref) is not None:
        return
    desk.checks.want(record.ref, desk.now + delay, why)


def _rested(desk: Desk, record: Record) -> None:
    if desk.now - record.looked > desk.rules.check_again / 2:
        record.stirs = record.drifts = record.rounds = 0
