"""All attackers, by name."""

from __future__ import annotations

from tests.repair.attack import churn, links, swaps
from tests.repair.attack.attack import Attack

ATTACKS: dict[str, type[Attack]] = {
    a.name: a
    for a in (
        swaps.SymlinkDirectory,
        swaps.SymlinkLeaf,
        swaps.Fifo,
        swaps.Moves,
        swaps.Mounts,
        swaps.Root,
        links.LinkIn,
        links.LinkRoot,
        links.LinkOut,
        links.MoveOut,
        links.MoveDirectoryOut,
        churn.Reuse,
        churn.SetId,
        churn.Touch,
        churn.Churn,
    )
}
