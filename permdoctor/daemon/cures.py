"""What may be repaired by what, and where: the words of ``repairs.py``, and what a rule allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from permdoctor.alerts.alert import Problem
from permdoctor.container.needs import clean_path
from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import ContainerRef, Found, RepairRule
from permdoctor.daemon.fights import Did
from permdoctor.daemon.silences import Labels
from permdoctor.diagnosis.report import Severity
from permdoctor.diagnosis.unfixable import OPT_OUT
from permdoctor.kernel.mountinfo import is_beneath

_DAY: Final = 1440
"""Minutes."""

_MARGIN: Final = 0.5
"""Seconds, so that the minute has really begun."""


class Patient(Struct, frozen=True, kw_only=True):
    """A container that was judged, and what may be repaired for it, worst first.  ``by_root``: its
    engine is root's.  ``refused``: it was never started.
    """

    name: Name
    ref: ContainerRef
    run: int
    labels: Labels
    found: tuple[Found, ...]
    by_root: bool = False
    refused: bool = False

    @property
    def opted_out(self) -> bool:
        said = next((v for k, v in self.labels if k == OPT_OUT), "")
        return said.strip().lower() in ("off", "false", "no", "0")


class Cure(Struct, frozen=True, kw_only=True):
    """What is repaired by what.  Of one that was in vain before the service was started only
    ``name`` and ``target`` are known.
    """

    name: Name
    target: str
    code: str = ""
    remedy: str = ""
    path: bytes = b""

    def is_for(self, found: Found) -> bool:
        """Whether this is what it is to help against."""
        problem = found.problem
        if self.target != problem.target:
            return False
        if not self.code:
            return bool(found.fixable)
        return self.code == problem.code and self.path == place_of(found)

    @property
    def problem(self) -> Problem:
        """What it is to help against."""
        engine, container = self.name
        return Problem(
            host="", engine=engine, container=container, code=self.code, target=self.target
        )

    @property
    def known_later(self) -> Cure:
        """What of it is known when the service was started again."""
        return Cure(name=self.name, target=self.target)

    def did(self, now: float, who: str = "") -> Did:
        """This repair for ``who``, as an event of that (monotonic) time."""
        return Did(
            at=now,
            path=self.path,
            name=self.name,
            remedy=self.remedy,
            target=self.target,
            who=who,
        )


def place_of(found: Found) -> bytes | None:
    """Where a finding is to be repaired; ``None``: its path cannot be told from its text."""
    return bytes_of(found.host_path)


def bytes_of(shown: str) -> bytes | None:
    """The path that is shown like this, if nothing in it had to be escaped."""
    if not shown.startswith("/") or "\\" in shown or not shown.isprintable():
        return None
    path = _encoded(shown)
    return path if clean_path(path) == path else None


def cures(
    patient: Patient, rules: Iterable[RepairRule]
) -> Iterator[tuple[Cure, RepairRule, Found]]:
    """Everything that a rule allows: the worst finding first, and its best remedy first."""
    if patient.opted_out or patient.refused:
        return
    for found in patient.found:
        path = place_of(found)
        if path is None:
            continue
        for remedy in found.fixable:
            for rule in rules:
                if _is_for(rule, patient) and _allows(rule, remedy, path):
                    yield _cure(patient.name, found, remedy, path), rule, found


def not_allowed(patient: Patient, found: Found, rules: Iterable[RepairRule]) -> str:
    """Why no rule allows to repair this; empty: one does, or none is for this container."""
    named = [r for r in rules if fnmatchcase(patient.name[1], r.container)]
    own = [r for r in named if _is_for(r, patient)]
    path = place_of(found)
    if not named or found.severity <= Severity.INFO:
        return ""
    if patient.opted_out:  # then nothing is said to be fixable
        return f"the container's label {OPT_OUT} forbids it"
    if not found.fixable:
        return ""
    if not own:
        return "its engine is not one of root's, and no repair.unasked names it"
    if patient.refused:
        return "it was never started"
    if path is None:
        return "there is no path on the host that can be named"
    there = [r for r in own if r.remedy in found.fixable]
    if not there:
        return f"no repair.unasked allows {' or '.join(found.fixable)}"
    if not any(_allows(r, r.remedy, path) for r in there):
        return f"{found.host_path} is in none of the roots of repair.unasked"
    return ""


def shown(window: tuple[int, int]) -> str:
    """``02:00-05:00``."""
    return "-".join(f"{m // 60:02}:{m % 60:02}" for m in window)


def opens_in(window: tuple[int, int] | None, minute: int, second: float) -> float:
    """Seconds until a maintenance window opens, at that minute of the local day; 0: it is open."""
    if window is None:
        return 0.0
    start, end = window
    if (minute - start) % _DAY < ((end - start) % _DAY or _DAY):
        return 0.0
    return (start - minute) % _DAY * 60 - second + _MARGIN


def _is_for(rule: RepairRule, patient: Patient) -> bool:
    """Of whose engine root is not, only by the engine's name: its user names its containers."""
    engine, container = patient.name
    whose = rule.engine == engine if rule.engine else patient.by_root
    return whose and fnmatchcase(container, rule.container)


def _allows(rule: RepairRule, remedy: str, path: bytes) -> bool:
    beneath = (is_beneath(path, clean_path(_encoded(root))) for root in rule.roots)
    return remedy == rule.remedy and any(beneath)


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _cure(name: Name, found: Found, remedy: str, path: bytes) -> Cure:
    problem = found.problem
    return Cure(name=name, code=problem.code, target=problem.target, remedy=remedy, path=path)
