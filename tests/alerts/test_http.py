"""One POST to receivers that misbehave, and what is made of their answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from permdoctor.alerts import http
from permdoctor.alerts.secret import Secret
from permdoctor.alerts.sink import RetryError, UndeliverableError
from permdoctor.errors import UsageError
from tests.lab.patience import within

from .receiver import Authority, Behaviour, answer, authority, hang_up, receiving

TIMEOUT = 0.4


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


def tell(url: str, *, ca_file: str = "", timeout: float = 5, only: int | None = None) -> None:
    to = http.parse_url(url, "test")
    context = http.trust(ca_file, "test") if to.secure else None
    http.must_accept(http.post(to, b'{"a":1}', {"X": "y"}, timeout=timeout, context=context), to,
                     (Secret("s3cr3t-key"),), only=only)  # fmt: skip


def test_what_goes_out() -> None:
    with receiving() as receiver:
        tell(f"{receiver.url}/a/b?c=d#fragment")
        (request,) = receiver.requests
    assert (request.target, request.body) == ("/a/b?c=d", b'{"a":1}')
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["x"] == "y"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_is_accepted(status: int) -> None:
    with receiving(answer(status)) as receiver:
        tell(receiver.url)


def test_only_one_status_counts() -> None:
    with receiving(answer(200)) as receiver, pytest.raises(RetryError, match="HTTP status 200"):
        tell(receiver.url, only=202)


KEYS = "/services/T0AAAAAAA/B0/xoxKEYxKEYx%2Bx?sig=aQ%3D%3DaQ&v=1&u=p%20w%20d"


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(f"Cannot POST {KEYS}", id="all of it"),
        pytest.param("no route /services/T0AAAAAAA/B0/xoxKEYxKEYx%2Bx", id="the path"),
        pytest.param("no route /services/T0AAAAAAA/B0/xoxKEYxKEYx+x", id="decoded"),
        pytest.param(r"no \/services\/T0AAAAAAA\/B0\/xoxKEYxKEYx+x", id="in JSON"),
        pytest.param("no hook xoxKEYxKEYx+x of T0AAAAAAA", id="segments"),
        pytest.param("bad ?sig=aQ%3D%3DaQ&v=1&u=p%20w%20d", id="the query"),
        pytest.param("bad sig aQ==aQ, aQ%3D%3DaQ", id="a value"),
        pytest.param("bad sig=aQ==aQ&amp;u=p w d", id="in HTML"),
        pytest.param("bad u p w d, p+w+d, p%20w%20d", id="with spaces"),
    ],
)
def test_an_answer_that_repeats_the_url(says: str) -> None:
    """The path of a chat's webhook is its key; errors go to the journal and to ``status``."""
    with receiving(answer(404, body=says.encode())) as receiver, pytest.raises(RetryError) as error:
        tell(receiver.url + KEYS)
    shown = error.value.message
    assert shown.startswith(f"{receiver.url}: HTTP status 404: ")
    for key in ("KEY", "AAA", "aQ", "p w d", "p+w+d", "p%20w"):
        assert key not in shown


@pytest.mark.parametrize("status", [400, 405, 410, 413, 415, 422])
def test_what_says_never(status: int) -> None:
    behave = answer(status, body=b"no\x1bt s3cr3t-key good")
    with receiving(behave) as receiver, pytest.raises(UndeliverableError) as raised:
        tell(f"{receiver.url}/hidden")
    assert raised.value.message == f"{receiver.url}: HTTP status {status}: no\\x1bt ... good"


@pytest.mark.parametrize("status", [401, 403, 404, 408, 425, 429, 500, 502, 503, 504])
def test_what_says_not_now(status: int) -> None:
    with receiving(answer(status)) as receiver, pytest.raises(RetryError) as raised:
        tell(receiver.url)
    assert raised.value.after is None


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        pytest.param(lambda: "7", 7, 7, id="seconds"),
        pytest.param(lambda: formatdate(time.time() + 3600, usegmt=True), 3500, 3600, id="a date"),
        pytest.param(lambda: formatdate(0, usegmt=True), 0, 0, id="long ago"),
    ],
)
def test_retry_after(value: Callable[[], str], low: float, high: float) -> None:
    behave = answer(429, f"Retry-After: {value()}\r\n")
    with receiving(behave) as receiver, pytest.raises(RetryError) as raised:
        tell(receiver.url)
    assert raised.value.after is not None
    assert low <= raised.value.after <= high


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with receiving() as other:
        elsewhere = answer(status, f"Location: {other.url}/\r\n")
        with receiving(elsewhere) as receiver, pytest.raises(RetryError, match="not followed"):
            tell(receiver.url)
        assert other.connections == 0


