"""The log: one event a line, whatever is in it; for the journal, a terminal and machines."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from permdoctor.config import Log as Config
from permdoctor.daemon import log
from permdoctor.daemon.events import Log
from tests.cli.process import CONTROL, SGR, on_a_terminal
from tests.render.builders import HOSTILE

ROOT = Path(__file__).parent.parent.parent
FORMS = ("logfmt", "json", "console")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What ``configure`` takes over is given back."""
    root, hook = logging.getLogger(), threading.excepthook
    handlers = list(root.handlers)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    logging.captureWarnings(False)
    threading.excepthook = hook


def configured(form: str = "logfmt", level: str = "info", encoding: str = "utf-8") -> io.BytesIO:
    """Where everything that is logged goes."""
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    log.configure(Config(format=form, level=level), {}, text)  # type: ignore[arg-type]
    return raw


def lines(raw: io.BytesIO) -> list[str]:
    return raw.getvalue().decode("utf-8").splitlines()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("plain", "why=plain", id="plain"),
        pytest.param("two words", 'why="two words"', id="a space"),
        pytest.param("a=b", 'why="a=b"', id="an equals sign"),
        pytest.param('say "no"', r'why="say \"no\""', id="quotes"),
        pytest.param("", "why=", id="nothing"),
        pytest.param("a\nlevel=error event=forged", None, id="a line break"),
        pytest.param("\u2028next", r"why=\u2028next", id="a line separator"),
        pytest.param("\u202eevil", r"why=\u202eevil", id="a bidi override"),
        pytest.param("\x1b[31m", r"why=\x1b[31m", id="an escape sequence"),
        pytest.param("\udcff", r"why=\xff", id="no UTF-8"),
    ],
)
def test_logfmt(value: str, shown: str | None) -> None:
    raw = configured()
    log.write(Log(level="warning", event="refused", fields=(("why", value),)))
    (line,) = lines(raw)
    assert re.match(r"timestamp=\d{4}-\S+Z level=warning event=refused why=", line)
    if shown is not None:
        assert line.endswith(f" {shown}")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(event=st.text(), key=st.text(), value=st.text(st.characters()))
def test_whatever_it_is_it_is_one_line(form: str, event: str, key: str, value: str) -> None:
    raw = configured(form)
    log.write(Log(level="error", event=event, fields=((key, value),)))
    log.logger().error(value, name=HOSTILE)
    text = raw.getvalue().decode("utf-8")
    assert text.count("\n") == 2
    assert CONTROL.search(SGR.sub("", text)) is None
    if form == "json":
        assert all(isinstance(json.loads(each), dict) for each in text.splitlines())


@pytest.mark.parametrize("form", FORMS)
def test_a_field_cannot_pose_as_the_event(form: str) -> None:
    raw = configured(form)
    fields = (("event", "all is well"), ("level", "debug"), ("timestamp", "0"))
    log.write(Log(level="error", event="disk full", fields=fields))
    (line,) = lines(raw)
    if form == "json":
        document = json.loads(line)
        assert (document["event"], document["level"]) == ("disk full", "error")
    assert "field_event" in line


def test_an_unknown_level_is_an_error() -> None:
    raw = configured(level="error")
    log.say("loud", "x", {})
    assert "level=error" in lines(raw)[0]


@pytest.mark.parametrize(
    ("level", "kept"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_levels(level: str, kept: int) -> None:
    raw = configured(level=level)
    for each in ("debug", "info", "warning", "error"):
        log.say(each, "x", {})
    assert len(lines(raw)) == kept


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("char", ["e", '"', "\\", "\x1b", "\U0001f600", "\n"])
def test_what_is_long_is_cut(form: str, char: str) -> None:
    """Before the journal does, which would make another entry of the rest (LineMax=48K)."""
    raw = configured(form)
    log.say("info", char * 10**4, {f"k{n}": char * 10**4 for n in range(100)})
    assert raw.getvalue().count(b"\n") == 1
    assert len(SGR.sub("", raw.getvalue().decode("utf-8")).encode()) < 44 * 1024
    assert b"event" in raw.getvalue() or form == "console"
    assert b"cut" in raw.getvalue()


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        pytest.param({"token": "hunter2"}, "token=***", id="by its name"),
        pytest.param({"routing_key": "hunter2"}, "routing_key=***", id="a key"),
        pytest.param({"Authorization": "hunter2"}, "Authorization=***", id="a header"),
        pytest.param({"secret_file": "/etc/s"}, "secret_file=/etc/s", id="where it is, is none"),
        pytest.param(
            {"why": "POST https://hooks.slack.com/services/T0/hunter2: 500"},
            'why="POST https://hooks.slack.com/*** 500"',
            id="in the path of a URL",
        ),
        pytest.param(
            {"to": "https://me:hunter2@host/"}, "to=https://host/***", id="a user in a URL"
        ),
        pytest.param({"to": "https://host?k=hunter2"}, "to=https://host/***", id="a query"),
        pytest.param({"to": "discord://1/hunter2"}, "to=discord://***", id="a chat's URL"),
        pytest.param({"to": "tgram://hunter2"}, "to=tgram://***", id="a token as the host"),
        pytest.param({"engine": "unix:///run/d.sock"}, "engine=unix:///run/d.sock", id="an engine"),
        pytest.param({"to": "http://am:9093"}, "to=http://am:9093", id="nothing to hide"),
    ],
)
def test_secrets_are_not_written(fields: dict[str, str], shown: str) -> None:
    raw = configured()
    log.say("info", "x", fields)
    (line,) = lines(raw)
    assert line.endswith(shown)
    assert "hunter2" not in line


