"""What the service has to say of its own repairs, as findings of the container: PD401 and PD402."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from permdoctor.alerts.alert import Problem
from permdoctor.daemon.attempts import Failure
from permdoctor.daemon.cures import Cure
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import Found
from permdoctor.daemon.fights import Fight
from permdoctor.daemon.relapses import Relapse
from permdoctor.diagnosis.codes import CODES
from permdoctor.kernel.text import printable

NOT_HELPED: Final = "PD401"
FIGHT: Final = "PD402"


def undone(name: Name, relapses: Iterable[Relapse], found: tuple[Found, ...]) -> Iterator[Found]:
    """PD401: what helps, and is needed again and again."""
    for relapse in relapses:
        of = next((f for f in found if relapse.is_needed(f)), None)
        if of is None:
            continue
        last = f": permdoctor history {relapse.id}" if relapse.id else ""
        yield _own(
            NOT_HELPED,
            name,
            of.problem.target,
            f"{relapse.cure.remedy} helps against {of.problem.code} at {of.problem.target},"
            " and somebody undoes it",
            (
                of.title,
                f"undone {relapse.times} times{last}",
                "by a process in the container, or by somebody on the host who may",
                "it is not tried again for an hour or more",
            ),
            of.host_path,
        )


def not_helped(
    name: Name, failed: Mapping[Cure, Failure], found: tuple[Found, ...]
) -> Iterator[Found]:
    """PD401: what was repaired, and is there still."""
    for cure, failure in failed.items():
        of = next((f for f in found if cure.is_for(f)), None)
        if of is None or failure.denied:
            continue
        what = cure.remedy or "a repair"
        yield _own(
            NOT_HELPED,
            name,
            cure.target,
            f"{what} did not help against {of.problem.code}"
            + (f" at {cure.target}" if cure.target else ""),
            (of.title, failure.why, "it is not tried again in this run of the container"),
            of.host_path,
        )


def fought(name: Name, fights: Iterable[Fight]) -> Iterator[Found]:
    """PD402: repairs that undo each other."""
    for fight in fights:
        mine = next(p for p in fight.parties if p.name == name)
        shown = printable(fight.path)
        yield _own(
            FIGHT,
            name,
            mine.target,
            f"repairs of {shown} undo each other",
            (
                *(f"{p.name[1]} by {p.remedy}: {printable(p.path)}" for p in fight.parties),
                "nothing is repaired there until the rules change, or one of them is gone",
            ),
            shown,
        )


def _own(
    code: str, name: Name, target: str, title: str, detail: tuple[str, ...], host_path: str
) -> Found:
    problem = Problem(host="", engine=name[0], container=name[1], code=code, target=target)
    return Found(
        problem=problem,
        severity=CODES[code].severity,
        title=title,
        detail=detail,
        host_path=host_path,
    )
