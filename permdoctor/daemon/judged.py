"""What of a judgement is told, and what is only shown."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.daemon.bounds import problem_of
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import Found, Rules
from permdoctor.daemon.silences import Labels, ignored


class Row(Struct, frozen=True, kw_only=True):
    """A finding as it is shown.  ``ignored`` is the reason of the silence that covers it."""

    found: Found
    ignored: str


class Assessment(Struct, frozen=True, kw_only=True):
    """``told`` is what people should know of, one for each problem; ``muted`` is what is there and
    is not to be told, with the reason.  Both by fingerprint.
    """

    rows: tuple[Row, ...]
    told: dict[str, Found]
    muted: dict[str, str]


def assess(
    found: Iterable[Found], name: Name, labels: Labels, rules: Rules, wall: float
) -> Assessment:
    """``found`` is worst first.  Several of one code and target are one problem."""
    rows: list[Row] = []
    groups: dict[str, list[Found]] = {}
    muted: dict[str, str] = {}
    for raw in found:
        one = replace(raw, problem=problem_of(raw, rules.host, *name))
        reason = ignored(rules.silences, one, name[1], labels, wall)
        rows.append(Row(found=one, ignored=reason))
        fingerprint = one.problem.fingerprint
        if reason:
            muted.setdefault(fingerprint, f"ignored: {reason}")
        elif one.severity < rules.min_severity:
            muted.setdefault(fingerprint, f"not told: {one.severity.name.lower()}")
        else:
            groups.setdefault(fingerprint, []).append(one)
    told = {fingerprint: _one(group) for fingerprint, group in groups.items()}
    return Assessment(rows=tuple(rows), told=told, muted=muted)


def _one(group: list[Found]) -> Found:
    """The worst, with the titles of the others, and who they are."""
    worst, *others = group
    who = "; ".join(dict.fromkeys(f.who for f in group if f.who))
    titles = dict.fromkeys(f"also: {f.title}" for f in others if f.title != worst.title)
    return replace(
        worst, who=who, detail=(*worst.detail, *titles), count=sum(f.count for f in group)
    )
