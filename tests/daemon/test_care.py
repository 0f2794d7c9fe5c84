"""What a killed repair left paused, at the end of the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.app import interrupted
from permdoctor.daemon.care import Care


def test_who_still_holds_his_journal_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed a moment ago has not let go of everything."""
    left = tmp_path / "active" / "20261122-174003-02e7"
    left.parent.mkdir()
    left.touch()
    looks = []

    def take_care(state: str) -> Iterator[interrupted.Told]:
        looks.append(state)
        if len(looks) == 4:
            left.unlink()
        return iter(())

    monkeypatch.setattr(interrupted, "take_care", take_care)
    care = Care(str(tmp_path), lambda *_: None)
    care.start()
    care.close()
    assert not left.exists()
    assert len(looks) == 4, "and no longer"
