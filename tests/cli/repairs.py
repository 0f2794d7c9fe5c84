"""Shared by the tests of ``fix``, ``undo`` and ``history``: a command in this process, with a state
directory of its own, and a tree's metadata as one text.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from permdoctor.cli import main


@dataclass(frozen=True)
class Answer:
    """What ``main`` did."""

    status: int
    out: str
    err: str

    @property
    def one_line(self) -> str:
        """What is said of an error: a line, at most a hint after it, and nothing on stdout."""
        first, *rest = self.err.splitlines()
        assert first.startswith("permdoctor: ")
        assert len(rest) <= 1
        assert all(r.startswith("  hint: ") for r in rest)
        assert "internal error" not in first
        return self.err


Run = Callable[..., Answer]


def settings(folder: Path, text: str = "") -> Path:
    """A configuration whose state is in ``folder``."""
    file = folder / "config.toml"
    file.write_text(f'[repair]\nstate = "{folder}/state"\n{text}\n')
    file.chmod(0o644)
    return file


def runner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, config: Path, host: str
) -> Run:
    monkeypatch.setenv("PERMDOCTOR_CONFIG", str(config))
    monkeypatch.setenv("DOCKER_HOST", host)

    def run(*args: str | Path) -> Answer:
        capsys.readouterr()
        status = main([str(a) for a in args])
        said = capsys.readouterr()
        return Answer(status, said.out, said.err)

    return run


def metadata(top: Path) -> str:
    """Owner, mode, links, ACLs and file capabilities of everything, by the system's own tools."""
    env = {**os.environ, "LC_ALL": "C"}
    commands = (
        ["find", top, "-printf", r"%P %y %U %G %m %n\n"],
        ["getfacl", "-R", "-P", "-n", "-p", "--tabular", top],
        ["getfattr", "-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", top],
    )
    return "".join(
        subprocess.run(c, capture_output=True, text=True, check=True, env=env).stdout
        for c in commands
    )
