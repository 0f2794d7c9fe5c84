"""Feeds a target with inputs, and says what went wrong with which.

CPU time is what counts: an input may take ``CPU_SECONDS`` for each 64 KiB.  Memory is looked at
for each target as a whole: by how much the process's peak grew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

from permdoctor.errors import PermdoctorError
from tests.fuzz.mutate import LARGE, Make
from tests.fuzz.oracle import must, tellable

CPU_SECONDS = 0.1
ENDLESS = 20.0
"""Seconds of CPU after which an input is given up."""

MEMORY_KIB = 256 << 10

MOST: Final = 16 << 20
"""Bytes of an input: more says nothing new, and is cut off wherever it comes from anyway."""

Feed = Callable[[bytes], object]


@dataclass(frozen=True, kw_only=True)
class Target:
    """``open`` gives what takes the inputs, and cleans up after it.  ``errors`` are the documented
    ones.  ``seconds`` is the CPU time that an input may take.
    """

    name: str
    make: Make
    open: Callable[[], contextlib.AbstractContextManager[Feed]]
    errors: tuple[type[Exception], ...] = (PermdoctorError,)
    seconds: float = CPU_SECONDS


def simple(feed: Feed) -> Callable[[], contextlib.AbstractContextManager[Feed]]:
    """What needs nothing to be opened."""
    return lambda: contextlib.nullcontext(feed)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """In memory where that can be: nobody is to wait for a disk."""
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


class Failure(Exception):  # noqa: N818 - of a target, not of this program
    """``python -m tests.fuzz TARGET --seed SEED --only NUMBER`` shows it again."""

    def __init__(self, target: Target, seed: int, number: int, data: bytes, why: str) -> None:
        shown = repr(data) if len(data) <= 2000 else f"{data[:1000]!r}... ({len(data)} bytes)"
        again = f"python -m tests.fuzz {target.name} --seed {seed} --only {number}"
        super().__init__(f"{target.name}: {why}\n  input: {shown}\n  again: {again}")


@dataclass
class Result:
    """``answers`` counts what came of the inputs: an answer, or an error by its class."""

    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    grown_kib: int = 0
    answers: Counter[str] = field(default_factory=Counter)


def input_of(target: Target, seed: int, number: int) -> bytes:
    return target.make(Random(f"{target.name} {seed} {number}"))[:MOST]


def run(
    target: Target,
    seed: int,
    *,
    inputs: int,
    seconds: float = float("inf"),
    first: int = 0,
) -> Result:
    """Up to so many inputs, and no more than ``seconds``.  Raises :class:`Failure`."""
    result = Result()
    begun = time.monotonic()
    before = _start_of_peak()
    with target.open() as feed, _alarm():
        for number in range(first, first + inputs):
            if number % 8 == 0 and time.monotonic() - begun > seconds:
                break
            data = input_of(target, seed, number)
            try:
                _feed(target, feed, data, result)
            except (Exception, _EndlessError) as e:
                raise Failure(target, seed, number, data, _why(e)) from e
            result.inputs += 1
    result.seconds = time.monotonic() - begun
    result.grown_kib = _memory("VmHWM") - before
    if result.grown_kib > MEMORY_KIB:
        why = f"the memory grew by {result.grown_kib} KiB"
        raise Failure(target, seed, first, b"", why)
    return result


def _feed(target: Target, feed: Feed, data: bytes, result: Result) -> None:
    allowed = target.seconds * max(1.0, len(data) / LARGE)
    for _ in range(3):
        begun = time.process_time()
        answer = _answer(target, feed, data)
        took = time.process_time() - begun
        if took <= allowed:
            break
    result.answers[answer] += 1
    result.slowest = max(result.slowest, took)
    must(took <= allowed, f"it takes {took * 1000:.0f} ms for {len(data)} bytes")


def _answer(target: Target, feed: Feed, data: bytes) -> str:
    signal.setitimer(signal.ITIMER_VIRTUAL, ENDLESS)
    try:
        feed(data)
    except target.errors as e:
        tellable(e)
        return type(e).__name__
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "answer"


class _EndlessError(BaseException):
    """So that nobody takes it for one of theirs."""


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def endless(number: int, frame: FrameType | None) -> None:
        raise _EndlessError(f"not within {ENDLESS:g} s")

    before = signal.signal(signal.SIGVTALRM, endless)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _why(e: BaseException) -> str:
    at = traceback.extract_tb(e.__traceback__)[-1]
    return f"{type(e).__name__}: {e!s:.400} ({Path(at.filename).name}:{at.lineno})"


def _start_of_peak() -> int:
    """proc_pid_clear_refs(5): the peak is what is there now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
