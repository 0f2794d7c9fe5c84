"""Each parser with a moment's inputs; ``python -m tests.fuzz`` takes longer.  And the fuzzer finds
what there is to be found.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.fuzz import run
from tests.fuzz.mutants import MUTANTS, broken
from tests.fuzz.mutate import bytes_of, json_of
from tests.fuzz.run import Failure, Target, simple
from tests.fuzz.targets import TARGETS

INPUTS, SECONDS = 120, 0.3
FRESH = random.SystemRandom().getrandbits(32)
ENOUGH = 2500
"""Inputs in which a missing guard is noticed."""


@pytest.mark.parametrize("seed", [pytest.param(1, id="fixed"), pytest.param(FRESH, id="fresh")])
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_broken_by_hostile_input(name: str, seed: int) -> None:
    run.run(TARGETS[name], seed, inputs=INPUTS, seconds=SECONDS)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_guard_is_noticed(name: str) -> None:
    with broken(name), pytest.raises(Failure, match=f"again: python -m tests.fuzz {name} --seed"):
        run.run(TARGETS[name], 1, inputs=ENOUGH)


def slow(data: bytes) -> None:
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass


def endless(data: bytes) -> None:
    while True:
        pass


def large(data: bytes) -> None:
    bytearray(16 << 20)[::4096] = b"x" * 4096


@pytest.mark.parametrize(
    ("feed", "why"),
    [
        pytest.param(slow, "it takes .* ms for", id="time"),
        pytest.param(endless, "not within", id="an endless loop"),
        pytest.param(large, "the memory grew by", id="memory"),
        pytest.param(lambda _: [].pop(), "IndexError: pop from empty list", id="another error"),
    ],
)
def test_it_is_noticed(
    feed: Callable[[bytes], object], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ENDLESS", 0.1)
    monkeypatch.setattr(run, "MEMORY_KIB", 8 << 10)
    target = Target(name="x", make=bytes_of((b"x",)), open=simple(feed), seconds=0.01)
    with pytest.raises(Failure, match=why):
        run.run(target, 1, inputs=5)


@pytest.mark.parametrize("make", [bytes_of((b"a b 1\n", b"")), json_of((b'{"a": [1, {"b": 2}]}',))])
def test_an_input_can_be_made_again(make: Callable[[random.Random], bytes]) -> None:
    target = Target(name="x", make=make, open=simple(len))
    inputs = [run.input_of(target, 5, n) for n in range(2000)]
    assert inputs == [run.input_of(target, 5, n) for n in range(2000)]
    assert len(set(inputs)) > 500
    assert any(len(i) >= 64 << 10 for i in inputs)