def _drip(sock: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000:
        sock.sendall(bytes([byte]))
        time.sleep(0.01)


def _endless_head(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X: " + b"a" * 60_000 + b"\r\n")


def _endless_body(status: int) -> Behaviour:
    def behave(sock: socket.socket) -> None:
        sock.sendall(f"HTTP/1.1 {status} X\r\n\r\n".encode())
        while True:
            sock.sendall(b"a" * 60_000)

    return behave


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        pytest.param(lambda _: time.sleep(60), "no answer within 0.4 s", id="silent"),
        pytest.param(_drip, "no answer within 0.4 s", id="a byte at a time"),
        pytest.param(hang_up, "reset by peer", id="reset"),
        pytest.param(lambda _: None, "closed the connection", id="closed"),
        pytest.param(lambda s: s.sendall(b"220 smtp\r\n\r\n"), "not HTTP", id="not HTTP"),
        pytest.param(_endless_head, "head is too large", id="endless head"),
        pytest.param(_endless_body(500), "HTTP status 500: aaa", id="endless error"),
    ],
)
def test_a_receiver_that_misbehaves(behave: Behaviour, says: str) -> None:
    with receiving(behave) as receiver, within(30), pytest.raises(RetryError, match=says) as raised:
        tell(receiver.url, timeout=TIMEOUT)
    assert len(raised.value.message) < 300


def test_an_endless_success_is_one() -> None:
    with receiving(_endless_body(200)) as receiver:
        tell(receiver.url, timeout=TIMEOUT)


def test_an_answer_before_the_answer() -> None:
    both = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 X\r\n\r\n"
    with receiving(lambda s: s.sendall(both)) as receiver, pytest.raises(RetryError, match="503"):
        tell(receiver.url)


def test_nobody_listens() -> None:
    with receiving() as receiver:
        pass
    with pytest.raises(RetryError, match="Connection refused"):
        tell(receiver.url)


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: time.sleep(60) or [])
    with within(30), pytest.raises(RetryError, match="no answer within"):
        tell("http://hooks.example/", timeout=TIMEOUT)


def test_tls_with_the_authority_given(ca: Authority) -> None:
    with receiving(context=ca.context) as receiver:
        tell(receiver.url, ca_file=str(ca.file))
        assert len(receiver.requests) == 1


def _other_ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def _other_name(tmp_path: Path) -> Authority:
    return authority(tmp_path, "elsewhere.example")


@pytest.mark.parametrize(
    ("served", "trusted", "says"),
    [
        pytest.param(_other_ca, "given", "certificate", id="another authority"),
        pytest.param(_other_ca, "system", "certificate", id="the system's authorities"),
        pytest.param(_other_name, "its own", "[Hh]ostname mismatch", id="another name"),
    ],
)
def test_tls_is_verified(
    served: Callable[[Path], Authority], trusted: str, says: str, ca: Authority, tmp_path: Path
) -> None:
    server = served(tmp_path)
    file = {"given": str(ca.file), "system": "", "its own": str(server.file)}[trusted]
    with receiving(context=server.context) as receiver:
        with pytest.raises(RetryError, match=f"TLS: .*{says}"):
            tell(receiver.url, ca_file=file)
        assert receiver.requests == []


@pytest.mark.timeout(10)
def test_a_handshake_that_never_ends() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, pytest.raises(RetryError, match="no answer within"):
        tell(f"https://127.0.0.1:{listener.getsockname()[1]}/", timeout=TIMEOUT)


def test_authorities_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no certificates"):
        http.trust(str(tmp_path / "none.pem"), "test")


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h/", "http://", "http:///x", "https://user:s3cr3t@h/", "http://h:99999/s3cr3t",
     "http://[::1/s3cr3t", "http://" + "a" * 70 + "/s3cr3t"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        http.parse_url(url, "test")
    assert "s3cr3t" not in str(raised.value)


def test_a_url_does_not_smuggle() -> None:
    url = http.parse_url("http://h/a\u00e9 b?c=d", "test")
    assert url.target.reveal() == "/a%C3%A9%20b?c=d"
