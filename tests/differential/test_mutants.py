"""The comparison can fail: every wrong model is caught."""

from __future__ import annotations

import multiprocessing as mp
from multiprocessing.connection import Connection

import pytest

from permdoctor.kernel.sysctls import Sysctls
from tests.differential import mutants, sysctls
from tests.differential.run import Lab
from tests.lab.needs import MissingError, need_root

KINDS = ("tmpfs", "ext4")
MOST_ROUNDS = 60
SEED = 7

Caught = dict[str, int | None]
"""How many cases it took; ``None``: not caught."""

_NEEDS = {
    "protected-symlinks-forgotten": "protected_symlinks",
    "protected-hardlinks-forgotten": "protected_hardlinks",
    "protected-regular-forgotten": "protected_regular",
}


@pytest.fixture(scope="module")
def caught() -> Caught:
    """All in one child, on one set of filesystems and namespaces."""
    try:
        need_root()
    except MissingError as e:
        pytest.skip(str(e))
    context = mp.get_context("fork")
    ours, theirs = context.Pipe()
    with sysctls.varied() as set_sysctls:
        set_sysctls(
            Sysctls(
                protected_hardlinks=1, protected_symlinks=1, protected_fifos=2, protected_regular=2
            )
        )
        child = context.Process(target=_try_all, args=(theirs,))
        child.start()
        theirs.close()
        result = ours.recv()
        child.join()
    if isinstance(result, MissingError):
        pytest.skip(str(result))
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, dict)
    return result


def _try_all(pipe: Connection) -> None:
    try:
        with Lab(KINDS) as lab, lab.epoch(SEED, 0) as around:

            def cases_until_caught(first: int) -> int | None:
                cases = 0
                for number in range(first, first + MOST_ROUNDS):
                    tally = lab.round(around, SEED, number)
                    cases += tally.cases
                    if tally.disagreements:
                        return cases
                return None

            result: Caught = {}
            for i, name in enumerate(mutants.MUTANTS):
                with mutants.mutated(name):
                    result[name] = cases_until_caught(i * MOST_ROUNDS)
            control = sum(len(lab.round(around, SEED, n).disagreements) for n in range(6))
            result["none"] = control or None
        pipe.send(result)
    except Exception as e:
        pipe.send(e)


def test_the_unchanged_model_agrees_on_the_same_rounds(caught: Caught) -> None:
    assert caught["none"] is None


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_a_wrong_model_is_caught(caught: Caught, name: str) -> None:
    if name in _NEEDS and not getattr(sysctls.read(), _NEEDS[name]) and caught[name] is None:
        pytest.skip(f"fs.{_NEEDS[name]} is off and could not be set")
    assert caught[name] is not None
