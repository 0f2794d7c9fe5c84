"""Checks that somebody asks for at the status socket."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import jsonschema
import msgspec
import pytest

from permdoctor.app import service
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import CannotCheckError, PermdoctorError, UsageError
from permdoctor.render import json as report_json
from permdoctor.render import service as render
from permdoctor.render import service_json
from permdoctor.render.layout import plain
from permdoctor.render.service_json import View
from tests.acceptance.test_rights import as_user
from tests.daemon.asking import ask
from tests.daemon.status.served import GROUP, USER, Serve, as_root, broken_check
from tests.lab.patience import until, within
from tests.render.builders import broken, report, result


def test_a_check_is_the_check_s_own_document(serve: Serve, place: Path) -> None:
    serve(answer=broken_check)
    status, document, _ = ask(place / "s", "/v1/check/trainer")
    assert status == 200
    jsonschema.validate(document, report_json.schema())
    assert document == json.loads(report_json.check_json(result(broken())))


def test_name_and_view_arrive(serve: Serve, place: Path) -> None:
    asked: list[tuple[str, View]] = []

    def answer(name: str, view: View) -> bytes:
        asked.append((name, view))
        return broken_check(name, view)

    serve(answer=answer)
    ask(place / "s", "/v1/check/my-web_1.x?view=table&verbose=1&width=72")
    assert asked == [("my-web_1.x", View(form="table", verbose=True, width=72))]


@pytest.mark.parametrize(
    ("raised", "status", "usage"),
    [
        pytest.param(UsageError("no container is called x", hint="y"), 404, True, id="unknown"),
        pytest.param(CannotCheckError("the engine is down"), 502, False, id="no engine"),
    ],
)
def test_a_check_that_fails(
    serve: Serve, place: Path, raised: PermdoctorError, status: int, usage: bool
) -> None:
    def answer(name: str, view: View) -> bytes:
        raise raised

    serve(answer=answer)
    got, document, _ = ask(place / "s", "/v1/check/x")
    assert (got, document["error"], document["usage"]) == (status, raised.message, usage)
    with pytest.raises(type(raised), match=raised.message):
        service.checked(str(place / "s"), "x", View())


def test_a_check_that_hangs_delays_nobody(serve: Serve, place: Path) -> None:
    """Its client is told; its place stays taken until it comes back."""
    release = threading.Event()

    def answer(name: str, view: View) -> bytes:
        if name.startswith("hang"):
            release.wait(60)
        return broken_check(name, view)

    serve(answer=answer, check_seconds=0.1)
    with within(40):
        assert ask(place / "s", "/v1/check/hang1")[0] == 504
        assert ask(place / "s", "/v1/check/trainer")[0] == 200
        assert ask(place / "s", "/v1/check/hang2")[0] == 504
        busy_now, _, headers = ask(place / "s", "/v1/check/trainer")
        assert (busy_now, headers["Retry-After"]) == (503, "1")
        assert ask(place / "s", "/v1/status")[0] == 200
    release.set()
    until(lambda: ask(place / "s", "/v1/check/trainer")[0] == 200)


def test_a_check_that_can_have_no_thread_keeps_no_place(
    serve: Serve, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Thread(threading.Thread):
        def start(self) -> None:
            if self.name == "permdoctor-asked":
                raise RuntimeError("can't start new thread")
            super().start()

    serve(answer=broken_check)
    with monkeypatch.context() as short:
        short.setattr(threading, "Thread", Thread)
        refused = [ask(place / "s", "/v1/check/trainer") for _ in range(3)]
    assert [status for status, _, _ in refused] == [503] * 3
    assert "threads" in refused[2][1]["error"]
    assert ask(place / "s", "/v1/check/trainer")[0] == 200


@as_root
def test_each_user_may_ask_so_often(serve: Serve, place: Path) -> None:
    now = 0.0
    serve(answer=broken_check, group=str(GROUP), clock=lambda: now)

    def one() -> int:
        return ask(place / "s", "/v1/check/trainer")[0]

    def many() -> list[int]:
        return [one() for _ in range(32)]

    assert as_user(USER, GROUP, many) == [200] * 30 + [429] * 2
    assert one() == 200, "root is another user"
    status, _, headers = as_user(USER, GROUP, lambda: ask(place / "s", "/v1/check/trainer"))
    assert (status, headers["Retry-After"]) == (429, "2")
    now = 2.0
    assert as_user(USER, GROUP, one) == 200


@as_root
def test_who_asked_is_logged(serve: Serve, place: Path, written: io.BytesIO) -> None:
    serve(answer=broken_check, group=str(GROUP))
    as_user(USER, GROUP, lambda: ask(place / "s", "/v1/check/trainer")[0])
    (line,) = written.getvalue().splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["container"]) == ("check asked for", "trainer")
    assert (logged["uid"], logged["pid"] > 1) == (USER, True)


def test_a_check_that_found_nothing() -> None:
    fine = result(report())
    for view in (View(), View(form="table")):
        answer = service_json.decode(service_json.checked(fine, view))
        assert isinstance(answer, service_json.doc.ViewDoc | service_json.CheckDoc)
        assert render.check_exit(answer, Severity.ERROR) == 0
        doubtful = service_json.checked(result(report(judged=False)), view)
        answer = service_json.decode(doubtful)
        assert isinstance(answer, service_json.doc.ViewDoc | service_json.CheckDoc)
        assert render.check_exit(answer, Severity.ERROR) == 3


def test_lines_of_a_view_are_escaped_again() -> None:
    """The terminal is protected from whoever answers."""
    span = service_json.doc.SpanDoc(text="\x1b[31m\nred", style="no such style")
    line = service_json.doc.LineDoc(spans=[span], indent=0, hang=0, verbatim=True)
    view = service_json.doc.ViewDoc(
        schema="permdoctor-service/1", version="9", worst=None, complete=True, lines=[line]
    )
    assert plain(service_json.lines_of(view)) == "\\x1b[31m\\x0ared\n"
    with pytest.raises(msgspec.ValidationError):
        service_json.decode(b'{"kind": "status"}')
