"""Whatever happens: after peace and one full list the state is the truth.

``python -m tests.daemon.histories`` for more of them than here.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.daemon.events import (
    Action,
    Changed,
    Checked,
    Connected,
    ContainerRef,
    Disconnected,
    Event,
    Found,
    Happened,
    MapsChanged,
    Reloaded,
    Repaired,
    RepairRule,
    Restored,
    Rules,
    Seen,
    Silence,
    Swept,
    Tick,
)
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.reconciler import Reconciler
from permdoctor.diagnosis.report import Severity
from tests.daemon.histories import first_wrong
from tests.daemon.mutants import MUTANTS, NEAR, broken
from tests.daemon.storm import EVENTS, Storm, kept
from tests.daemon.world import History

RULE = RepairRule(container="*", remedy="x", roots=("/", ""), max_entries=1)
WORDS = ("", "a", "b", "c" * 300, "\x00\x1b[31m", "\ud800", "/", "*", "PD101", "PD401", "PD402")
TREES = (b"", b"/", b"/a", b"/a/b", b"a", b"\xff", b"//", b"/a/../b")


def word(chance: random.Random) -> str:
    return chance.choice(WORDS)


def ref(chance: random.Random) -> ContainerRef:
    return ContainerRef(engine=chance.choice(("e", "", "f")), id=word(chance))


def seen(chance: random.Random) -> Seen:
    labels = ((word(chance), word(chance)),)
    return Seen(
        ref=ref(chance),
        name=word(chance),
        running=chance.random() < 0.8,
        started=word(chance),
        labels=labels,
    )


def some_seen(chance: random.Random) -> tuple[Seen, ...]:
    return tuple(seen(chance) for _ in range(chance.randrange(30)))


def problem(chance: random.Random) -> Problem:
    host, engine, name, code, target = (word(chance) for _ in range(5))
    return Problem(host=host, engine=engine, container=name, code=code, target=target)


def finding(chance: random.Random) -> Found:
    return Found(
        problem=problem(chance),
        severity=chance.choice(list(Severity)),
        title=word(chance),
        fixable=("x",),
        host_path=word(chance),
    )


def checked(chance: random.Random) -> Checked:
    return Checked(
        number=chance.randrange(-1, 400),
        ref=ref(chance),
        started=word(chance),
        found=tuple(finding(chance) for _ in range(chance.randrange(4))),
        roots=(chance.choice(TREES), chance.choice(TREES)),
        failed=chance.choice(("", "", "x")),
        gone=chance.random() < 0.1,
        seconds=chance.choice((-1.0, 0.0, 1e9)),
    )


def repaired(chance: random.Random) -> Repaired:
    number, applied = chance.randrange(-1, 20), chance.randrange(-1, 2)
    return Repaired(
        number=number, ref=ref(chance), path=chance.choice(TREES), id="x", applied=applied
    )


def alert(chance: random.Random) -> Alert:
    return Alert(
        problem=problem(chance),
        status=chance.choice(list(AlertStatus)),
        severity=chance.choice(list(Severity)),
        title=word(chance),
        host_path=word(chance),
        started=chance.choice((-1e9, 0.0, 1e12)),
    )


def rules(chance: random.Random) -> Rules:
    silence = Silence(reason="", code=word(chance), label=word(chance), expires=1e3)
    return Rules(host=word(chance), silences=(silence,), repairs=(RULE,), settle=0.0, damp=0.0)


NONSENSE: tuple[Callable[[random.Random], Event], ...] = (
    lambda c: Happened(action=c.choice(list(Action)), container=seen(c)),
    lambda c: Happened(action=c.choice(list(Action)), container=seen(c)),
    checked,
    checked,
    checked,
    repaired,
    lambda c: Connected(engine=word(c), containers=some_seen(c)),
    lambda c: Swept(engine=c.choice("ef"), containers=some_seen(c)),
    lambda c: Disconnected(engine=word(c), why=word(c)),
    lambda c: Changed(path=c.choice(TREES)),
    lambda c: MapsChanged(path=c.choice(TREES)),
    lambda c: Restored(firing=(alert(c), alert(c))),
    lambda c: Reloaded(rules=rules(c)),
    lambda c: Tick(),
)

HISTORIES = 400
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_any_history_ends_in_the_truth(part: int) -> None:
    each = HISTORIES // PARTS
    assert first_wrong(range(part * each, (part + 1) * each)) is None


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_reconciler_is_noticed(mutant: str) -> None:
    with broken(mutant):
        near = NEAR.get(mutant, 0)
        assert first_wrong(range(near, near + HISTORIES)) is not None


def test_a_history_replays() -> None:
    """The same events at the same times: the same commands, and the same state."""
    history = History(5)
    history.run()
    log = list(history.log)
    first, second = (Reconciler(history.start_rules, history.limits) for _ in range(2))
    assert len(log) > 20
    for event, now, wall in log:
        assert first.handle(event, now, wall) == second.handle(event, now, wall)
    assert first.state() == second.state() == history.reconciler.state()


def test_events_that_make_no_sense() -> None:
    """Nothing is raised, whatever comes: numbers, names and times of nobody."""
    chance = random.Random(7)
    reconciler = Reconciler(Rules(host="h", repairs=(RULE,)), Limits(containers=20, problems=20))
    now = 0.0
    for _ in range(4000):
        now += chance.choice((-5.0, 0.0, 0.1, 30.0, 4000.0))
        wall = chance.choice((0.0, -1e9, 1e12, now))
        reconciler.handle(chance.choice(NONSENSE)(chance), now, wall)
        reconciler.due()
    state = reconciler.state()
    assert len(state.containers) <= 20
    assert len(state.firing) <= 20


def test_a_storm() -> None:
    """Ten thousand events with two disconnects and slow answers.

    The limits have room: half a MiB is kept, and an event takes 50 microseconds.
    """
    storm = Storm(1)
    storm.run()
    assert storm.handled > EVENTS
    assert len(storm.truth.boxes) > 50
    assert storm.differences() == []
    assert storm.most < 2 << 20
    assert storm.busy / storm.handled < 0.001
    storm.leave()
    assert storm.reconciler.state().containers == storm.reconciler.state().firing == ()
    assert kept(storm.reconciler) < 256 << 10
