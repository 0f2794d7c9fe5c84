"""A repair and an undo as the commands do them, for a :class:`~.supervise.Run` to carry out."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from permdoctor.diagnosis.plan import Job, Outcome, Summary
from permdoctor.diagnosis.recipes import Recipe
from permdoctor.repair.executor import apply
from permdoctor.repair.journal import About, Record
from permdoctor.repair.options import Asked, Limits
from permdoctor.repair.store import Store
from permdoctor.repair.survey import survey
from permdoctor.repair.undo import survey_undo
from tests.repair.crash.trees import Mixed

LIMITS = Limits(deadline=10.0)
ALL = Asked(set_id=True)


class Done(Struct, frozen=True, kw_only=True):
    """What a repair or an undo said: its journal's id, the plan, what was left of the start with
    (an undo), what came of it (``None``: nothing to do).
    """

    id: str
    summary: Summary
    before: Outcome | None = None
    outcome: Outcome | None = None


def repair(
    store: str,
    *roots: str | bytes,
    recipe: Recipe | None = None,
    asked: Asked = ALL,
    limits: Limits = LIMITS,
    between: Callable[[], object] | None = None,
) -> Done:
    """Every root by the recipe (default: :class:`~.trees.Mixed`); ``between`` is called when the
    plan is made and nothing is changed.
    """
    paths = tuple(r if isinstance(r, bytes) else r.encode() for r in roots)
    jobs = tuple(Job(path=p, recipes=(recipe or Mixed(),)) for p in paths)
    with Store(store).begin(about("repair", paths)) as journal:
        summary = survey(journal, jobs, limits, asked)
        if summary.stopped or not summary.count:
            return Done(id=journal.id, summary=summary)
        if between is not None:
            between()
        return Done(id=journal.id, summary=summary, outcome=apply(journal, limits))


def undo(
    store: str,
    id_: str,
    *,
    at: bytes | None = None,
    limits: Limits = LIMITS,
    between: Callable[[], object] | None = None,
) -> Done:
    """Undo of a journal; ``at``: where its tree is now."""
    held = Store(store)
    of = held.find(id_)
    with held.begin(about("undo", of.about.roots if at is None else (at,), of=of.id)) as journal:
        summary, before = survey_undo(journal, of, held, limits, at)
        if between is not None:
            between()
        outcome = apply(journal, limits) if summary.count and not summary.stopped else None
        return Done(id=journal.id, summary=summary, before=before, outcome=outcome)


def about(kind: str, roots: tuple[bytes, ...], of: str = "") -> About:
    return About(
        kind="undo" if kind == "undo" else "repair",
        host="",
        started=time.time(),
        command=f"test of {kind}",
        roots=roots,
        of=of,
    )


def records(store: str) -> tuple[Record, ...]:
    return Store(store).records()


def everything(done: Done) -> str:
    """Why an undo is not complete; empty if it is."""
    said = [s for s in (done.summary.stopped, done.outcome and done.outcome.stopped) if s]
    for outcome in (done.before, done.outcome):
        said += (
            [f"{x.reason} {x.count} {x.detail} {x.samples}" for x in outcome.left]
            if outcome
            else []
        )
    return "; ".join(said)
