"""Fixtures of the host's tests: a root filesystem for cells, and what needs root says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.filesystems import mounted_fs
from tests.lab.needs import MissingError


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """An empty root directory for a cell, reachable by everybody."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o005 != 0o005 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    root = tmp_path / "box"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    return root


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """A fresh tmpfs: quick to fill and gone in one unmount."""
    try:
        with mounted_fs("tmpfs", options="size=1g,nr_inodes=2m") as path:
            yield Path(path)
    except MissingError as e:
        pytest.skip(str(e))
