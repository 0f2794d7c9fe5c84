"""Nothing outside of a tree changes while it is repaired and attacked; naive fixers fall."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from permdoctor.diagnosis.plan import Job
from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.repair.executor import apply
from permdoctor.repair.journal import About
from permdoctor.repair.options import Asked, Limits
from permdoctor.repair.store import Store
from permdoctor.repair.survey import survey
from permdoctor.repair.undo import survey_undo
from tests.lab.filesystems import mounted_fs
from tests.lab.needs import MissingError
from tests.repair.attack import harness
from tests.repair.attack.attackers import ATTACKS
from tests.repair.attack.board import Board
from tests.repair.attack.fixers import FIXERS
from tests.repair.attack.harness import OLD, Run
from tests.repair.attack.interleave import (
    WAIT,
    Found,
    Player,
    Pointed,
    When,
    one,
    play,
    staged_found,
)
from tests.repair.attack.naive import ByDescriptor, Fixer, LstatLchown
from tests.repair.attack.ours import Ours
from tests.repair.attack.scene import Scene

ENOUGH = 10_000_000
BRIEF = 0.2
"""Seconds of each attack on ours; ``python -m tests.repair.attack`` for more."""
PATIENCE = 20.0
"""A naive fixer falls within a tenth of a second, on a busy machine within some."""


def attacked(
    attack: str, fixer: str, fs: str, seconds: float, until: int, least: int = 0
) -> harness.Result:
    seed = random.SystemRandom().getrandbits(32)
    try:
        result = harness.run(
            Run(attack, fixer, fs, ENOUGH, seconds, seed, least=least), FIXERS[fixer], until=until
        )
    except MissingError as e:
        pytest.skip(str(e))
    assert not result.error, result
    return result


@pytest.mark.parametrize(
    ("attack", "fixer"), [(a.name, n) for a in ATTACKS.values() for n in a.naive]
)
def test_a_naive_fixer_is_led_astray(attack: str, fixer: str) -> None:
    result = attacked(attack, fixer, "ext4", PATIENCE, until=1)
    assert result.escapes + result.strays


@pytest.mark.parametrize(
    ("attack", "fs"),
    [
        *((name, ("tmpfs", "ext4")[n % 2]) for n, name in enumerate(ATTACKS) if name != "reuse"),
        ("reuse", "ext4"),
        pytest.param("reuse", OLD, id="reuse-no birth times"),
    ],
)
def test_nothing_outside_changes(attack: str, fs: str) -> None:
    result = attacked(attack, "ours", fs, BRIEF, until=1, least=fs != OLD)
    assert result.escapes == result.strays == 0, result
    if fs == OLD:
        assert not result.changed, "without birth times nothing is repaired"
        return
    assert result.rounds
    assert result.repairs


# --- between two calls ---


def staged_board(play_: Callable[[Board, str], Found]) -> Found:
    """On a tmpfs, in a process with mounts of its own."""
    try:
        return staged_found("tmpfs", 60.0, lambda base, scratch: play_(Board(Scene(base)), scratch))
    except MissingError as e:
        pytest.skip(str(e))


def ours(board: Board, scratch: str, target: str = "") -> Fixer:
    return Ours(target or board.scene.tree, scratch, board.scene.notes, known=not target)


@pytest.mark.parametrize("naive", [LstatLchown, ByDescriptor], ids=lambda n: n.name)
def test_moves_between_calls_lead_a_naive_fixer_astray(naive: type) -> None:
    found = staged_board(lambda board, _: play(board, naive(), 200, 7, until=1))
    assert found.escapes + found.strays


def test_moves_between_calls() -> None:
    seed = random.SystemRandom().getrandbits(32)
    found = staged_board(lambda board, scratch: play(board, ours(board, scratch), 8, seed))
    assert found.escapes == found.strays == [], seed
    assert found.moves
    assert found.changed


LINK_IN, LINK_OVER, FILE_OUT, LINK_OUT, DIRECTORY_OUT = (
    "link in",
    "link over",
    "file out",
    "link out",
    "directory out",
)


def pointed(only: str, *order: When, target: str = "") -> Found:
    """One repair; move 0 is ``only``."""

    def play_(board: Board, scratch: str) -> Found:
        board.moves = [m for m in board.moves if m.name == only]
        found = Found()
        path = os.path.join(board.scene.tree, target) if target else ""
        one(board, ours(board, scratch, path), Player.quiet(board), found, path)
        player = Pointed(board, order)
        one(board, ours(board, scratch, path), player, found, path)
        found.left = [repr(w) for w in player.order]
        return found

    return staged_board(play_)


@pytest.mark.parametrize("what", [FILE_OUT, LINK_OUT, DIRECTORY_OUT])
def test_what_got_out_before_its_change_is_put_back(what: str) -> None:
    found = pointed(what, When("fchownat", None, ()), When("fchownat", None, (0,)))
    assert found.strays == []
    assert not found.left


def test_a_look_that_is_interrupted() -> None:
    """A foreign file loses its name between the look at the name and at the links, and the repair
    goes on so late that this is no longer fresh.
    """
    found = pointed(
        LINK_IN,
        When("", None, (0,)),
        When("statx", b"x", (0, WAIT), within=True),
        When("", None, (0,)),
        When("openat2", b"x", ()),
        When("statx", b"", (0, WAIT)),
    )
    assert found.escapes == []
    assert len(found.left) <= 2, "the look was not interrupted"


def test_a_job_that_is_one_file() -> None:
    """It is held, loses the name, and is quiet while the repair waits for it to be so."""
    found = pointed(
        LINK_OVER,
        When("openat2", b"f0", ()),  # the lock's
        When("openat2", b"f0", (0,)),
        When("statx", b"", (0,)),
        When("openat2", b"f0", (0,)),
        When("statx", b"", (0, WAIT)),
        target="h/f0",
    )
    assert found.escapes == []


# --- what is in a file ---


def test_undo_makes_nothing_set_id_that_others_wrote(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The new owner wrote into what was root's set-uid program: it must not be that again."""
    try:
        with mounted_fs("ext4") as base:
            tree = os.path.join(base, "tree")
            os.mkdir(tree)
            program = os.path.join(tree, "program")
            with open(program, "w") as f:
                f.write("good")
            os.chmod(program, 0o4755)
            store = Store(str(tmp_path_factory.mktemp("state")))
            id_ = _given_away(store, tree)
            assert os.stat(program).st_mode & 0o7777 == 0o755
            with open(program, "w") as f:
                f.write("evil")
            _undone(store, tree, id_)
            assert not os.stat(program).st_mode & 0o6000
    except MissingError as e:
        pytest.skip(str(e))


def _given_away(store: Store, tree: str) -> str:
    recipe = ToOwner(name="give", scope=Scope.ALL, uid=1000, gid=1000)
    with store.begin(_about(tree)) as journal:
        survey(journal, (Job(path=tree.encode(), recipes=(recipe,)),), Limits(), Asked(set_id=True))
        assert apply(journal, Limits()).complete
        return journal.id


def _undone(store: Store, tree: str, id_: str) -> None:
    with store.begin(_about(tree, of=id_)) as journal:
        if survey_undo(journal, store.find(id_), store, Limits())[0].count:
            apply(journal, Limits())


def _about(tree: str, of: str = "") -> About:
    return About(
        kind="undo" if of else "repair",
        host="attacked",
        started=time.time(),
        roots=(tree.encode(),),
        of=of,
    )
