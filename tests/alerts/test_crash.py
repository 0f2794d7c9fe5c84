"""kill -9 at any moment, a few times; ``crash.py`` says what must hold."""

from __future__ import annotations

from pathlib import Path

from .crash import rounds


def test_killed_at_any_moment(tmp_path: Path) -> None:
    rounds(tmp_path, number=4, seed=1, trouble=0.0)


def test_killed_while_a_receiver_misbehaves(tmp_path: Path) -> None:
    rounds(tmp_path, number=2, seed=2, trouble=0.02)
