"""``python -m tests.fuzz [TARGET...]``: as many inputs for each target as one likes."""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz.run import Failure, input_of, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=100_000, help="for each (100,000)")
    parser.add_argument("--seed", type=int, help="any seed must pass (default: a fresh one)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this input of the seed alone")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    if unknown := [n for n in names if n not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}: {', '.join(TARGETS)}")
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    first, inputs = (0, given.inputs) if given.only is None else (given.only, 1)
    failed = 0
    for name in names:
        if given.only is not None:
            print(repr(input_of(TARGETS[name], seed, given.only)))
        try:
            done = run(TARGETS[name], seed, inputs=inputs, first=first)
        except Failure as e:
            failed += 1
            print(e, flush=True)
            continue
        answers = ", ".join(f"{k} {v:,}" for k, v in done.answers.most_common())
        print(
            f"{name:18} {done.inputs:9,} in {done.seconds:6.1f} s, slowest"
            f" {done.slowest * 1000:5.1f} ms, {max(0, done.grown_kib) >> 10:3} MiB: {answers}",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
