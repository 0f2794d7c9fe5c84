"""The status socket: who is let in, what is answered, what the commands make of it."""

from __future__ import annotations

import contextlib
import fnmatch
import http.client
import io
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import structlog
from msgspec.structs import replace

from permdoctor.alerts.counters import Counters
from permdoctor.app import service
from permdoctor.app.check import CheckRequest, check
from permdoctor.cli.run import run
from permdoctor.config import Log as LogConfig
from permdoctor.daemon import log, shown
from permdoctor.daemon.listener import listen
from permdoctor.daemon.shown import Facts, Filter
from permdoctor.daemon.state import State
from permdoctor.daemon.status import StatusServer
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import CannotCheckError, PermdoctorError, UsageError
from permdoctor.render import json as report_json
from permdoctor.render import service as render
from permdoctor.render import service_json
from permdoctor.render.layout import plain
from permdoctor.render.service_json import View
from tests.acceptance.test_rights import as_user
from tests.cli.process import CONTROL, NO_ENGINE
from tests.daemon.states import NOW, alert, container, engine, finding, state
from tests.lab.engine import Engine
from tests.lab.lab import Lab
from tests.render.builders import HOSTILE, broken, report, result

RENDER = Path(render.__file__).parent
USER, GROUP = 5000, 6000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FACTS = Facts(
    host="lab",
    started=NOW - 3600,
    sinks={"pager": Counters(sent=3, dropped=1)},
    waiting={"pager": 2},
)


def busy() -> State:
    return state(
        container("web", finding("PD302", Severity.INFO, title="New files belong to 33:33")),
        container(
            "trainer",
            finding("PD201", Severity.WARNING, "/data", title="/data: 3 entries", count=3),
            finding(remedies=("chown 1001:1001 /srv", "x"), detail=("owner 0:0",)),
            finding("PD204", Severity.WARNING, "/tmp", ignored="accepted by ops", title="open"),
        ),
        container("db", judged=False),
        firing=(alert(),),
        checking=1,
        watched=4,
    )


def broken_check(name: str, view: View) -> bytes:
    """What a worker answers."""
    one = broken()
    named = replace(one, container=replace(one.container, name=name))
    return service_json.checked(result(named), view)


def unexpected(name: str, view: View) -> bytes:
    raise AssertionError(name)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may search, unlike pytest's."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="pd-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def written() -> Iterator[io.BytesIO]:
    """What is logged."""
    raw = io.BytesIO()
    before = (list(logging.getLogger().handlers), threading.excepthook)
    log.configure(LogConfig(format="json"), {}, io.TextIOWrapper(raw, encoding="utf-8"))
    yield raw
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:], threading.excepthook = before


Serve = Callable[..., StatusServer]


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    """Start a server at ``place/s``."""
    started: list[StatusServer] = []

    def start(
        given: State | None = None,
        *,
        group: str = "",
        answer: Callable[[str, View], bytes] = unexpected,
        facts: Facts = FACTS,
        **more: Any,
    ) -> StatusServer:
        server = StatusServer(
            str(place / "s"), group, lambda: given or busy(), answer, lambda: facts, **more
        )
        server.start()
        started.append(server)
        return server

    yield start
    for each in started:
        each.close()


def ask(path: Path, what: str, method: str = "GET") -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    connection.sock.connect(str(path))
    connection.request(method, what)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(body) if is_json else body, dict(answer.headers)


# --- the socket ---


@as_root
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_it_is_born_with_its_mode_and_group(place: Path, umask: int) -> None:
    path = place / "made" / "s"
    before = os.umask(umask)
    try:
        listener = listen(str(path), str(GROUP))
        assert os.umask(umask) == umask, "the process's own is not touched"
    finally:
        os.umask(before)
    status = path.lstat()
    listener.close()
    assert stat.S_ISSOCK(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o660, 0, GROUP)
    assert stat.S_IMODE((place / "made").stat().st_mode) == 0o755
    (place / "file").touch()
    assert (place / "file").stat().st_gid == os.getgid(), "nor its group for new files"


