"""What the kernel did, against what the model said."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from permdoctor.kernel.verdict import Errno, Outcome
from tests.differential import scene
from tests.differential.cases import Case
from tests.differential.describe import describe
from tests.differential.scene import View


@dataclass(frozen=True, slots=True)
class Disagreement:
    """``where`` repeats it: the round's seed, filesystem and number."""

    where: str
    case: Case
    told: tuple[tuple[str, object], ...]
    kernel: str

    def __str__(self) -> str:
        verdict = self.case.verdict
        lines = [
            f"{self.where}: {self.case.op} {self.case.args}",
            f"  model:  {name(verdict.errno)}, kernel: {self.kernel}",
        ]
        lines += [f"  {what}: {describe(value)}" for what, value in self.told]
        lines += [f"  fact: {describe(fact)}" for fact in self.case.facts]
        lines += [f"  step: {describe(step)}" for step in verdict.steps]
        return "\n".join(lines)


@dataclass(slots=True)
class Tally:
    """How many cases came to what: by operation and errno, by filesystem, by deciding rule."""

    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    disagreements: list[Disagreement] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.cells.total()

    def count(self, case: Case, kind: str) -> None:
        verdict = case.verdict
        self.cells[case.op, name(verdict.errno)] += 1
        self.kinds[kind] += 1
        last = verdict.steps[-1] if verdict.steps else None
        if last is not None and last.outcome is not Outcome.PASSES:
            self.rules[f"{last.rule}/{last.outcome}"] += 1
        if case.left is not None:
            self.results[case.op] += 1

    def add(self, other: Tally) -> None:
        self.cells += other.cells
        self.kinds += other.kinds
        self.rules += other.rules
        self.results += other.results
        self.disagreements += other.disagreements


_KNOWN = {int(e): e.name for e in Errno}


def name(code: int | None) -> str:
    """``EACCES``, or ``ok``."""
    if not code:
        return "ok"
    return _KNOWN.get(code) or errno.errorcode.get(code, str(code))


def verdict_differs(case: Case, answer: Any) -> str | None:
    """What the kernel said, if it is not what the model said."""
    code = case.verdict.errno
    if answer == (case.answer if code is None else int(code)):
        return None
    if isinstance(answer, int):
        return name(answer)
    return f"answered {answer}, not {case.answer}"


def result_differs(case: Case, view: View) -> str | None:
    """What the kernel left behind, if it is not what the model predicted.

    Call it in the top directory (:meth:`scene.Builder.at_work`).
    """
    left = case.left
    if left is None:
        return None
    there = view.show(scene.stored(left.path))
    expected = replace(left.inode, immutable=False, append_only=False, nlink=1)
    if there == expected:
        return None
    return f"left {describe(there)}\n  but should leave    {describe(expected)}"
