"""Reconcilers that are broken on purpose, by a word: the histories must notice each."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from permdoctor.daemon import arrivals, presence, results
from permdoctor.daemon.checks import Checks
from permdoctor.daemon.episodes import Episodes
from permdoctor.daemon.reconciler import Reconciler
from permdoctor.daemon.repairs import Repairs

MUTANTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "a list takes nobody away": (arrivals.listed, "depart(desk, record)", "pass"),
    "a list brings nobody": (arrivals.listed, "appear(desk, seen, one)", "pass"),
    "what was refused is not there": (arrivals.listed, "(s.running or s.refused)", "s.running"),
    "what was refused runs": (arrivals._compared, "if seen.refused:", "if False:"),
    "a list shows no other run": (arrivals._compared, "seen.started != record.started", "False"),
    "gone names are not looked for": (
        arrivals.missing,
        "desk.gone.set(name, desk.now + desk.grace)",
        "pass",
    ),
    "a failed check is a result": (Reconciler._checked, "elif not event.failed:", "elif True:"),
    "a new connection judges nobody": (
        presence.connected,
        'desk.checks.want(record.ref, desk.now, "reconnected")',
        "pass",
    ),
    "the end of a silence is not noticed": (Reconciler._advance, "self._assess_all()", "pass"),
    "two checks of one at once": (Checks.begin, "ref in self._busy or ", ""),
    "no limit of checks": (Checks.begin, "< self._limits.checks", "< 1000"),
    "what happens during a check is lost": (
        Checks.want,
        "known = self._wishes.get(ref)",
        "known = self._wishes.get(ref)\n    if ref in self._busy: return",
    ),
    "what hangs is waited for": (
        Checks.given_up,
        "self._deadlines.pop(now)",
        "self._deadlines.pop(-1.0)",
    ),
    "no second look": (results._next_look, "if unwatched or not record.settled:", "if False:"),
    "what is not watched is not judged": (
        results._next_look,
        "if desk.roots.dark(record.ref):",
        "if False:",
    ),
    "what was told before is told again": (
        Episodes.restored,
        'self._add(fingerprint, alert, float("-inf"))',
        "pass",
    ),
    "an end is not told": (
        Episodes._absent,
        "return self._end(fingerprint, now, wall)",
        "return []",
    ),
    "old words for ever": (
        Episodes._present,
        "self._changing.sooner(fingerprint, max(now, known.at + damp))",
        "pass",
    ),
    "each change is told": (Episodes._present, "max(now, known.at + damp)", "now"),
    "who reads of it again thinks it is another": (Episodes._change, "+ matters", ""),
    "a change is told as a count is": (Episodes._change, "quiet=not matters", "quiet=True"),
    "what stayed away fires for ever": (
        Episodes.advance,
        "self._ending.pop(now)",
        "self._ending.pop(-1.0)",
    ),
    "the hour has no cap": (Repairs.choose, "if full:", "if False:"),
}

NEAR = {
    "no second look": 1269,
    "what is not watched is not judged": 106,
}
"""The first history that notices it, where it takes a while to come there."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """The function's text with one word changed, wherever it was imported."""
    function, old, new = MUTANTS[name]
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{name}: the text of {function.__qualname__} has changed"
    header = "from __future__ import annotations\n"
    scope: dict[str, Any] = {}
    exec(compile(header + source.replace(old, new), function.__code__.co_filename, "exec"), scope)
    sound = function.__code__
    function.__code__ = scope[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = sound