def test_one_that_nobody_listens_at_is_replaced(place: Path) -> None:
    path = str(place / "s")
    listen(path, "").close()
    assert not ask_connect(path)
    with contextlib.closing(listen(path, "")):
        assert ask_connect(path)


def ask_connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def test_one_that_somebody_listens_at_is_left_alone(serve: Serve, place: Path) -> None:
    serve()
    with pytest.raises(CannotCheckError, match=r"somebody listens at .*/s already"):
        listen(str(place / "s"), "")
    assert ask(place / "s", "/v1/status")[0] == 200


@pytest.mark.parametrize("kind", ["a file", "a link to a socket", "a dangling link", "a directory"])
def test_what_is_no_socket_is_left_as_it_is(place: Path, kind: str) -> None:
    path, target = place / "s", place / "target"
    match kind:
        case "a file":
            path.write_text("mine")
        case "a directory":
            path.mkdir()
        case "a dangling link":
            path.symlink_to(target)
        case _:
            listen(str(target), "").close()
            path.symlink_to(target)
    before = path.lstat()
    with pytest.raises(UsageError, match="is no socket; it is left as it is"):
        listen(str(path), "")
    assert path.lstat() == before
    assert target.exists() is (kind == "a link to a socket")


@pytest.mark.parametrize(
    ("path", "group", "message"),
    [
        pytest.param("s", "no-such-group", "there is no group no-such-group", id="group"),
        pytest.param("x" * 200, "", "is longer than 107 bytes", id="long"),
        pytest.param("open/s", "", "others than root may write in", id="open directory"),
        pytest.param("none/of/s", "", "cannot listen at .*: No such file", id="no directory"),
    ],
)
def test_where_it_cannot_be(place: Path, path: str, group: str, message: str) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with pytest.raises(PermdoctorError, match=message) as raised:
        listen(str(place / path), group)
    assert raised.value.hint
    assert sorted(os.listdir(place)) == ["open"]


@as_root
def test_a_group_that_we_may_not_give(place: Path) -> None:
    """Without CAP_SETGID; the service's own group goes without."""
    mine = place / "mine"
    mine.mkdir()
    os.chown(mine, USER, USER)

    def bind(group: int) -> int:
        with contextlib.closing(listen(str(mine / "s"), str(group))):
            return os.lstat(mine / "s").st_gid

    with pytest.raises(CannotCheckError, match="CAP_SETGID") as raised:
        as_user(USER, USER, lambda: bind(GROUP))
    assert "systemd drop-in --write" in (raised.value.hint or "")
    assert os.listdir(mine) == []
    assert as_user(USER, USER, lambda: bind(USER)) == USER


def test_it_is_removed_at_the_end_if_it_is_ours(serve: Serve, place: Path) -> None:
    server = serve()
    server.close()
    assert os.listdir(place) == []
    server = serve()
    (place / "s").unlink()
    with contextlib.closing(listen(str(place / "s"), "")):
        server.close()
        assert ask_connect(str(place / "s"))


@as_root
@pytest.mark.parametrize(
    ("gid", "group", "let_in"),
    [
        pytest.param(GROUP, str(GROUP), True, id="in the group"),
        pytest.param(USER, str(GROUP), False, id="in another"),
        pytest.param(GROUP, "", False, id="no group is set"),
    ],
)
def test_who_is_let_in(serve: Serve, place: Path, gid: int, group: str, let_in: bool) -> None:
    serve(group=group)
    assert as_user(USER, gid, lambda: ask_connect(str(place / "s"))) is let_in


# --- what it answers ---


def test_the_schema_that_ships_is_the_current_one() -> None:
    shipped = (RENDER / service_json.SCHEMA_FILE).read_text("utf-8")
    assert shipped == service_json.schema_text(), (
        "write service_json.schema_text() to render/service.schema.json"
    )


