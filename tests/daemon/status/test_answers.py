"""What the status socket answers."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from permdoctor.alerts.counters import Counters
from permdoctor.daemon import shown
from permdoctor.daemon.shown import Filter
from permdoctor.diagnosis.report import Severity
from permdoctor.render import service as render
from permdoctor.render import service_json
from permdoctor.render.layout import plain
from tests.cli.process import CONTROL
from tests.daemon.asking import ask
from tests.daemon.states import NOW, container, engine, finding, state
from tests.daemon.status.served import FACTS, Serve, busy, validator
from tests.render.builders import HOSTILE

RENDER = Path(render.__file__).parent


def test_the_schema_that_ships_is_the_current_one() -> None:
    shipped = (RENDER / service_json.SCHEMA_FILE).read_text("utf-8")
    assert shipped == service_json.schema_text(), (
        "write service_json.schema_text() to render/service.schema.json"
    )


@pytest.mark.parametrize("what", ["/v1/status", "/v1/findings", "/v1/findings?ignored=1", "/v1/x"])
def test_every_answer_is_of_the_schema(serve: Serve, place: Path, what: str) -> None:
    serve()
    _, document, headers = ask(place / "s", what)
    validator().validate(document)
    assert headers["Cache-Control"] == "no-store"


def test_status(serve: Serve, place: Path) -> None:
    serve()
    _, document, _ = ask(place / "s", "/v1/status")
    assert document["kind"] == "status"
    assert document["findings"] == {"error": 1, "warning": 1, "info": 1, "ignored": 1}
    assert document["containers"] == {
        "running": 3,
        "down": 0,
        "unjudged": 1,
        "failing": 0,
        "left_out": 0,
    }
    assert document["started"] == "2027-01-15T07:00:00.000Z"
    assert document["sinks"][0] == {
        "name": "pager", "waiting": 2, "sent": 3, "failed": 0, "dropped": 1, "last_error": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tells_from", "told"),
    [(Severity.INFO, {"PD101", "PD201"}), (Severity.ERROR, {"PD101"}), (None, set())],
)
def test_nobody_was_told_where_nobody_listens(tells_from: Severity | None, told: set[str]) -> None:
    facts = replace(FACTS, tells_from=tells_from)
    answer = shown.findings(busy(), Filter(container="trainer"), facts, NOW)
    assert {f.code for f in answer.findings if f.told} == told


@pytest.mark.parametrize(
    ("query", "codes", "ignored"),
    [
        pytest.param("", ["PD101", "PD201", "PD302"], 1, id="all, the worst first"),
        pytest.param("?ignored=1", ["PD101", "PD201", "PD204", "PD302"], 0, id="ignored too"),
        pytest.param("?container=t*", ["PD101", "PD201"], 1, id="a glob"),
        pytest.param("?container=%5Bw%5D?b", ["PD302"], 0, id="another glob"),
        pytest.param("?code=pd201", ["PD201"], 0, id="a code"),
        pytest.param("?code=PD204", [], 1, id="an ignored one"),
        pytest.param("?container=none", [], 0, id="nobody"),
        pytest.param("?nonsense=1", ["PD101", "PD201", "PD302"], 1, id="an unknown parameter"),
    ],
)
def test_findings(serve: Serve, place: Path, query: str, codes: list[str], ignored: int) -> None:
    serve()
    _, document, _ = ask(place / "s", f"/v1/findings{query}")
    assert [f["code"] for f in document["findings"]] == codes
    assert document["ignored"] == ignored


def test_findings_are_bounded_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MOST_FINDINGS", 50)
    many = state(*(container(f"c{n}", *[finding()] * 10) for n in range(6)))
    document = shown.findings(many, Filter(), FACTS, NOW)
    assert (len(document.findings), document.left_out) == (50, 10)
    assert "10 more are not shown" in plain(render.findings(document))
    assert render.findings_exit(document, Severity.ERROR) == 1


@pytest.mark.parametrize(
    ("method", "what", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/findings/x", 404),
        ("GET", "/v1/check", 404),
        ("GET", "/v1/check/", 400),
        ("GET", "/v1/check/..%2f..%2fetc", 400),
        ("GET", "/v1/check/a%00b", 400),
        ("GET", "/v1/check/%C3%A4", 400),
        ("GET", "/v1/check/" + "x" * 256, 400),
        ("GET", "/v1/check/web?view=html", 400),
        ("GET", "/v1/check/web?width=19", 400),
        ("GET", "/v1/check/web?width=1e9", 400),
        ("GET", "/v1/check/web?width=99999", 400),
        ("POST", "/v1/check/web", 405),
        ("PUT", "/v1/status", 405),
        ("DELETE", "/v1/findings", 405),
    ],
)
def test_what_is_not_answered(
    serve: Serve, place: Path, method: str, what: str, status: int
) -> None:
    """And no check is made of it."""
    serve()
    assert ask(place / "s", what, method)[0] == status


def test_hostile_texts_stay_texts() -> None:
    text = HOSTILE.decode("utf-8", "surrogateescape")
    evil = finding(ignored="", title=text, detail=(text,), remedies=(text,), host_path=text)
    silent = finding("PD204", ignored=text, title=text)
    given = state(
        container(text, evil, silent, failed=text),
        engines=(engine(text, connected=False, why=text),),
    )
    facts = replace(FACTS, host=text, config_error=text, sinks={text: Counters(last_error=text)})
    status = shown.status(given, facts, NOW)
    found = shown.findings(given, Filter(ignored=True), facts, NOW)
    for document, lines in (
        (status, render.status(status, width=80)),
        (found, render.findings(found, width=80)),
    ):
        written = service_json.encode(document)
        assert CONTROL.search(written) is None
        assert service_json.decode(written.encode()) == document
        assert CONTROL.search(plain(lines)) is None


def test_a_later_service_may_say_more(serve: Serve, place: Path) -> None:
    document = json.loads(service_json.encode(shown.status(busy(), FACTS, NOW)))
    document["new"] = {"x": 1}
    answer = service_json.decode(json.dumps(document).encode())
    assert answer == shown.status(busy(), FACTS, NOW)


def test_globs_of_others_are_not_kept(serve: Serve, place: Path) -> None:
    serve()
    kept = fnmatch._compile_pattern.cache_info().currsize  # type: ignore[attr-defined]
    for n in range(3):
        status, document, _ = ask(place / "s", f"/v1/findings?container=train*{n or ''}")
        assert (status, document["containers"]) == (200, 0 if n else 1)
    assert fnmatch._compile_pattern.cache_info().currsize == kept  # type: ignore[attr-defined]
    status, document, _ = ask(place / "s", f"/v1/findings?container={'*' * 256}")
    assert (status, document["error"]) == (400, "container: longer than 255 characters")
