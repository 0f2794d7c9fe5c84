"""What an attacker is.

``burst`` is some hundred microseconds to a few milliseconds of attack without looking up; it
answers how many rounds it made (a round: the tree was made dangerous and harmless again, or the
reverse).  ``settle`` puts the tree into a state in which a repair finds plenty to do.
"""

from __future__ import annotations

import os
import random

from tests.repair.attack.cells import Cells
from tests.repair.attack.scene import Scene


class Attack:
    """Base: attacks nothing."""

    name = ""
    naive: tuple[str, ...] = ()
    """Which naive fixers it leads astray."""
    apply_only = False
    """Whether it makes sense only after the survey."""
    not_on: tuple[str, ...] = ()
    """Filesystems on which it cannot work at all."""
    known = True
    """Whether the job says which inode it means, as jobs for a container do."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.target = scene.tree
        """What is to be repaired."""
        self.build()

    def build(self) -> None:
        """Before any process starts."""

    def arm(self, cells: Cells, rng: random.Random) -> None:
        """In the attacker's process."""
        self.cells = cells
        self.rng = rng
        self.tree = directory(self.scene.tree)
        self.yard = directory(self.scene.yard)

    def burst(self) -> int:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError

    def judge(self) -> tuple[int, int]:
        """(escapes, strays) that the canaries do not show; in the attacker, after ``settle``."""
        return 0, 0


def directory(*parts: str | bytes) -> int:
    return os.open(os.path.join(*map(os.fsencode, parts)), os.O_PATH | os.O_DIRECTORY)
