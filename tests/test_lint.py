"""Style, format and types are tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(("ruff", "check", "."), id="ruff check"),
        pytest.param(("ruff", "format", "--check", "."), id="ruff format"),
        pytest.param(("mypy",), id="mypy strict"),
    ],
)
def test_clean(tool: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_programs_beside_the_tests_can_be_run() -> None:
    """Benchmarks and the long runs, which nothing else imports."""
    files = (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tests/**/*.py"))
    names = [
        ".".join(f.relative_to(ROOT).with_suffix("").parts)
        for f in sorted(files)
        if not f.name.startswith(("test_", "__"))
    ]
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", program, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