def test_an_exception_is_two_fields() -> None:
    raw = configured()
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.logger().error("failed", exc_info=True)
    (line,) = lines(raw)
    assert r'error="ValueError: a\\x0ab"' in line
    assert 'at="test_log.py:' in line


def test_what_others_log_and_threads_that_die() -> None:
    raw = configured()
    logging.getLogger("urllib3").warning("retry\n%s", "later")
    logging.getLogger("urllib3").info("of no interest")
    (bridge,) = (h for h in logging.getLogger().handlers if isinstance(h, log._Bridge))
    bridge.emit(logging.LogRecord("x", logging.ERROR, "x", 1, "%d", ("no number",), None))
    thread = threading.Thread(target=lambda: 1 // 0, name="worker")  # type: ignore[arg-type]
    thread.start()
    thread.join()
    other, died = lines(raw)
    assert r"event=retry\x0alater" in other
    assert other.endswith("from=urllib3")
    assert "thread=worker" in died
    assert "ZeroDivisionError" in died


def test_configured_again_nothing_is_said_twice() -> None:
    configured()
    raw = configured("json")
    logging.getLogger("x").warning("once")
    log.say("info", "twice?", {})
    assert len(lines(raw)) == 2


def test_who_cannot_write_goes_on() -> None:
    full = io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)
    log.configure(Config(format="logfmt"), {}, full)
    log.say("error", "there is no room", {})
    full.close()
    log.say("error", "the stream is closed", {})


def test_a_narrow_stream_gets_escapes() -> None:
    raw = configured(encoding="ascii")
    log.say("info", "größe", {})
    assert rb"gr\xf6\xdfe" in raw.getvalue()


SAY = (
    "import os, sys\n"
    "from permdoctor.config import Log\n"
    "from permdoctor.daemon import log\n"
    "{setup}"
    "log.configure(Log(format='{form}', level='debug'), os.environ, sys.stderr)\n"
    "for level in log.PRIORITIES: log.say(level, 'said', {{'n': 1}})\n"
)
JOURNAL = "s = os.fstat(2)\nos.environ['JOURNAL_STREAM'] = f'{{s.st_dev}}:{{s.st_ino{more}}}'\n"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param("auto", "<4>level=warning event=said n=1", id="logfmt"),
        pytest.param("json", '<4>{"event": "said", "level": "warning", "n": 1}', id="json"),
    ],
)
def test_under_systemd(form: str, expected: str) -> None:
    """Priorities, and no time: the journal has both.  Only where stderr is the journal."""
    told = said(form, JOURNAL.format(more=""))
    assert [each[:3] for each in told] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert told[2] == expected


@pytest.mark.parametrize("setup", ["", JOURNAL.format(more=" + 1")], ids=["unset", "another's"])
def test_where_stderr_is_not_the_journal(setup: str) -> None:
    assert all(each.startswith("timestamp=") for each in said("auto", setup))


def said(form: str, setup: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SAY.format(form=form, setup=setup)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal(no_color: str) -> None:
    text = on_a_terminal(SAY.format(form="auto", setup=""), NO_COLOR=no_color)
    assert bool(SGR.search(text)) is not bool(no_color)
    first = SGR.sub("", text).splitlines()[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[debug +\] said +n=1", first)


def test_a_reader_that_stops_does_not_stop_the_service() -> None:
    """What it could not read is counted, and said when it reads again."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stderr, os.fdopen(reads, "rb", buffering=0) as reader:
        log.configure(Config(format="logfmt"), {}, stderr)
        begun = time.monotonic()
        for n in range(1000):
            log.say("info", "said", {"n": n, "text": "x" * 500})
        assert time.monotonic() - begun < 30, "one wait, not a thousand"
        told = reader.read(1 << 20).decode()
        log.say("info", "on", {})
        told += reader.read(1 << 20).decode()
    lines = told.splitlines()
    kept = [n for n in range(1000) if any(f" n={n} " in line for line in lines)]
    assert kept == list(range(len(kept)))
    assert 50 < len(kept) < 200, "as many as fit into a pipe"
    assert any("event=on" in line for line in lines)
    (lost,) = (line for line in lines if "log lines are lost" in line)
    assert f"number={1000 - len(kept)}" in lost


def test_half_a_line_is_a_line_of_its_own() -> None:
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 2 * select.PIPE_BUF)
    with os.fdopen(writes, "w") as stderr, os.fdopen(reads, "rb", buffering=0) as reader:
        log.configure(Config(format="logfmt"), {}, stderr)
        log.say("info", "first", {"text": "x" * 2000, "more": "y" * 1000})
        log.say("info", "half", {"a": "x" * 2000, "b": "y" * 2000, "c": "z" * 1000})
        told = reader.read(1 << 20).decode()
        log.say("info", "on", {})
        told += reader.read(1 << 20).decode()
    assert "event=half" in told, "some of it fitted"
    assert [line for line in told.splitlines() if line.endswith("event=on")]
    assert not [line for line in told.splitlines() if "event=half" in line and "event=on" in line]
