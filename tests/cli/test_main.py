"""The command line as a process: what it prints where, and with which status it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from permdoctor import __version__
from permdoctor.cli.root import COMMANDS
from permdoctor.diagnosis.codes import CODES
from tests.cli.process import NO_ENGINE, permdoctor, python


def test_version() -> None:
    done = permdoctor("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"permdoctor {__version__}\n", "")


def test_version_imports_nearly_nothing() -> None:
    """The number of modules, not the time: that is the benchmark's."""
    count = "print(len(sys.modules), file=sys.stderr)"
    code = f"from permdoctor.cli import main; main(['--version']); {count}"
    bare, ours = (
        int(
            subprocess.run(
                [sys.executable, "-c", f"import sys; {c}"],
                capture_output=True,
                text=True,
                check=True,
            ).stderr
        )
        for c in (count, code)
    )
    assert ours - bare <= 5


def test_without_arguments_it_helps() -> None:
    done = permdoctor()
    assert done.returncode == 2
    assert "Usage: permdoctor" in done.stderr


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ("sys.version_info = (3, 8, 1)", "needs Python 3.11 or later, this is 3.8.1"),
        ("sys.platform = 'darwin'", "needs Linux, this is darwin"),
    ],
)
def test_a_machine_that_does_not_fit(lie: str, message: str) -> None:
    done = python(f"from permdoctor.cli import main\n{lie}\nsys.exit(main(['check', 'x']))")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == f"permdoctor: {message}"
    assert done.stderr.splitlines()[1].startswith("  hint: ")


FAILING = """
import permdoctor.cli.codes as codes
from permdoctor.cli import main
def broken(*_):
    raise {error}
codes._find = broken
sys.exit(main(['codes', 'PD101']))
"""


@pytest.mark.parametrize(
    ("error", "status", "first"),
    [
        ("KeyError('x\\x1b[31m')", 3, "permdoctor: internal error: KeyError: 'x\\x1b[31m'"),
        ("KeyboardInterrupt", 130, "permdoctor: interrupted"),
        ("MemoryError", 3, "permdoctor: internal error: MemoryError"),
        (
            "__import__('permdoctor.errors').errors.CannotCheckError('no\\x1b', hint='so')",
            3,
            "permdoctor: no\\x1b",
        ),
        ("__import__('permdoctor.errors').errors.UsageError('bad')", 2, "permdoctor: bad"),
    ],
)
def test_whatever_happens_is_one_line(error: str, status: int, first: str) -> None:
    done = python(FAILING.format(error=error))
    assert done.returncode == status
    said = done.stderr.strip().splitlines()
    assert said[0].startswith(first)
    assert len(said) <= 2
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = python(FAILING.format(error="KeyError('x')"), PERMDOCTOR_DEBUG="1")
    assert "Traceback" in done.stderr
    assert done.returncode == 3


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m permdoctor codes | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() in ("0", "141"), "0 where the pipe was read before it was closed"
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["codes", "--version"])
def test_a_closed_pipe_ends_it_with_141(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "permdoctor", command],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", ["codes", "--version"])
def test_a_full_disk_is_said(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "permdoctor", command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "permdoctor: cannot write the result: No space left on device\n"


@pytest.mark.parametrize("command", ["codes", "--version"])
@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_stream_is_no_error(command: str, closed: str) -> None:
    script = f"{sys.executable} -m permdoctor {command} {closed}>&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_encoding_without_the_character() -> None:
    code = "from permdoctor.cli.output import *\nprepare_streams()\nemit('日本\\n')"
    done = python(code, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, "\\u65e5\\u672c\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    done = permdoctor("completion", shell)
    assert done.returncode == 0
    assert "_PERMDOCTOR_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("permdoctor", "che"), {"check"}),
        (("permdoctor", ""), set(COMMANDS)),
        (("permdoctor", "codes", "PD11"), {c for c in CODES if c.startswith("PD11")}),
        (("permdoctor", "findings", "--code", "pd40"), {c for c in CODES if "PD40" in c}),
        (("permdoctor", "check", "--fo"), {"--format"}),
        (("permdoctor", "explain", "x", "/y", "--want", "cr"), {"create"}),
        (("permdoctor", "check", ""), set()),
        (("permdoctor", "explain", "x", ""), set()),
    ],
)
def test_completion(words: tuple[str, ...], expected: set[str]) -> None:
    done = permdoctor(
        _PERMDOCTOR_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(words),
        COMP_CWORD=str(len(words) - 1),
        DOCKER_HOST=NO_ENGINE,
    )
    assert done.returncode == 0
    offered = {each.split(",")[1] for each in done.stdout.splitlines() if each}
    assert offered == expected
    assert done.stderr == ""
