"""Every way to install that the README names, from a checkout and into a place of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import readme

REPOSITORY = readme.README.parent
QUICKLY = {**os.environ, "PIP_NO_COMPILE": "1"}
"""What is started only once need not be compiled whole."""

pytestmark = pytest.mark.timeout(900)  # a registry far away


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would check out, without what was built here."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    top = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = REPOSITORY / name, top / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return top


def test_make_demo(checkout: Path) -> None:
    done = subprocess.run(
        ["make", "demo"], cwd=checkout, env=QUICKLY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "error PD101 1001:1001 cannot create or delete files in /app/model" in done.stdout
    assert "chown 1001:1001 /tmp/permdoctor-demo-" in done.stdout


def test_make_test_is_what_runs_this(checkout: Path) -> None:
    done = subprocess.run(["make", "-n", "test"], cwd=checkout, capture_output=True, text=True)
    assert "python -m pytest" in done.stdout
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.parametrize("command", readme.INSTALLING)
def test_command_installs(command: str, checkout: Path, tmp_path: Path) -> None:
    """Into a directory of its own; the installed command then runs."""
    tool = Path(sys.executable).with_name(command.split()[0])
    if not tool.exists():
        pytest.skip(f"needs {tool.name}: pip install {tool.name}")
    target = tmp_path / "bin"
    env = {
        **QUICKLY,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(target),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(tmp_path / "uv"),
        "UV_TOOL_BIN_DIR": str(target),
        "UV_PYTHON": sys.executable,
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        command, shell=True, cwd=checkout, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = subprocess.run([target / "permdoctor", "--version"], capture_output=True, text=True)
    assert said.stdout.startswith("permdoctor ")
