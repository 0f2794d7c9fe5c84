"""kill -9 and power loss: an undo restores every byte.  And the rounds can fail."""

from __future__ import annotations

import multiprocessing as mp
import random
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.lab.filesystems import KINDS
from tests.lab.needs import MissingError, need_root
from tests.repair.crash import mutants, powerloss, rounds, tell

SEED = 20261122
KILLS = 52
"""Of each filesystem: more than 200 in all."""
MUTANT_KILLS = 40
CUTS = 8

Result = rounds.Tally | MissingError


@pytest.fixture(scope="module")
def tallies() -> dict[str, Result]:
    """All filesystems at once: most of a round is waiting."""
    try:
        need_root()
    except MissingError as e:
        pytest.skip(str(e))
    with ProcessPoolExecutor(len(KINDS), mp_context=mp.get_context("fork")) as pool:
        return dict(zip(KINDS, pool.map(_rounds, KINDS), strict=True))


def _rounds(kind: str) -> Result:
    try:
        return rounds.many(kind, SEED, KILLS)
    except MissingError as e:
        return e


@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_at_any_point_and_undo(kind: str, tallies: dict[str, Result]) -> None:
    tally = tallies[kind]
    if isinstance(tally, MissingError):
        pytest.skip(str(tally))
    print(tell.table(tally))
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.kills >= KILLS
    assert tally.undo_kills > KILLS // 8
    some = [n for n in range(10) if tally.tenths[n]]
    assert len(some) >= 5, f"the kills are not spread: {tell.table(tally)}"
    assert tally.tenths[-1], "none came before the first change"


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_a_repair_that_is_broken_is_noticed(name: str) -> None:
    try:
        tally = rounds.many(
            "tmpfs", SEED, MUTANT_KILLS, broken=mutants.MUTANTS[name], until_failure=True
        )
    except MissingError as e:
        pytest.skip(str(e))
    assert tally.failures


@pytest.mark.parametrize(("kind", "disks"), [("ext4", 1), ("xfs", 1), ("ext4", 2)])
def test_power_loss_and_undo_elsewhere(kind: str, disks: int) -> None:
    tally = _cut(kind, disks)
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.cuts == CUTS
    assert tally.lost_writes, "every write was flushed"
    assert len({n for n in tally.changed if n}) >= 3, f"too little was on disk: {tally.changed}"


@pytest.mark.parametrize("kind", powerloss.KINDS)
def test_power_loss_shows_a_journal_that_is_not_synced(kind: str) -> None:
    assert _cut(kind, unsynced=True).failures


def _cut(kind: str, disks: int = 1, *, unsynced: bool = False) -> powerloss.Cuts:
    tally = powerloss.Cuts()
    try:
        with powerloss.machine(kind, disks=disks) as machine:
            machine.run(random.Random(SEED), CUTS, tally, unsynced=unsynced)
    except MissingError as e:
        pytest.skip(str(e))
    return tally
