"""Where the output goes: colours on a terminal, none in a pipe, and never a control character."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.process import CONTROL, SGR, on_a_terminal, python

SHOW = """
from permdoctor.cli.check import show
from permdoctor.cli.output import prepare_streams
prepare_streams()
show(result({report}), '{form}', verbose=True)
"""


@pytest.mark.parametrize("form", ["table", "json", "explain"])
@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
def test_hostile_names_in_a_pipe(form: str, locale: str) -> None:
    done = python(SHOW.format(report="hostile_report()", form=form), LC_ALL=locale)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert CONTROL.search(done.stdout) is None


def test_data_and_messages_go_apart() -> None:
    failed = "failed=(Skipped(what='web', reason='gone\\x1b[31m', hint='look'),)"
    done = python(SHOW.format(report=f"report(), {failed}", form="table"))
    assert done.stdout.startswith("trainer: ok, 3 mounts")
    assert done.stderr == "permdoctor: web: gone\\x1b[31m\n  hint: look\n"


@pytest.mark.parametrize(
    ("environ", "colored"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_on_a_terminal(environ: dict[str, str], colored: bool) -> None:
    shown = on_a_terminal(SHOW.format(report="broken()", form="table"), **environ)
    assert bool(SGR.search(shown)) is colored
    assert "error PD101" in SGR.sub("", shown)


def test_no_colour_in_a_pipe() -> None:
    assert "\x1b" not in python(SHOW.format(report="broken()", form="table")).stdout


@pytest.mark.parametrize("form", ["table", "explain"])
def test_hostile_names_on_a_narrow_terminal(form: str) -> None:
    shown = on_a_terminal(SHOW.format(report="hostile_report()", form=form), COLUMNS="40")
    assert CONTROL.search(SGR.sub("", shown)) is None


PROGRESS = """
import time
from permdoctor.cli.progress import ProgressBar
with ProgressBar() as bar:
    for i in range(8):
        bar.update('/data [red]\\\\x1b', i * 1000)
        time.sleep(0.1)
print('done')
"""


def test_a_long_scan_shows_a_bar_on_a_terminal_only() -> None:
    assert "/data [red]\\x1b: 7,000 entries" in on_a_terminal(PROGRESS)
    piped = python(PROGRESS)
    assert (piped.stdout, piped.stderr) == ("done\n", "")


@pytest.mark.parametrize("journal", [True, False])
def test_in_the_journal_what_fails_has_its_priority(journal: bool, tmp_path: Path) -> None:
    file = tmp_path / "stderr"
    with file.open("wb") as stderr:
        status = os.fstat(stderr.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal else "1:1"
        argv = [sys.executable, "-m", "permdoctor", "codes", "PD000"]
        done = subprocess.run(argv, stderr=stderr, env={**os.environ, "JOURNAL_STREAM": stream})
    lines = file.read_text().splitlines()
    assert done.returncode == 2
    assert lines
    assert all(line.startswith("<3>") is journal for line in lines)
