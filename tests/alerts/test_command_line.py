"""``permdoctor alert test``, as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from permdoctor.alerts.document import schema_text
from tests.cli.process import permdoctor

from .receiver import answer, receiving


def configured(tmp_path: Path, text: str) -> str:
    file = tmp_path / "config.toml"
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def test_every_sink_is_tried(tmp_path: Path) -> None:
    with receiving() as well, receiving(answer(500, body=b"s3cr3t-key")) as ill:
        file = configured(
            tmp_path,
            f"""
            [[alerts.webhook]]
            url = "{well.url}"
            secret_env = "KEY"
            [[alerts.webhook]]
            name = "ill"
            url = "{ill.url}/T0K3N"
            secret_env = "KEY"
            [[alerts.command]]
            argv = ["/bin/cat"]
            min_severity = "error"
            """,
        )
        done = permdoctor("alert", "test", "--config", file, KEY="s3cr3t-key")
        assert done.returncode == 3
        lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        assert [line[:2] for line in lines] == [
            ["webhook", "told"], ["ill", "failed"], ["command", "told"],
        ]  # fmt: skip
        assert lines[1][2] == f"{ill.url}: HTTP status 500: ..."
        assert done.stderr == ""
        types = [r.json["type"] for r in well.requests]
        assert types == ["permdoctor.alert.firing", "permdoctor.alert.resolved"]
        only = permdoctor("alert", "test", "--sink", "webhook", "--config", file, KEY="k")
        assert (only.returncode, only.stdout.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    ("text", "args", "says"),
    [
        pytest.param("", (), "no sink is configured", id="none"),
        pytest.param("[[alerts.journald]]", ("--sink", "x"), "no sink is called x", id="another"),
        pytest.param(
            '[[alerts.pagerduty]]\nrouting_key_env = "KEY"', (), "holds nothing", id="no secret"
        ),
    ],
)
def test_wrong_usage(tmp_path: Path, text: str, args: tuple[str, ...], says: str) -> None:
    done = permdoctor("alert", "test", "--config", configured(tmp_path, text), *args)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_who_interrupts_it_does_not_leave_it_firing(tmp_path: Path) -> None:
    with receiving() as receiver:
        file = configured(tmp_path, f'[[alerts.webhook]]\nurl = "{receiver.url}"')
        argv = [sys.executable, "-m", "permdoctor", "alert", "test", "--hold", "60"]
        with subprocess.Popen([*argv, "--config", file], stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            assert b"fires for 60 s" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
        assert b"Traceback" not in said
        assert process.returncode != 0
        types = [r.json["type"] for r in receiver.requests]
        assert types == ["permdoctor.alert.firing", "permdoctor.alert.resolved"]


def test_the_schema() -> None:
    done = permdoctor("alert", "schema")
    assert (done.returncode, done.stdout) == (0, schema_text())


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    file = configured(tmp_path, '[[alerts.command]]\nargv = ["/bin/sleep", "5"]')
    done = permdoctor("alert", "test", "--timeout", "0.3", "--config", file)
    assert done.returncode == 3
    assert "not told within 0.3 s" in done.stdout


def test_a_sink_that_takes_little_is_tested_at_once(tmp_path: Path) -> None:
    """The alert and its resolve are more than one message a minute."""
    with receiving() as receiver:
        file = configured(tmp_path, f'[[alerts.webhook]]\nurl = "{receiver.url}"\nper_minute = 1')
        done = permdoctor("alert", "test", "--timeout", "20", "--config", file)
    assert done.returncode == 0, done.stdout
    assert len(receiver.requests) == 2
