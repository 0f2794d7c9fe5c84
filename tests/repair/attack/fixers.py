"""Who can be attacked, by name."""

from __future__ import annotations

from typing import Final

from tests.repair.attack.attack import Attack
from tests.repair.attack.harness import MakeFixer
from tests.repair.attack.naive import NAIVE, Fixer
from tests.repair.attack.ours import Ours


def _naive(kind: type) -> MakeFixer:
    def make(_: Attack, __: str) -> Fixer:
        fixer: Fixer = kind()
        return fixer

    return make


def _ours(attack: Attack, scratch: str) -> Fixer:
    return Ours(attack.target, scratch, attack.scene.notes, known=attack.known)


FIXERS: Final[dict[str, MakeFixer]] = {
    Ours.name: _ours,
    **{kind.name: _naive(kind) for kind in NAIVE},
}
