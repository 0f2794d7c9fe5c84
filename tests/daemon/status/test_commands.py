"""`permdoctor status` and `findings`: what the commands make of the answers."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from permdoctor.alerts.counters import Counters
from permdoctor.app import service
from permdoctor.daemon import shown
from permdoctor.daemon.listener import listen
from permdoctor.daemon.shown import Filter
from permdoctor.daemon.state import State
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import CannotCheckError
from permdoctor.render import service as render
from permdoctor.render.layout import plain
from tests.acceptance.test_rights import as_user
from tests.daemon.states import NOW, container, engine, finding, state
from tests.daemon.status.served import FACTS, GROUP, USER, Serve, as_root, busy, command, validator


def test_status_for_a_person(serve: Serve, place: Path) -> None:
    serve()
    status, out, err = command("status", "--socket", str(place / "s"))
    lines = out.splitlines()
    assert (status, err) == (1, "")
    assert lines[0].endswith(" on lab: works, since 2027-01-15T07:00:00.000Z")
    assert "  containers  3 running, 1 not judged yet" in lines
    assert "  findings    1 error, 1 warning, 1 info (1 ignored)" in lines
    assert any(x.startswith("    unix:///run/docker.sock  connected  since ") for x in lines)
    assert "    pager  works  3 sent, 2 waiting, 1 dropped" in lines


def test_trouble_comes_first(serve: Serve, place: Path) -> None:
    away = state(engines=(engine(connected=False, why="the stream ended"),))
    facts = replace(
        FACTS,
        config_error="x.toml:3: no such key",
        troubles=("2 alerts cannot be kept: the disk is full",),
        sinks={"pager": Counters(last_error="401")},
    )
    serve(away, facts=facts)
    status, out, _ = command("status", "--socket", str(place / "s"))
    assert status == 3
    assert out.splitlines()[0].split(", since")[0].endswith(": in trouble")
    assert out.splitlines()[1:5] == [
        "  the configuration is not in force: x.toml:3: no such key",
        "  2 alerts cannot be kept: the disk is full",
        "  unix:///run/docker.sock does not answer: the stream ended",
        "  alerts to pager fail: 401",
    ]


def test_findings_for_a_person(serve: Serve, place: Path) -> None:
    serve()
    status, out, _ = command("findings", "--socket", str(place / "s"), "--container", "t*")
    assert status == 1
    assert out == (
        "trainer\n"
        "  error PD101 /app/model: 1001:1001 cannot write here\n"
        "    for 0 s, since 2027-01-15 07:59:00 UTC, people were told\n"
        "    -> chown 1001:1001 /srv\n"
        "  warning PD201 /data: 3 entries\n"
        "    for 0 s, since 2027-01-15 07:59:00 UTC, people were told, 3 entries\n"
        "1 ignored (--ignored shows them)\n"
    )
    _, out, _ = command("findings", "--socket", str(place / "s"), "--ignored", "--code", "PD204")
    assert "  warning PD204 open\n    ignored: accepted by ops\n" in out
    later = shown.findings(busy(), Filter(), FACTS, NOW + 7200)
    assert "    for 2 h, since 2027-01-15 07:59:00 UTC" in plain(render.findings(later))
    _, out, _ = command("findings", "--socket", str(place / "s"))
    assert "1 info not shown (-v), 1 ignored (--ignored shows them)" in out.splitlines()
    assert "PD302" not in out
    assert "PD302" in command("findings", "-v", "--socket", str(place / "s"))[1]
    assert "PD302" in command("findings", "--code", "PD302", "--socket", str(place / "s"))[1]


@pytest.mark.parametrize(
    ("given", "least", "status"),
    [
        pytest.param(state(container("a")), "info", 0, id="nothing"),
        pytest.param(state(container("a", finding())), "error", 1, id="an error"),
        pytest.param(
            state(container("a", finding("PD201", Severity.WARNING))), "error", 0, id="milder"
        ),
        pytest.param(
            state(container("a", finding("PD201", Severity.WARNING))), "warning", 1, id="asked for"
        ),
        pytest.param(state(container("a", finding(ignored="x"))), "info", 0, id="ignored"),
        pytest.param(state(container("a", judged=False)), "error", 3, id="not judged"),
        pytest.param(state(container("a", failed="it hangs")), "error", 3, id="cannot be judged"),
        pytest.param(
            state(container("a"), engines=(engine(connected=False),)), "error", 3, id="away"
        ),
        pytest.param(
            state(container("a", finding()), container("b", failed="x")), "error", 1, id="both"
        ),
    ],
)
def test_exit_status(given: State, least: str, status: int) -> None:
    severity = Severity[least.upper()]
    found = shown.findings(given, Filter(ignored=True), FACTS, NOW)
    assert render.findings_exit(found, severity) == status
    assert render.status_exit(shown.status(given, FACTS, NOW), severity) == status


def test_nothing_found(serve: Serve, place: Path) -> None:
    serve(state(container("a"), container("b")))
    assert command("findings", "--socket", str(place / "s")) == (
        0, "nothing found in 2 containers\n", ""
    )  # fmt: skip


def test_nothing_found_yet_is_not_nothing_found(serve: Serve, place: Path) -> None:
    why = "unix:///run/docker.sock: no such socket"
    serve(state(container("a", judged=False), engines=(engine(connected=False, why=why),)))
    status, out, _ = command("findings", "--socket", str(place / "s"))
    assert status == 3
    assert out.splitlines() == [
        "nothing found in 1 container so far",
        "a: not judged: it has just started",
        "unix:///run/docker.sock does not answer: nothing newer is known of it",
    ]
    assert command("status", "--socket", str(place / "s"))[1].splitlines()[1] == f"  {why}"


@pytest.mark.parametrize("what", ["status", "findings"])
def test_json(serve: Serve, place: Path, what: str) -> None:
    serve()
    status, out, _ = command(what, "--socket", str(place / "s"), "--format", "json")
    document = json.loads(out)
    validator().validate(document)
    assert (status, document["kind"]) == (1, what)


def test_a_wrong_code(serve: Serve, place: Path) -> None:
    status, _, err = command("findings", "--code", "PD999")
    assert status == 2
    assert "'PD999' is no code" in err


def test_where_nobody_answers(place: Path) -> None:
    path = str(place / "s")
    assert command("status", "--socket", path)[0] == 3
    assert "the service does not run: " in command("status", "--socket", path)[2]
    listen(path, "").close()
    status, _, err = command("findings", "--socket", path)
    assert status == 3
    assert err.splitlines()[0] == (
        f"permdoctor: the service does not run: nobody listens at {path}"
    )
    (place / "file").touch()
    assert command("status", "--socket", str(place / "file"))[0] == 3


def test_who_asks_waits_for_its_turn(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more want to connect than the listener keeps: not an error at once."""
    monkeypatch.setattr(service, "SECONDS", 0.3)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(place / "s"))
        listener.listen(0)
        other.connect(str(place / "s"))
        begun = time.monotonic()
        with pytest.raises(CannotCheckError, match="has not answered within"):
            service.status(str(place / "s"))
    assert time.monotonic() - begun >= 0.3