@pytest.mark.parametrize("what", ["/v1/status", "/v1/findings", "/v1/findings?ignored=1", "/v1/x"])
def test_every_answer_is_of_the_schema(serve: Serve, place: Path, what: str) -> None:
    serve()
    _, document, headers = ask(place / "s", what)
    jsonschema.validate(document, service_json.schema())
    assert headers["Cache-Control"] == "no-store"


def test_status(serve: Serve, place: Path) -> None:
    serve()
    _, document, _ = ask(place / "s", "/v1/status")
    assert document["kind"] == "status"
    assert document["findings"] == {"error": 1, "warning": 1, "info": 1, "ignored": 1}
    assert document["containers"] == {"running": 3, "unjudged": 1, "failing": 0, "left_out": 0}
    assert document["started"] == "2027-01-15T07:00:00.000Z"
    assert document["sinks"][0] == {
        "name": "pager", "waiting": 2, "sent": 3, "failed": 0, "dropped": 1, "last_error": ""
    }  # fmt: skip


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


def test_findings_are_bounded_and_say_so() -> None:
    many = state(*(container(f"c{n}", *[finding()] * 100) for n in range(60)))
    document = shown.findings(many, Filter(), FACTS, NOW)
    assert (len(document.findings), document.left_out) == (5000, 1000)
    assert "1,000 more are not shown" in plain(render.findings(document))
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


# --- a check that the service makes ---


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
            release.wait(10)
        return broken_check(name, view)

    serve(answer=answer, check_seconds=0.1)
    begun = time.monotonic()
    assert ask(place / "s", "/v1/check/hang1")[0] == 504
    assert ask(place / "s", "/v1/check/trainer")[0] == 200
    assert ask(place / "s", "/v1/check/hang2")[0] == 504
    busy_now, _, headers = ask(place / "s", "/v1/check/trainer")
    assert (busy_now, headers["Retry-After"]) == (503, "1")
    assert ask(place / "s", "/v1/status")[0] == 200
    assert time.monotonic() - begun < 2
    release.set()
    while ask(place / "s", "/v1/check/trainer")[0] == 503:
        assert time.monotonic() - begun < 5
    assert ask(place / "s", "/v1/check/trainer")[0] == 200


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


def test_globs_of_others_are_not_kept(serve: Serve, place: Path) -> None:
    serve()
    kept = fnmatch._compile_pattern.cache_info().currsize  # type: ignore[attr-defined]
    for n in range(3):
        status, document, _ = ask(place / "s", f"/v1/findings?container=train*{n or ''}")
        assert (status, document["containers"]) == (200, 0 if n else 1)
    assert fnmatch._compile_pattern.cache_info().currsize == kept  # type: ignore[attr-defined]
    status, document, _ = ask(place / "s", f"/v1/findings?container={'*' * 256}")
    assert (status, document["error"]) == (400, "container: longer than 255 characters")


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


# --- the commands ---

Done = tuple[int, str, str]


