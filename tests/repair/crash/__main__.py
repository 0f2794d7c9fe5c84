"""``python -m tests.repair.crash``: kill -9 and undo for as long as one likes (as root)."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.lab import filesystems
from tests.lab.needs import MissingError
from tests.repair.crash import rounds, tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.repair.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="at least so many kills")
    parser.add_argument("--fs", default=",".join(filesystems.KINDS), help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="any seed must pass (default: a fresh one)")
    parser.add_argument("--round", type=int, help="repeat this round of the seed only")
    given = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    kinds = given.fs.split(",")
    if not set(kinds) <= set(filesystems.KINDS):
        parser.error(f"--fs: of {', '.join(filesystems.KINDS)}")
    started = time.monotonic()
    total = rounds.Tally()
    try:
        for n, kind in enumerate(kinds):
            kills = (
                1
                if given.round is not None
                else -(-(given.kills - total.kills) // (len(kinds) - n))
            )
            total.add(rounds.many(kind, seed, kills, given.round, tell.progress))
    except MissingError as e:
        print(f"cannot run: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(file=sys.stderr)
    print(tell.table(total))
    print(f"seed {seed}: {', '.join(kinds)} in {time.monotonic() - started:.1f} s")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
