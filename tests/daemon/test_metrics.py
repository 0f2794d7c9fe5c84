"""Metrics: what they say, that they stay bounded, and how they are served."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from permdoctor.alerts.counters import Counters
from permdoctor.daemon.events import ContainerRef, Repaired
from permdoctor.daemon.exporter import MetricsServer, remove_textfile, write_textfile
from permdoctor.daemon.health import Health
from permdoctor.daemon.http import Answer, Request, Server
from permdoctor.daemon.metrics import Metrics
from permdoctor.daemon.state import State
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import CannotCheckError, PermdoctorError
from tests.daemon.states import NOW, alert, container, engine, finding, state
from tests.lab.needs import MissingError, need_tools
from tests.lab.patience import Patience, until
from tests.render.builders import HOSTILE

ROOT = Path(__file__).parent.parent.parent
Series = dict[tuple[str, ...], float]


def values(metrics: Metrics, name: str) -> Series:
    """By the values of the labels, in the order of their names."""
    families = text_string_to_metric_families(metrics.text().decode("utf-8"))
    samples = [s for f in families for s in f.samples if s.name == f"permdoctor_{name}"]
    found = {tuple(v for _, v in sorted(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples), "a series twice: Prometheus would refuse them all"
    return found


def value(metrics: Metrics, name: str) -> float:
    ((labels, number),) = values(metrics, name).items()
    assert labels == ()
    return number


def full() -> Metrics:
    """Everything that there can be."""
    metrics = Metrics()
    metrics.observe(
        state(
            container("trainer", finding(), finding("PD201", Severity.WARNING)),
            container("web", finding("PD302", Severity.INFO, ignored="known")),
            engines=(engine(), engine("tcp://h:1", connected=False, swept=None)),
            firing=(alert(),),
        )
    )
    metrics.checked(0.2, True)
    metrics.checked(70.0, False)
    metrics.queue(3)
    metrics.watching(120, fallback=False)
    metrics.reloaded(True, NOW)
    metrics.repaired(repaired(applied=7))
    metrics.alerts({"pager": Counters(sent=2, failed=1, last_error="500")}, {"pager": 4})
    return metrics


def repaired(**more: object) -> Repaired:
    ref = ContainerRef(engine="e", id="c")
    return Repaired(number=1, ref=ref, path=b"/srv", **more)  # type: ignore[arg-type]


def test_findings() -> None:
    metrics = Metrics()
    ignored = finding("PD201", Severity.WARNING, ignored="accepted")
    metrics.observe(state(container("a", finding(), finding(), ignored), container("b", finding())))
    assert values(metrics, "findings") == {
        ("PD101", "a", "error", "/app/model"): 2,
        ("PD101", "b", "error", "/app/model"): 1,
    }
    assert values(metrics, "findings_ignored") == {("PD201", "warning"): 1}
    metrics.observe(state(container("a"), container("b")))
    assert values(metrics, "findings") == {}


def test_two_containers_of_one_name_are_one_series() -> None:
    metrics = Metrics()
    metrics.observe(state(container("a", finding()), container("a", finding())))
    assert list(values(metrics, "findings").values()) == [2]


def test_too_many_series_collapse_and_the_first_stay() -> None:
    metrics = Metrics(limit=10)
    metrics.observe(state(*(container(f"old{n}", finding()) for n in range(8))))
    assert len(values(metrics, "findings")) == 8
    many = [container(f"a{n}", finding(target=f"/t{n}")) for n in range(100)]
    old = [container(f"old{n}", finding()) for n in range(8)]
    metrics.observe(state(*many, *old))
    found = values(metrics, "findings")
    assert sum(found.values()) == 108
    assert len(found) == 11
    assert found["PD101", "other", "error", ""] == 98
    assert all(found["PD101", f"old{n}", "error", "/app/model"] == 1 for n in range(8))
    assert value(metrics, "findings_collapsed_series") == 98
    metrics.observe(state(*many[:5]))
    assert value(metrics, "findings_collapsed_series") == 0
    assert len(values(metrics, "findings")) == 5


def test_hostile_labels() -> None:
    """Of any length, with anything in them: the text stays valid, and no series comes twice."""
    text = HOSTILE.decode("utf-8", "surrogateescape")
    long = [container("x" * 1000 + str(n), finding(target="/" + text)) for n in range(2)]
    metrics = Metrics()
    hostile = replace(container("c", finding()), name=text)
    metrics.observe(state(hostile, *long, engines=(engine(text), engine("e" * 2000))))
    assert sum(values(metrics, "findings").values()) == 3
    assert max(len(each) for each in metrics.text().decode().splitlines()) < 1500
    assert len(values(metrics, "engine_connected")) == 2


def test_no_id_and_no_file_name_is_shown() -> None:
    found = finding(host_path="/srv/private", detail=("secret.txt",), remedies=("chown x",))
    metrics = Metrics()
    one = container("a", found)
    metrics.observe(state(one))
    text = metrics.text().decode()
    for absent in (one.ref.id, one.ref.id[:12], "/srv/private", "secret.txt", "chown"):
        assert absent not in text


def test_engines_and_sweeps() -> None:
    metrics = full()
    connected = {("unix:///run/docker.sock",): 1.0, ("tcp://h:1",): 0.0}
    assert values(metrics, "engine_connected") == connected
    swept = {("unix:///run/docker.sock",): NOW - 100}
    assert values(metrics, "last_sweep_timestamp_seconds") == swept


def test_what_is_counted() -> None:
    metrics = full()
    metrics.repaired(repaired())
    metrics.repaired(repaired(applied=2, failed="the disk is full"))
    assert value(metrics, "checks_total") == 2
    assert value(metrics, "check_failures_total") == 1
    assert values(metrics, "check_duration_seconds_bucket")[("0.25",)] == 1
    assert values(metrics, "repairs_total") == {("applied",): 1, ("nothing",): 1, ("failed",): 1}
    assert value(metrics, "repaired_entries_total") == 9
    assert values(metrics, "alerts_sent_total") == {("pager",): 2}
    assert values(metrics, "alerts_waiting") == {("pager",): 4}
    assert values(metrics, "alerts_failing") == {("pager",): 1}
    assert values(metrics, "alerts_firing") == {("error",): 1, ("warning",): 0, ("info",): 0}
    assert value(metrics, "queue_length") == 3


def test_a_reload_that_failed_keeps_the_time_of_the_last_good_one() -> None:
    metrics = full()
    metrics.reloaded(False, NOW + 100)
    assert value(metrics, "config_last_reload_successful") == 0
    assert value(metrics, "config_last_reload_success_timestamp_seconds") == NOW


def test_before_anything_is_known() -> None:
    """No engine is away, nothing is swept: it is not known."""
    metrics = Metrics()
    assert values(metrics, "engine_connected") == {}
    assert values(metrics, "findings") == {}
    assert value(metrics, "queue_length") == 0


def test_promtool_finds_nothing_to_say() -> None:
    need("promtool")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=full().text(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_without_prometheus_client_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from permdoctor.daemon.metrics import Metrics\n"
        "from permdoctor.errors import UsageError\n"
        "try: Metrics()\n"
        "except UsageError as e: print(e.message); print(e.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    message, hint = done.stdout.splitlines()
    assert message == "metrics need prometheus-client, which is not installed"
    assert "pip install 'permdoctor[service]'" in hint


def test_it_is_imported_by_nobody_else() -> None:
    code = (
        "import sys; import permdoctor.daemon.metrics, permdoctor.daemon.status, "
        "permdoctor.daemon.log\n"
        "print(sorted({'prometheus_client', 'structlog', 'rich', 'docker'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


# --- the file for node_exporter ---


def test_the_file_is_whole_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "permdoctor.prom"
    path.write_text("old")
    before = os.umask(0o077)
    try:
        write_textfile(str(path), full())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_bytes() == full().text(process=False)
    assert b"\nprocess_" not in path.read_bytes(), "node_exporter would refuse its own"
    assert os.listdir(tmp_path) == ["permdoctor.prom"]
    remove_textfile(str(path))
    assert os.listdir(tmp_path) == []


def test_the_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "permdoctor.prom"
    path.symlink_to(victim)
    (tmp_path / f".permdoctor.prom.{os.getpid()}").symlink_to(victim)
    write_textfile(str(path), Metrics())
    assert victim.read_text() == "mine"
    assert not path.is_symlink()


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CannotCheckError, match="No such file or directory") as raised:
        write_textfile(str(tmp_path / "none" / "x.prom"), Metrics())
    assert "metrics.textfile" in (raised.value.hint or "")


# --- health ---


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param(State(), "no engine has answered yet", id="at the start"),
        pytest.param(state(container()), "", id="everything judged"),
        pytest.param(
            state(container(judged=False)), "the first sweep is not done", id="one not judged"
        ),
        pytest.param(
            state(container(judged=False, failed="it hangs")), "", id="one that cannot be judged"
        ),
        pytest.param(
            state(engines=(engine(), engine("tcp://h:1", connected=False))),
            "1 of 2 engines not connected",
            id="an engine away",
        ),
        pytest.param(state(engines=(engine(swept=None),)), "the first sweep is not done", id="new"),
    ],
)
def test_ready(given: State, why: str) -> None:
    health = Health()
    health.observe(given)
    assert health.not_ready() == why


def test_who_was_ready_stays_so_when_a_container_starts() -> None:
    health = Health()
    health.observe(state(container()))
    health.observe(state(container(), container("new", judged=False)))
    assert health.not_ready() == ""


def test_a_stuck_loop() -> None:
    now = 0.0
    health = Health(patience=30, clock=lambda: now)
    now = 29.0
    assert health.stuck() == ""
    now = 31.0
    assert health.stuck() == "the loop has not come round for 31 s"
    assert health.not_ready() == health.stuck()
    health.beat()
    assert health.stuck() == ""


# --- over HTTP ---


@pytest.fixture(scope="module")
def served() -> Iterator[MetricsServer]:
    health = Health()
    health.observe(state(container()))
    server = MetricsServer(("127.0.0.1", 0), full(), health)
    server.start()
    yield server
    server.close()


def ask(port: int, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def raw(port: int, data: bytes) -> bytes:
    """What comes back until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while more := client.recv(65536):
            received += more
    return received


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/metrics", 200, rb"permdoctor_findings\{"),
        ("GET", "/metrics?x=1", 200, rb"process_resident_memory_bytes"),
        ("HEAD", "/metrics", 200, rb"\Z"),
        ("GET", "/healthz", 200, rb"ok\n"),
        ("GET", "/readyz", 200, rb"ok\n"),
        ("GET", "/", 200, rb"/metrics"),
        ("GET", "/etc/passwd", 404, rb"404"),
        ("GET", "/../../etc/passwd", 404, rb"404"),
        ("GET", "/metrics/", 404, rb"404"),
        ("GET", "/%ff", 400, rb"400"),
        ("GET", "/" + "x" * 20_000, 431, rb"431"),
        ("POST", "/metrics", 405, rb"405"),
        ("DELETE", "/metrics", 405, rb"405"),
        ("BREW", "/metrics", 405, rb"405"),
    ],
)
def test_requests(served: MetricsServer, method: str, path: str, status: int, body: bytes) -> None:
    answer = ask(served.port, method, path)
    assert answer[0] == status
    assert re.search(body, answer[1])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\x00" * 100 + b"\r\n", id="TLS"),
        pytest.param(b"GET /metrics\r\n", id="HTTP/0.9"),
        pytest.param(b"GET /metrics HTTP/9.9\r\n\r\n", id="a version to come"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000, id="many headers"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 10**6, id="a long header"),
        pytest.param(b"\r\n" * 10_000, id="nothing"),
        pytest.param(b"\0" * 10_000, id="zeros"),
    ],
)
def test_who_speaks_something_else_gets_no_metrics(served: MetricsServer, data: bytes) -> None:
    try:
        answer = raw(served.port, data)
    except OSError:  # the connection was reset
        answer = b""
    assert b"permdoctor_" not in answer
    assert ask(served.port, "GET", "/healthz") == (200, b"ok\n")


