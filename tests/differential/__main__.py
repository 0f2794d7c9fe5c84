"""``python -m tests.differential``: the comparison for as long as one likes (as root)."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.differential import run, scene
from tests.differential.compare import Tally
from tests.lab.needs import MissingError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000, help="at least so many cases")
    parser.add_argument("--seed", type=int, help="any seed must pass (default: a fresh one)")
    parser.add_argument("--fs", default=",".join(scene.KINDS), help="default: %(default)s")
    parser.add_argument("--round", type=int, help="repeat this round of the seed only")
    given = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    kinds = tuple(given.fs.split(","))
    if not set(kinds) <= set(scene.KINDS):
        parser.error(f"--fs: of {', '.join(scene.KINDS)}")
    started = time.monotonic()

    def progress(tally: Tally) -> None:
        seconds = time.monotonic() - started
        print(
            f"\r{tally.cases:,} cases, {len(tally.disagreements)} disagreements, {seconds:.0f} s",
            end="",
            file=sys.stderr,
            flush=True,
        )

    try:
        tally = run.run(run.Plan(given.cases, seed, kinds, given.round), progress)
    except MissingError as e:
        print(f"cannot run: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(file=sys.stderr)
    print(summary(tally))
    seconds = time.monotonic() - started
    print(
        f"seed {seed}: {tally.cases:,} cases on {', '.join(kinds)} in {seconds:.1f} s:"
        f" {len(tally.disagreements) or 'no'} disagreements"
    )
    return 1 if tally.disagreements else 0


def summary(tally: Tally) -> str:
    """A line for each operation, and every disagreement."""
    lines = []
    for op in sorted({op for op, _ in tally.cells}):
        counts = {e: n for (o, e), n in tally.cells.items() if o == op}
        cells = "  ".join(f"{e} {counts[e]:,}" for e in sorted(counts, key=lambda e: -counts[e]))
        lines.append(f"{op:8} {sum(counts.values()):9,}   {cells}")
    return "\n".join([*map(str, tally.disagreements), *lines])


if __name__ == "__main__":
    sys.exit(main())
