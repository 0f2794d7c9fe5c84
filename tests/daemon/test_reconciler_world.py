"""Whatever happens: after peace and one full list the state is the truth.

``python -m tests.daemon.histories`` for more of them than here.
"""

from __future__ import annotations

import pytest

from permdoctor.daemon.reconciler import Reconciler
from tests.daemon.histories import first_wrong
from tests.daemon.mutants import MUTANTS, NEAR, broken
from tests.daemon.storm import EVENTS, Storm, kept
from tests.daemon.world import History

HISTORIES = 200
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