def test_a_stuck_loop_is_503() -> None:
    server = MetricsServer(("127.0.0.1", 0), Metrics(), Health(patience=-1))
    server.start()
    try:
        assert ask(server.port, "GET", "/healthz")[0] == 503
        assert ask(server.port, "GET", "/readyz")[0] == 503
    finally:
        server.close()


def test_a_port_that_is_taken(served: MetricsServer) -> None:
    with pytest.raises(PermdoctorError, match=r"Address already in use$") as raised:
        MetricsServer(("127.0.0.1", served.port), Metrics(), Health()).start()
    assert "metrics.listen" in (raised.value.hint or "")


@pytest.fixture
def impatient() -> Iterator[tuple[Server, int]]:
    """Two clients, a quarter of a second; a large answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    body = b"x" * 50_000_000

    def respond(request: Request) -> Answer:
        if request.path == "/broken":
            raise RuntimeError
        if request.path == "/waits":
            time.sleep(0.5)
        return Answer(body=body if request.path == "/large" else b"ok")

    server = Server(listener, respond, name="t", clients=2, seconds=0.25)
    server.start()
    yield server, listener.getsockname()[1]
    server.close()


def test_the_next_client_is_told_to_come_back(impatient: tuple[Server, int]) -> None:
    """Where those who are there wait for us."""
    _, port = impatient
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    for each in waiting:
        each.sendall(b"GET /waits HTTP/1.1\r\n\r\n")
    time.sleep(0.1)
    assert raw(port, b"").startswith(b"HTTP/1.1 503 ")
    for each in waiting:
        each.close()
    until(lambda: ask(port, "GET", "/") == (200, b"ok"), every=0.05)


@pytest.mark.parametrize("what", ["drips", "is silent", "does not read"])
def test_a_slow_client_is_cut_off(impatient: tuple[Server, int], what: str) -> None:
    """A byte now and then does not help it."""
    _, port = impatient
    patience = Patience(60)
    with socket.create_connection(("127.0.0.1", port)) as client:
        if what == "does not read":
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        client.settimeout(0.05)
        ended = False
        while not ended and not patience.over:
            try:
                if what == "drips":
                    client.sendall(b"G")
                if what == "does not read":
                    time.sleep(1.0)
                    received = 0
                    while more := len(client.recv(1 << 20)):
                        received += more
                    ended = received < 50_000_000
                else:
                    ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
    assert ended


def test_a_fault_of_ours_is_500_and_ends_nobody(impatient: tuple[Server, int]) -> None:
    _, port = impatient
    assert ask(port, "GET", "/broken")[0] == 500
    assert ask(port, "GET", "/") == (200, b"ok")


def need(tool: str) -> None:
    try:
        need_tools(tool)
    except MissingError as e:
        pytest.skip(str(e))
