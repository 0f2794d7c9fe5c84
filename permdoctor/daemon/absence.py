"""Engines that do not answer: PD404, a problem of no container.

Told when that has been so for as long as a name may be nobody's (``Desk.grace``), under the same
rules as everything else; gone when the engine answers, or is not watched any more.  Until then what
was told of it before the service was started stays as it is.
"""

from __future__ import annotations

from typing import Final

from permdoctor.alerts.alert import Problem
from permdoctor.daemon.connections import Connection
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import Found
from permdoctor.daemon.judged import assess as judgement
from permdoctor.diagnosis.codes import CODES
from permdoctor.kernel.text import printable

AWAY: Final = "PD404"

_SOCKET: Final = "unix://"


def name_of(engine: str) -> Name:
    """Whose problem that is: of the engine, and of no container."""
    return engine, ""


def is_engine(name: Name) -> bool:
    return not name[1]


def awaited(desk: Desk, one: Connection) -> None:
    """It is not there, or still not."""
    desk.absent.set(one.engine, one.away + desk.grace)


def assess(desk: Desk, one: Connection) -> None:
    """What people are told of it now."""
    if not one.connected and desk.now < one.away + desk.grace:
        return
    found = () if one.connected else (_found(one),)
    made = judgement(found, name_of(one.engine), (), desk.rules, desk.wall)
    desk.tell(
        desk.episodes.judged(
            name_of(one.engine),
            made.told,
            made.muted,
            now=desk.now,
            wall=desk.wall,
            damp=desk.rules.damp,
        )
    )


def expire(desk: Desk) -> None:
    """Those that have been away for long enough."""
    while (engine := desk.absent.pop(desk.now)) is not None:
        one = desk.connections.get(engine)
        if one is not None:
            assess(desk, one)


def _found(one: Connection) -> Found:
    socket = one.engine.startswith(_SOCKET)
    return Found(
        problem=Problem(host="", engine="", container="", code=AWAY),
        severity=CODES[AWAY].severity,
        title="the engine does not answer: what it runs is not judged",
        detail=(
            f"endpoint: {printable(one.engine)}",
            one.why,
            "what was told of its containers is neither repeated nor resolved",
        ),
        host_path=printable(one.engine.removeprefix(_SOCKET)) if socket else "",
    )
