"""Repairs that are broken on purpose: the rounds must notice each."""

from __future__ import annotations

from collections.abc import Callable

from permdoctor.repair import undo
from permdoctor.repair.journal import Journal
from permdoctor.repair.state import State, same


def _all_or_nothing() -> None:
    """The undo knows entries that were changed wholly or not at all, none in between."""

    def passed(found: State, before: State, after: State) -> bool:
        return same(found, after)

    undo.passed = passed


def _afterwards() -> None:
    """The journal says that something may be changed when everything is."""
    start, finish = Journal.start, Journal.finish
    late: list[int] = []

    def begin(self: Journal, marks: int) -> None:
        late.append(marks)

    def end(self: Journal, outcome: object) -> None:
        start(self, late.pop())
        finish(self, outcome)

    Journal.start, Journal.finish = begin, end


MUTANTS: dict[str, Callable[[], None]] = {
    "all-or-nothing": _all_or_nothing,
    "afterwards": _afterwards,
}
