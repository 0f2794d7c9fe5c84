"""A real Alertmanager: what it shows after firing, resend and resolve."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from permdoctor import config
from permdoctor.alerts import alertmanager
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.sink import RetryError, Sink, UndeliverableError, sinks_of
from permdoctor.app.try_alerts import needed
from permdoctor.diagnosis.report import Severity
from tests.cli.process import permdoctor
from tests.lab.needs import MissingError, need_tools
from tests.lab.patience import until

from .build import STARTED, alert, resolved
from .receiver import answer, receiving

QUIET = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(directory: Path, configuration: str = QUIET) -> Iterator[str]:
    """An Alertmanager's URL."""
    try:
        need_tools("prometheus-alertmanager")
    except MissingError as e:
        pytest.skip(str(e))
    (directory / "config.yml").write_text(configuration)
    port = _free_port()
    with subprocess.Popen(
        ["prometheus-alertmanager", f"--config.file={directory}/config.yml",
         f"--storage.path={directory}", f"--web.listen-address=127.0.0.1:{port}",
         "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_ready(url, process)
            yield url
        finally:
            process.kill()


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
            return
        time.sleep(0.05)
    pytest.fail("Alertmanager does not start")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("alertmanager")) as at:
        yield at


def shown(url: str, of: Alert) -> dict[str, Any] | None:
    """What its API shows of an alert; it forgets resolved ones at once."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=60) as found:
        for each in json.load(found):
            if each["annotations"].get("fingerprint") == of.problem.fingerprint:
                return dict(each)
    return None


def sink_at(*urls: str, resend: float = 60.0) -> Sink:
    (sink,) = sinks_of([config.Alertmanager(urls=urls, resend_seconds=resend)], {})
    return sink


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_firing_resend_resolve(url: str) -> None:
    sink, of = sink_at(url), alert(11)
    assert sink.resend == 60
    before = time.time()
    sink.send([of])
    first = shown(url, of)
    assert first is not None
    assert first["labels"] == {
        "alertname": "PermdoctorWriteRefused", "code": "PD101", "severity": "error",
        "host": "gpu-1", "engine": "unix:///var/run/docker.sock", "container": "trainer-11",
        "target": "/data",
    }  # fmt: skip
    assert first["annotations"]["summary"] == of.title
    assert first["annotations"]["remedies"] == of.remedies[0]
    assert first["status"]["state"] == "active"
    assert _epoch(first["startsAt"]) == STARTED
    assert 3 * 60 <= _epoch(first["endsAt"]) - before <= 4 * 60
    time.sleep(0.05)
    sink.send([of])
    again = shown(url, of)
    assert again is not None
    assert again["fingerprint"] == first["fingerprint"]
    assert _epoch(again["endsAt"]) > _epoch(first["endsAt"])
    sink.send([resolved(of, time.time())])
    assert shown(url, of) is None


def people(url: str) -> str:
    """Alertmanager groups for half a second, and tells them at ``url``."""
    route = "{receiver: people, group_wait: 500ms, group_interval: 1s}"
    return f"route: {route}\nreceivers: [{{name: people, webhook_configs: [{{url: '{url}'}}]}}]\n"


def test_the_test_reaches_people(tmp_path: Path) -> None:
    """What is resolved before Alertmanager's group_wait is over reaches nobody."""
    with receiving() as phone, running(tmp_path, people(phone.url)) as url:
        file = tmp_path / "config.toml"
        file.write_text(f'[[alerts.alertmanager]]\nurls = ["{url}"]')
        file.chmod(0o600)
        done = permdoctor("alert", "test", "--hold", "1", "--config", str(file))
        assert done.returncode == 0, done.stderr
        assert "if its group_wait (30 s by default) is shorter" in done.stdout
        assert done.stderr == "it fires for 1 s now, and is resolved then\n"
        until(lambda: phone.requests, every=0.02)
        (alert_,) = phone.requests[0].json["alerts"]
        assert (alert_["status"], alert_["labels"]["code"]) == ("firing", "PD000")


def test_it_is_held_as_long_as_the_sinks_need() -> None:
    webhook = config.Webhook(url="http://127.0.0.1")
    key = {"routing_key_env": "KEY"}
    assert needed((webhook, config.Journald())) == 0
    assert needed((webhook, config.Alertmanager(urls=("http://127.0.0.1",)))) > 30
    assert needed((config.PagerDuty(**key), webhook)) > 30


def test_what_is_not_sent_again_ends(url: str) -> None:
    """A service that is gone for good leaves nothing that fires for ever."""
    of = alert(12)
    sink_at(url, resend=1).send([of])
    assert shown(url, of) is not None
    until(lambda: shown(url, of) is None, every=0.05)


def test_through_the_outbox_and_a_restart(url: str, tmp_path: Path) -> None:
    """It fires there as long as it is sent again, and ends when it is resolved."""
    of = alert(15)
    for told in (True, False):
        box = Outbox(str(tmp_path / "o"), (sink_at(url, resend=0.7),), host="h")
        box.start()
        if told:
            box.tell(of)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            time.sleep(0.1)
            assert shown(url, of) is not None
        if not told:
            box.tell(resolved(of, time.time()))
        box.close(5)
    assert shown(url, of) is None


def test_what_has_no_target(url: str) -> None:
    of = alert(13, severity=Severity.WARNING, detail=(), remedies=(), host_path="")
    of = replace(of, problem=replace(of.problem, target="", code="PD999"))
    sink_at(url).send([of])
    got = shown(url, of)
    assert got is not None
    assert got["labels"]["severity"] == "warning"
    assert "target" not in got["labels"]


def test_many_at_once(url: str) -> None:
    many = [alert(n) for n in range(100, 164)]
    sink_at(url).send(many)
    assert all(shown(url, of) for of in many)


def test_labels_of_ones_own(url: str) -> None:
    """Added to those that every alert has."""
    of, table = alert(16), config.Alertmanager(urls=(url,), labels=("team=ml", "env=a=b"))
    alertmanager.configured(table).send([of])
    there = shown(url, of)
    assert there is not None
    added = {"team": "ml", "env": "a=b"}
    assert there["labels"] == {**alertmanager.posted(of, 0)["labels"], **added}  # type: ignore[dict-item]


def test_no_label_is_set_twice() -> None:
    assert set(alertmanager.posted(alert(), 0)["labels"]) == config.OWN_LABELS  # type: ignore[call-overload]


def test_each_member_of_a_cluster_is_told(url: str, tmp_path: Path) -> None:
    of = alert(14)
    with running(tmp_path) as other, receiving(answer(500)) as broken:
        sink_at(url, broken.url, f"{other}/").send([of])
        assert shown(url, of) is not None
        assert shown(other, of) is not None
        assert len(broken.requests) == 1


def test_a_member_that_takes_nothing_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The others took it, so nothing fails."""
    with receiving() as well, receiving(answer(500), answer(500), answer(200)) as ill:
        sink = sink_at(well.url, ill.url)
        with caplog.at_level("INFO", "permdoctor.alerts"):
            for _ in range(4):
                sink.send([alert()])
    said = [r.getMessage() for r in caplog.records]
    assert [(ill.url.rstrip("/") in s, "takes nothing" in s) for s in said] == [
        (True, True),
        (True, False),
    ]


def test_members_do_not_wait_for_each_other() -> None:
    all_are_asked = threading.Barrier(3, timeout=60)

    def slow(_: socket.socket) -> None:
        all_are_asked.wait()

    with receiving(slow) as one, receiving(slow) as two, receiving(slow) as three:
        urls = tuple(alertmanager.http.parse_url(r.url, "") for r in (one, two, three))
        with pytest.raises(RetryError, match="closed the connection"):
            alertmanager.AlertmanagerSink(name="a", urls=urls, timeout=30).send([alert()])
    assert not all_are_asked.broken


@pytest.mark.parametrize(
    ("statuses", "raised"),
    [((500, 503), RetryError), ((400, 500), RetryError), ((400, 400), UndeliverableError)],
)
def test_no_member_takes_it(statuses: tuple[int, int], raised: type[Exception]) -> None:
    first, second = (receiving(answer(status)) for status in statuses)
    with first as one, second as two, pytest.raises(raised):
        sink_at(one.url, two.url).send([alert()])