def command(*args: str) -> Done:
    """permdoctor in this process: status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(list(args))
    return status, out.getvalue(), err.getvalue()


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
    facts = replace(FACTS, config_error="x.toml:3: no such key", sinks={
        "pager": Counters(last_error="401")
    })  # fmt: skip
    serve(away, facts=facts)
    status, out, _ = command("status", "--socket", str(place / "s"))
    assert status == 3
    assert out.splitlines()[0].split(", since")[0].endswith(": in trouble")
    assert out.splitlines()[1:4] == [
        "  the configuration is not in force: x.toml:3: no such key",
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
    jsonschema.validate(document, service_json.schema())
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


# --- check, for who has not the rights ---


@pytest.fixture
def config(place: Path) -> str:
    file = place / "c.toml"
    file.write_text(f'[service]\nsocket = "{place}/s"\n[engines]\nhosts = ["{NO_ENGINE}"]\n')
    return str(file)


@as_root
@pytest.mark.parametrize("form", ["table", "explain", "json"])
def test_check_asks_the_service(serve: Serve, config: str, form: str) -> None:
    serve(answer=broken_check, group=str(GROUP))
    args = ("check", "trainer", "--config", config, "--format", form)
    assert command(*args)[0] == 3, "root looks itself"
    with contextlib.suppress(PermdoctorError):
        service.checked(config, "x", View())
    status, out, err = as_user(USER, GROUP, lambda: command(*args))
    assert err == f"permdoctor: uid {USER} may not look itself: this is the service's answer\n"
    assert status == 1
    direct = service_json.checked(result(broken()), View(form=form))  # type: ignore[arg-type]
    if form == "json":
        assert out == direct.decode()
    else:
        document = service_json.decode(direct)
        assert isinstance(document, service_json.doc.ViewDoc)
        assert out == plain(service_json.lines_of(document))
        assert "PD101" in out


@as_root
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--need", "/x=read"), id="a need of its own"),
        pytest.param(("--deep",), id="deep"),
        pytest.param(("--host", NO_ENGINE), id="another engine"),
    ],
)
def test_what_the_service_does_not_know_is_not_asked(
    serve: Serve, config: str, more: tuple[str, ...]
) -> None:
    serve(group=str(GROUP))
    args = ("check", "trainer", *more, "--config", config)
    command(*args)
    status, out, err = as_user(USER, GROUP, lambda: command(*args))
    assert status == 3
    assert "service" not in out + err


@as_root
def test_check_asks_the_service_for_each_of_several(serve: Serve, config: str) -> None:
    def answer(name: str, view: View) -> bytes:
        if name == "nosuch":
            raise UsageError("no container is called nosuch", hint="trainer")
        return broken_check(name, view)

    serve(answer=answer, group=str(GROUP))
    args = ("check", "trainer", "nosuch", "trainer", "--config", config)
    command(*args, "--format", "json")
    status, out, err = as_user(USER, GROUP, lambda: command(*args, "--format", "json"))
    document = json.loads(out)
    jsonschema.validate(document, report_json.schema())
    assert [r["container"]["name"] for r in document["reports"]] == ["trainer", "trainer"]
    assert "no container is called nosuch" in err
    assert status == 1
    status, out, _ = as_user(USER, GROUP, lambda: command(*args))
    assert (status, out.count("error PD101")) == (1, 2)
    alone = ("check", "nosuch", "--config", config)
    status, out, err = as_user(USER, GROUP, lambda: command(*alone))
    assert (status, out) == (2, "")
    assert err.startswith("permdoctor: no container is called nosuch\n")


@as_root
@pytest.mark.parametrize("served", [False, True], ids=["does not run", "not in the group"])
def test_without_the_service_the_refusal_is_as_before(
    serve: Serve, config: str, served: bool
) -> None:
    if served:
        serve(group=str(GROUP))
    args = ("check", "trainer", "--config", config)
    as_root_sees = command(*args)
    assert as_user(USER, USER, lambda: command(*args)) == as_root_sees


@pytest.mark.engine
def test_the_same_result_as_root_s(lab: Lab, dockerd: Engine, serve: Serve, place: Path) -> None:
    """A user of the engine cannot look into containers; the service can."""
    model = lab.directory(0, 0, 0o755)
    box = dockerd.run("-u", "1001:1001", "-v", f"{model}:/app/model", name="asked")
    (place / "c.toml").write_text(
        f'[service]\nsocket = "{place}/s"\n[engines]\nhosts = ["{dockerd.host}"]\n'
    )
    args = ("check", "asked", "--config", str(place / "c.toml"))

    def answer(name: str, view: View) -> bytes:
        request = CheckRequest(names=(name,), hosts=(dockerd.host,))
        return service_json.checked(check(request), view)

    group = os.stat(dockerd.socket).st_gid
    try:
        root_sees = command(*args)
        alone = as_user(USER, group, lambda: command(*args))
        serve(answer=answer, group=str(group))
        asked = as_user(USER, group, lambda: command(*args))
    finally:
        box.rm()
    assert root_sees[0] == 1
    assert alone[1].startswith("asked: not judged")
    assert asked[:2] == root_sees[:2]


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
