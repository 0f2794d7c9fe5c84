"""What was typed: help, and one line and a hint for everything that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from permdoctor.cli import main
from permdoctor.cli.root import COMMANDS
from permdoctor.diagnosis.codes import CODES
from tests.cli.process import CONTROL, NO_ENGINE


@dataclass(frozen=True)
class Answer:
    """What ``main`` did within this process: much quicker than a new one."""

    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Answer]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def call(*args: str | bytes) -> Answer:
        monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
        status = main([os.fsdecode(a) for a in args])
        said = capsys.readouterr()
        return Answer(status, said.out, said.err)

    return call


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(("--help",), "Exit status:", id="root"),
        *(pytest.param((c, "--help"), f"Usage: permdoctor {c}", id=c) for c in COMMANDS),
    ],
)
def test_help_teaches(args: tuple[str, ...], said: str, answer: Call) -> None:
    done = answer(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


@pytest.mark.parametrize("command", ["check", "explain", "fix", "undo"])
def test_help_documents_examples_and_every_exit_status(command: str, answer: Call) -> None:
    shown = answer(command, "--help").stdout
    assert "Examples:" in shown
    assert re.findall(r"^    ([0-3])  ", shown, re.MULTILINE) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(("chekc",), "no such command: chekc (did you mean check?)", id="command"),
        pytest.param(("check",), "which container?", id="nothing to check"),
        pytest.param(("check", "--all", "x"), "--all cannot be combined", id="all and a name"),
        pytest.param(("check", "--nope"), "No such option", id="option"),
        pytest.param(("check", "x", "--format", "xml"), "'xml' is not one of", id="format"),
        pytest.param(("check", "x", "--need", "a=read"), "is not /PATH=NEED", id="relative need"),
        pytest.param(("check", "x", "--need", "/a"), "is not /PATH=NEED", id="need without need"),
        pytest.param(("check", "x", "--need", "/a=rw"), "none of none, read", id="unknown need"),
        pytest.param(("check", "--pid", "0"), "'--pid'", id="pid 0"),
        pytest.param(("check", "--pid", "me"), "not a valid integer", id="pid is no number"),
        pytest.param(("explain", "x"), "give CONTAINER PATH", id="explain without path"),
        pytest.param(("explain", "x", "y"), "is not an absolute path", id="relative path"),
        pytest.param(("explain", "x", "/y", "z"), "give CONTAINER PATH", id="too much"),
        pytest.param(("explain", "--pid", "1", "x", "/y"), "give CONTAINER PATH", id="both"),
        pytest.param(("explain", "x", "/y", "--want", "sing"), "'sing' is not one", id="want"),
        pytest.param(("codes", "PD11"), "no such code: PD11", id="code"),
        pytest.param(("codes", "write-refusd"), "did you mean write-refused?", id="near name"),
        pytest.param(("completion", "tcsh"), "'tcsh' is not one of", id="shell"),
        pytest.param(("check", "x", "--config", "/none"), "cannot read configuration", id="config"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    args: tuple[str, ...], message: str, answer: Call
) -> None:
    done = answer(*args)
    assert (done.returncode, done.stdout) == (2, "")
    first, *rest = done.stderr.splitlines()
    assert first.startswith("permdoctor: ")
    assert message in first
    assert len(rest) <= 1
    assert all(r.startswith("  hint: ") for r in rest)


@pytest.mark.parametrize(
    "args",
    [
        ("check", b"\x1b[31m\xff\n\xe2\x80\xae"),
        ("check", "x", "--need", b"\x1b]0;t\x07=own"),
        ("explain", "x", b"\x1b[2J"),
        ("codes", b"\x1b[31m\xff"),
        (b"\x1b[31mcheck\xff\r",),
        ("check", "x", "--config", b"/\x1b[31m\xff\n"),
        ("check", "x", "--host", b"\x1b[31m"),
        ("check", b"--\x1b[31m"),
    ],
)
def test_what_was_typed_cannot_reach_the_terminal_raw(
    args: tuple[str | bytes, ...], answer: Call
) -> None:
    done = answer(*args)
    assert done.returncode in (2, 3)
    assert CONTROL.search(done.stderr) is None
    assert len(done.stderr.splitlines()) <= 2
    assert "internal error" not in done.stderr


def test_engine_down(answer: Call) -> None:
    done = answer("check", "x")
    assert (done.returncode, done.stdout) == (3, "")
    assert "/nonexistent/docker.sock" in done.stderr


def test_codes(answer: Call) -> None:
    done = answer("codes")
    assert [each.split()[0] for each in done.stdout.splitlines()] == list(CODES)
    assert answer("codes", "pd101").stdout == answer("codes", "write-refused").stdout
    assert answer("codes", "PD101").stdout.startswith("# PD101 write-refused (error)\n")


@pytest.mark.parametrize("command", ["status", "findings"])
def test_a_wrong_configuration_is_no_reason_not_to_ask_the_service(
    answer: Call, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "c.toml"
    wrong.write_text("[service]\nsockt = 1\n")
    monkeypatch.setenv("PERMDOCTOR_CONFIG", str(wrong))
    warned, asks, *_, failed, _ = answer(command).stderr.splitlines()
    assert warned == f"permdoctor: warning: {wrong}:2: service.sockt: no such key"
    assert asks.startswith("permdoctor: asking at /run/permdoctor/status.sock, ")
    assert "does not run" in failed
    named = answer(command, "--config", str(wrong))
    assert (named.returncode, "asking at" in named.stderr) == (2, False)
