"""Who shares a host path with a container in which something happened is judged again.

inotify sees the roots of mounts and the directories in them.  What is written further down nobody
sees; but somebody was there who may write: a container that starts, ends, or in which something is
executed.  Then those who mount the same path, or one above or below it, are judged again.

One that is restarted all the time must not have others judged all the time: the more often they
were, the later they are again, up to a sixth of ``check_again``, and not for more than a tenth of a
worker each; after half of ``check_again`` without it they are judged at once.
"""

from __future__ import annotations

from typing import Final

from permdoctor.daemon.desk import Desk
from permdoctor.daemon.events import ContainerRef
from permdoctor.daemon.roster import Record

WHY: Final = "neighbour"
_GATHER: Final = 1.0
"""Seconds, at least, in which what happens at one path is one thing."""

_COST: Final = 10.0


def touch(desk: Desk, by: ContainerRef, paths: tuple[bytes, ...]) -> None:
    """Something happened in a container that may write there."""
    at = desk.now + max(_GATHER, desk.rules.debounce)
    for path in paths:
        desk.touched.add(path, by, at)


def visit(desk: Desk) -> None:
    """Look for those who share what was touched."""
    while (touched := desk.touched.pop(desk.now)) is not None:
        path, by = touched
        for ref in desk.roots.near(path):
            record = desk.roster.get(ref)
            if record is not None and ref != by:
                _judge(desk, record)


def visited(desk: Desk, record: Record) -> None:
    """It was judged because of somebody else."""
    record.visits += 1
    record.visited = desk.now


def _judge(desk: Desk, record: Record) -> None:
    """Unless it could not be just now, or is between two runs of a crash loop: then it has its
    time.  A look that comes anyway, when it has settled, will do.
    """
    rules = desk.rules
    if record.ended or (record.failures and desk.checks.due_at(record.ref) is not None):
        return
    if desk.now - record.visited > rules.check_again / 2:
        record.visits = 0
    step = max(_GATHER, rules.debounce) * 2.0 ** min(record.visits, 16)
    most = max(rules.debounce, rules.check_again / 6)
    at = record.visited + max(min(step, most), min(_COST * record.seconds, most))
    if not record.settled:
        at = max(at, record.begun + rules.settle)
    desk.checks.want(record.ref, max(desk.now, at), WHY)
