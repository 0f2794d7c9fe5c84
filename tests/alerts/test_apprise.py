"""apprise in its own process: what arrives, and that it is held to the promises of all sinks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

from permdoctor import config
from permdoctor.alerts import apprise
from permdoctor.alerts.sink import RetryError, Sink, sinks_of
from permdoctor.errors import UsageError
from tests.lab.patience import within

from .build import alert, resolved
from .receiver import answer, receiving

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("apprise") is None,
    reason="needs apprise: pip install 'permdoctor[service]'",
)


def sink(*urls: str) -> Sink:
    (made,) = sinks_of([config.Apprise(url_env="URLS")], {"URLS": "\n".join(urls)})
    return made


def test_a_service_gets_it() -> None:
    with receiving() as receiver:
        sink(f"json://u:s3cr3t@127.0.0.1:{receiver.port}/hook").send([alert()])
    (first,) = (request.json for request in receiver.requests)
    assert first["title"] == "Error: trainer-1: uid 1000 cannot write /data"
    assert "chown 1000:1000 /srv/data" in first["message"]
    assert first["type"] == "failure"


def test_a_resolve_in_words() -> None:
    said = apprise.message(resolved(alert()))
    assert said["kind"] == "success"
    assert said["title"] == "Resolved: trainer-1: uid 1000 cannot write /data"
    assert "chown" not in said["body"]


def test_a_service_that_does_not_take_it() -> None:
    with receiving(answer(500)) as receiver:
        at = sink(f"json://u:s3cr3t@127.0.0.1:{receiver.port}/T0K3N")
        with pytest.raises(RetryError) as raised:
            at.send([alert()])
    assert raised.value.message == "apprise: URL 1: the service did not take it (HTTP 500)"
    assert "s3cr3t" not in repr(at)


def test_who_has_taken_it_is_not_told_again_for_another() -> None:
    with receiving() as one, receiving(answer(500), answer(200)) as two:
        at = sink(*(f"json://127.0.0.1:{r.port}/" for r in (one, two)))
        with pytest.raises(RetryError, match=r"URL 2: .*HTTP 500"):
            at.send([alert()])
        at.send([alert()])
        assert (len(one.requests), len(two.requests)) == (1, 2)
        at.send([alert(2)])
        assert (len(one.requests), len(two.requests)) == (2, 3)


def test_nobody_listens() -> None:
    with pytest.raises(RetryError) as raised:
        sink("json://u:s3cr3t@127.0.0.1:9/T0K3N").send([alert()])
    assert raised.value.message == "apprise: URL 1: the service did not take it (no connection)"


def test_a_redirect_is_not_followed() -> None:
    with receiving() as other:
        elsewhere = answer(307, f"Location: {other.url}/\r\n")
        with receiving(elsewhere) as receiver, pytest.raises(RetryError):
            sink(f"json://127.0.0.1:{receiver.port}/").send([alert()])
        assert other.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "json://169.254.169.254/",
        "mailto://a:b@example.com/c@example.com?smtp=169.254.169.254",
    ],
)
def test_a_metadata_service_is_not_connected_to(url: str) -> None:
    with pytest.raises(RetryError, match=r"a link-local address|metadata service"):
        sink(url).send([alert()])


def test_an_unknown_url() -> None:
    with pytest.raises(RetryError, match="URL 2: the URL is none that apprise knows") as raised:
        sink("json://127.0.0.1:1/", "nosuch://s3cr3t").send([alert()])
    assert "s3cr3t" not in raised.value.message


def test_it_ends_in_time() -> None:
    with receiving(lambda _: time.sleep(60)) as receiver:
        url = apprise.Secret(f"json://127.0.0.1:{receiver.port}/")
        with within(30), pytest.raises(RetryError, match="did not end within 1 s"):
            apprise.AppriseSink(name="a", urls=url, timeout=1).send([alert()])


def test_the_url_is_on_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ > {seen}; exec true\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("URLS", "json://s3cr3t")
    sink("json://s3cr3t").send([alert()])
    assert b"apprise_child" in seen.read_bytes()
    assert b"s3cr3t" not in seen.read_bytes()


def test_the_guard_sees_names_and_datagrams() -> None:
    """What a plugin does past getaddrinfo is refused as well."""
    code = (
        "import socket, sys\n"
        "from permdoctor.alerts import apprise_child as c\n"
        "sys.addaudithook(c._guard)\n"
        "def tried(f):\n"
        "    try: f(); return 'connected'\n"
        "    except OSError as e: return str(e)\n"
        "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "print(tried(lambda: u.sendto(b'x', ('169.254.169.254', 9))))\n"
        "print(tried(lambda: u.connect(('localhost', 9))))\n"
        "print(tried(lambda: u.connect(('127.0.0.1', 9))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent.parent)  # fmt: skip
    assert done.stdout.splitlines() == [
        "an address is a cloud's metadata service: not connected",
        "an address is not an IP address: not connected",
        "connected",
    ]


def test_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="apprise is not installed"):
        sink("json://127.0.0.1:1/")


def test_the_service_does_not_carry_it() -> None:
    code = (
        "import sys\n"
        "from permdoctor import config\n"
        "from permdoctor.alerts.sink import sinks_of\n"
        "sinks_of([config.Apprise(url_env='U')], {'U': 'json://x'})\n"
        "print('apprise' in sys.modules, 'requests' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent.parent)  # fmt: skip
    assert done.stdout == "False False\n"
