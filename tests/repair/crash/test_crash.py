"""kill -9 and power loss: an undo restores every byte.  And the rounds can fail."""

from __future__ import annotations

import multiprocessing as mp
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from permdoctor.repair.store import Store
from tests.lab.filesystems import KINDS
from tests.lab.lab import Lab
from tests.lab.needs import MissingError, need_root
from tests.repair.crash import (
    mutants,
    powerloss,
    rounds,
    snapshot,
    supervise,
    tell,
    trees,
    work,
)
from tests.repair.crash.supervise import Call, Run

SEED = 20261122
KILLS = 51
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
    assert KILLS // 8 < tally.undo_kills < KILLS // 2
    some = [n for n in range(10) if tally.tenths[n]]
    assert len(some) >= 5, f"the kills are not spread: {tell.table(tally)}"
    assert tally.tenths[-1], "none came before the first change"


class Two:
    """One file and one directory, changed in every way at once."""

    def __init__(self, base: Path) -> None:
        self.root, self.store = str(base / "tree"), str(base / "state")
        trees.make_two(self.root)
        self.before = snapshot.take(self.root)

    def killed(self, what: Callable[[], object], number: int) -> bool:
        """Whether it lived until its change ``number`` of the tree, before which it is killed."""

        def at(call: Call) -> None:
            if call.number == number:
                run.kill()

        with Run(what, supervise.TREE) as run:
            return run.end(at).calls > number

    def repair(self) -> work.Done:
        return work.repair(self.store, self.root)

    def undo(self, of: str) -> work.Done:
        return work.undo(self.store, of)

    def undone(self, of: str) -> str:
        """Undo: what is still not as before, with what was there and what the undo said."""
        half = snapshot.diff(self.before, snapshot.take(self.root))
        said = work.everything(supervise.run(lambda: self.undo(of)))
        left = snapshot.diff(self.before, snapshot.take(self.root))
        return left and f"found:\n{half}\nleft:\n{left}\n{said}"


@pytest.fixture
def two(lab: Lab) -> Two:
    return Two(lab.fs("tmpfs"))


def test_kill_9_of_a_repair_before_each_of_its_changes(two: Two) -> None:
    known: set[str] = set()
    for number in range(40):
        killed = two.killed(two.repair, number)
        (id_,) = {r.id for r in Store(two.store).records() if r.about.kind == "repair"} - known
        known.add(id_)
        assert not two.undone(id_), f"before change {number}"
        if not killed:
            break
    assert 5 < number < 39


def test_kill_9_of_an_undo_before_each_of_its_changes(two: Two) -> None:
    for number in range(40):
        id_ = supervise.run(two.repair).id
        killed = two.killed(partial(two.undo, id_), number)
        assert not two.undone(id_), f"before change {number}"
        if not killed:
            break
    assert 5 < number < 39


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
