"""``python -m tests.repair.attack --attack NAME --rounds N``: for as long as one likes (as root).

A line of JSON for each attack and filesystem; exit 1 if anything escaped.  ``--scripts N`` plays so
many random scripts of moves between two calls instead (``interleave.py``).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict

from tests.lab.filesystems import KINDS
from tests.lab.needs import MissingError
from tests.repair.attack.attackers import ATTACKS
from tests.repair.attack.fixers import FIXERS
from tests.repair.attack.harness import OLD, Run, run
from tests.repair.attack.interleave import between_calls


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.repair.attack", description=__doc__)
    parser.add_argument("--attack", default="all", help=f"of {', '.join(ATTACKS)}, or all")
    parser.add_argument("--fixer", default="ours", choices=sorted(FIXERS))
    parser.add_argument("--fs", default="ext4", help=f"of {', '.join((*KINDS, OLD))}, or all")
    parser.add_argument("--rounds", type=int, default=400_000, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=600.0, help="at most, for each")
    parser.add_argument("--seed", type=int, help="default: a fresh one")
    parser.add_argument("--bulk", type=int, default=0, help="files that nobody attacks")
    parser.add_argument("--hogs", type=int, default=0, help="processes that take the processors")
    parser.add_argument("--scripts", type=int, help="moves between two calls")
    given = parser.parse_args()
    attacks = tuple(ATTACKS) if given.attack == "all" else tuple(given.attack.split(","))
    kinds = (*KINDS, OLD) if given.fs == "all" else tuple(given.fs.split(","))
    if not set(attacks) <= set(ATTACKS) or not set(kinds) <= {*KINDS, OLD}:
        parser.error("unknown attack or filesystem")
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    bad = 0
    if given.scripts:
        for kind in kinds:
            found = between_calls(kind, given.scripts, seed)
            print(json.dumps({"fs": kind, "seed": seed, **asdict(found)}), flush=True)
            bad += bool(found.escapes or found.strays)
        return 1 if bad else 0
    for attack in attacks:
        for kind in kinds:
            if kind in ATTACKS[attack].not_on:
                continue
            what = Run(
                attack, given.fixer, kind, given.rounds, given.seconds, seed, given.bulk, given.hogs
            )
            try:
                result = run(what, FIXERS[given.fixer])
            except MissingError as e:
                print(f"cannot run: {e}", file=sys.stderr)
                return 2
            print(result, flush=True)
            bad += bool(result.escapes or result.error)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
