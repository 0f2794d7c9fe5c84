"""``python -m tests.daemon.histories``: random histories for as long as one likes.

Each ends in peace, and then what the reconciler knows must be the truth (``world.py``).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator

from tests.daemon.world import BrokenError, History


def wrong(seed: int) -> list[str]:
    """What is not as it must be after this history, or during it."""
    history = History(seed)
    try:
        history.run()
    except BrokenError as e:
        return [str(e)]
    return history.differences()


def first_wrong(seeds: Iterator[int] | range) -> tuple[int, str] | None:
    """The first seed with a difference, and what it is."""
    for seed in seeds:
        try:
            found = wrong(seed)
        except Exception as e:
            found = [f"{type(e).__name__}: {e}"]
        if found:
            return seed, found[0]
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.daemon.histories", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, help="the first one (default: a fresh one)")
    given = parser.parse_args()
    first = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    started = time.monotonic()
    bad = 0
    for seed in range(first, first + given.histories):
        if found := wrong(seed):
            bad += 1
            print(f"{seed}: {'; '.join(found)}")
    seconds = time.monotonic() - started
    print(f"seed {first}: {given.histories:,} histories in {seconds:.0f} s: {bad or 'none'} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
