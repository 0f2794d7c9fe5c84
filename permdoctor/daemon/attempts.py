"""A repair that nobody asked for, from the choice to its proof: what ``repairs.py`` keeps of it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from permdoctor.daemon.cures import Cure
from permdoctor.daemon.events import ContainerRef, Repair
from permdoctor.daemon.fights import Fight
from permdoctor.kernel.text import printable

NEVER: Final = float("inf")


class Attempt(Struct, frozen=True, kw_only=True):
    """A repair that was begun in a ``run``, for ``who``.  ``proof``: a check with a higher number
    proves it.
    """

    number: int
    cure: Cure
    ref: ContainerRef
    deadline: float
    proof: int | None = None
    failed: str = ""
    id: str = ""
    applied: int = 0
    denied: bool = False
    who: str = ""
    run: int = 0

    @property
    def said(self) -> str:
        """For people who were told of the problem; empty: it has changed nothing."""
        if not self.applied:
            return ""
        entries = "1 entry" if self.applied == 1 else f"{self.applied:,} entries"
        undo = f"; undo: permdoctor undo {printable(self.id)}" if self.id else ""
        return f"repaired by permdoctor: {self.cure.remedy}, {entries}{undo}"


class Failure(Struct, frozen=True, kw_only=True):
    """A cure that did not help.  ``run`` is the one that must be over; ``None``: not known.
    ``applied``: whether it changed anything, and may yet be what helps; ``denied``: it was not even
    tried.
    """

    run: int | None
    at: float
    times: int
    why: str
    applied: bool = False
    denied: bool = False


class Proof(Struct, frozen=True, kw_only=True):
    """What a check said of an attempt."""

    attempt: Attempt
    helped: bool


class Obstacle(Struct, frozen=True, kw_only=True):
    """Why a cure is not tried now, and ``until`` when (monotonic) it is so at least."""

    why: str
    until: float = NEVER


class Choice(Struct, frozen=True, kw_only=True):
    """What to do: a repair (``attempt``), or to ask again ``later`` (monotonic), or to report a
    fight.
    """

    repair: Repair | None = None
    attempt: Attempt | None = None
    later: float | None = None
    fight: Fight | None = None
