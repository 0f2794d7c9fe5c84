"""What the rounds met, for people."""

from __future__ import annotations

import sys

from tests.repair.crash.rounds import Tally


def progress(kind: str, tally: Tally) -> None:
    line = f"{kind}: {tally.kills} kills, {len(tally.failures)} failures"
    print(f"\r{line:60}", end="", file=sys.stderr, flush=True)


def table(tally: Tally) -> str:
    """Every failure, and where the kills fell."""
    tenths = {n: tally.tenths[n] for n in range(-1, 11)}
    shown = [f"nothing {tenths.pop(-1)}", *(f"{n * 10}% {c}" for n, c in tenths.items())]
    return "\n".join(
        [
            *tally.failures,
            f"{tally.kills} kills in {tally.rounds} rounds, {tally.undo_kills} of them of undos:"
            f" {len(tally.failures) or 'no'} failures",
            "repair killed: " + ", ".join(f"{v} {n}" for v, n in tally.victims.most_common()),
            "before call:   " + ", ".join(f"{c} {n}" for c, n in tally.calls.most_common()),
            "changed then:  " + ", ".join(shown),
        ]
    )