def test_where_the_service_has_no_socket(place: Path) -> None:
    config = place / "c.toml"
    config.write_text('[service]\nsocket = ""\n')
    status, _, err = command("status", "--config", str(config))
    assert status == 2
    assert "service.socket is empty" in err


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n{}", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\n\xff"]
)
def test_what_answers_nonsense(place: Path, answer: bytes) -> None:
    path = str(place / "s")
    listener = listen(path, "")

    def once() -> None:
        client, _ = listener.accept()
        client.recv(4096)
        client.sendall(answer)
        client.close()

    thread = threading.Thread(target=once)
    thread.start()
    status, out, err = command("status", "--socket", path)
    thread.join()
    listener.close()
    assert (status, out) == (3, "")
    assert "cannot be understood" in err


@as_root
def test_who_may_not_ask_is_told_which_group(serve: Serve, place: Path) -> None:
    path = str(place / "s")
    command("status", "--socket", path)  # imports what a user could not
    server = serve(group=str(GROUP))
    status, _, err = as_user(USER, USER, lambda: command("status", "--socket", path))
    assert status == 3
    assert err.splitlines() == [
        f"permdoctor: you may not ask the service at {path}",
        f"  hint: root may, and the group {GROUP}: usermod -aG {GROUP} USER",
    ]
    server.close()
    serve()
    _, _, err = as_user(USER, USER, lambda: command("status", "--socket", path))
    assert "service.socket_group" in err


@as_root
def test_another_user_s_socket_is_not_believed(place: Path) -> None:
    (place / "theirs").mkdir()
    os.chown(place / "theirs", USER, USER)
    path = str(place / "theirs" / "s")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(USER, USER, USER)
        with listen(path, ""):
            os.write(write, b".")
            time.sleep(5)
        os._exit(0)
    os.read(read, 1)
    try:
        with pytest.raises(CannotCheckError, match=f"uid {USER} listens there"):
            service.status(path)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
