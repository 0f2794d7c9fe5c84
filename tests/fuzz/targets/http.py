"""HTTP: what engines and sinks answer, what clients of the status socket ask, and URLs."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from permdoctor.alerts import http as sink
from permdoctor.alerts.counters import Counters
from permdoctor.alerts.secret import Secret
from permdoctor.alerts.sink import RetryError, UndeliverableError
from permdoctor.daemon import http as server
from permdoctor.daemon.places import Places
from permdoctor.daemon.shown import Facts
from permdoctor.daemon.status import StatusServer
from permdoctor.engines import transport
from permdoctor.engines.endpoints import Endpoint
from permdoctor.engines.events import EventStream, StreamEnded, TooLongError
from permdoctor.render import service_json
from permdoctor.render.service_json import View
from tests.daemon.states import NOW, container, finding, state
from tests.fuzz.mutate import bytes_of
from tests.fuzz.oracle import fits, must, tellable
from tests.fuzz.run import Feed, Target, scratch, simple
from tests.fuzz.samples import recorded

SECONDS = 5.0
"""Nobody keeps anybody waiting: the other end has hung up already."""


def heard(data: bytes) -> socket.socket:
    """The end of a connection at which ``data`` has been said, and no more will be."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.setblocking(False)
    theirs.send(data)
    theirs.close()
    return ours


# --- engines ---


def engine_answer(data: bytes) -> None:
    for read in (transport.read_json, transport.read_done):
        end = time.monotonic() + SECONDS
        response = transport._UnixResponse(heard(data), "/run/docker.sock", end, SECONDS)
        try:
            _ = response.status, response.headers
            read(response, "unix:///run/docker.sock")
        except transport.EngineError as e:
            tellable(e)
        finally:
            response.close()


@contextlib.contextmanager
def stream() -> Iterator[Feed]:
    """An engine that says what it is given to whoever comes, and hangs up."""
    with scratch() as place, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(place, "s"))
        listener.bind(path)
        listener.listen()
        endpoint = Endpoint(url=f"unix://{path}", origin="here")
        say = [b""]

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, contextlib.suppress(OSError):
                        peer.sendall(say[0])
                        peer.shutdown(socket.SHUT_WR)
                        peer.recv(4096)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def feed(data: bytes) -> None:
            say[0] = data
            events = EventStream(endpoint, "1.41", 0.0, seconds=SECONDS)
            try:
                while True:
                    with contextlib.suppress(TooLongError):
                        line = events.next(SECONDS)
                        must(line is not None, "it waits for who has hung up")
                        must(line and b"\n" not in line, f"a line that is none: {line!r:.80}")
            except StreamEnded as e:
                tellable(e)
            finally:
                events.release()

        yield feed
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)


JSON = recorded("docker-volume.json")
HEAD = b"HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n"
ANSWERS = (
    HEAD + b"Content-Length: %d\r\n\r\n" % len(JSON) + JSON,
    HEAD + b"\r\n" + recorded("docker-events"),
    b'HTTP/1.1 404 Not Found\r\n\r\n{"message":"No such container: x"}\n',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 120\r\n\r\nlater",
    b"HTTP/1.1 429 Slow down\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\n\r\nunknown \x1b[m\n",
    b"HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
)
WORDS = (b"\r\n", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 \r\n\r\n", b": ",
         b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Retry-After: ", b" ",
         b"\n\n")  # fmt: skip


# --- sinks ---

URL = sink.parse_url("https://hooks.example.net/x?key=secret", "webhook")


def sink_answer(data: bytes) -> None:
    with heard(data) as sock:
        try:
            answer = sink._answer(sock, time.monotonic() + SECONDS)
        except OSError as e:
            tellable(e)
            return
    fits(answer, sink.Answer)
    must(200 <= answer.status <= 999, f"status {answer.status}")
    must(len(answer.body) <= sink.MAX_BODY, f"{len(answer.body)} bytes of an error")
    after = answer.retry_after
    must(after is None or 0.0 <= after < float("inf"), f"after {after}")
    sink.must_accept(answer, URL, (Secret("secret"),))


def retry_after(data: bytes) -> None:
    after = sink._retry_after(data.decode("latin-1"))
    must(after is None or 0.0 <= after < float("inf"), f"after {after}")


def url(data: bytes) -> None:
    found = sink.parse_url(data.decode("utf-8", "replace"), "webhook")
    must(found.host.isascii() and found.port in range(65536), f"{found.host!r} {found.port}")
    head = sink._request(found, b"", {})
    must(head.count(b"\r\n") == 6 and head.endswith(b"\r\n\r\n"), f"no one request: {head!r:.200}")
    must(head.count(b" HTTP/1.1\r\n") == 1, f"no one request: {head!r:.200}")


DATES = (b"Wed, 21 Oct 2026 07:28:00 GMT", b"120", b"Wed, 21 Oct 2026 07:28:00 -0700 (x)",
         b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994")  # fmt: skip
URLS = (b"https://hooks.example.net/services/T0/B0?x=%2F#f", b"http://[::1]:9093/api",
        "http://münchen.example:80/ä".encode(), b"http://user:pass@host/")  # fmt: skip


# --- the status socket ---


class Acceptor:
    """What a handler asks of its server."""

    def __init__(self, status: StatusServer) -> None:
        self.respond = status._respond
        self.places = Places(1, SECONDS)
        self.raised: list[Exception] = []
        self.failed = self.raised.append


@contextlib.contextmanager
def requests() -> Iterator[Feed]:
    minutes = iter(range(1 << 60))
    given = state(container("web", finding()), container("\x1b[31m", finding(ignored="x")))
    facts = Facts(host="lab", started=NOW, sinks={"x": Counters()})
    asked: list[str] = []

    def check(name: str, view: View) -> bytes:
        asked.append(name)
        return b"{}"

    status = StatusServer(
        "/none", "", lambda: given, check, lambda: facts, clock=lambda: next(minutes) * 60.0
    )
    acceptor: Any = Acceptor(status)

    def feed(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            theirs.send(data)
            theirs.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                server._Handler(ours, None, acceptor)
            ours.close()
            theirs.setblocking(True)
            said = _all(theirs)
        for e in acceptor.raised:
            raise e
        method = "".join(data.decode("latin-1").split()[:1])
        must(not said or _is_answer(said, method), f"no answer: {said[:200]!r}")
        must(all(n.isascii() and n.isprintable() for n in asked), f"asked for {asked}")
        asked.clear()

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield feed
    structlog.reset_defaults()


def _all(sock: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while more := sock.recv(1 << 16):
            said += more
    return said


class _Said:
    """Bytes, as http.client takes them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _is_answer(said: bytes, method: str) -> bool:
    answer = http.client.HTTPResponse(_Said(said), method=method)  # type: ignore[arg-type]
    answer.begin()
    body = answer.read()
    if answer.headers["Content-Type"] == "application/json" and body not in (b"{}", b""):
        service_json.decode(body)
    return True


ASKED = (
    b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/findings?container=w*&code=PD101&ignored=1 HTTP/1.1\r\nAccept: */*\r\n\r\n",
    b"GET /v1/check/web?view=table&verbose=1&width=72 HTTP/1.0\r\n\r\n",
    b"HEAD /v1/check/a%2e HTTP/1.1\r\n\r\n",
    b"POST /v1/check/web HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
)
ASKING = (b"%00", b"%ff", b"%", b"?", b"&", b"=", b"/v1/check/", b"[", b"*", b"container=", b"//",
          b"#", b"GET ", b"HEAD ", b" HTTP/1.1\r\n", b" HTTP/9.9", b"\r\n", b"\r\n\r\n",
          b"http://[")  # fmt: skip

TARGETS = (
    Target(
        name="engine-http", make=bytes_of(ANSWERS, WORDS), open=simple(engine_answer), seconds=0.3
    ),
    Target(name="event-stream", make=bytes_of(ANSWERS[:4], WORDS), open=stream),
    Target(
        name="sink-http",
        make=bytes_of(ANSWERS, WORDS),
        open=simple(sink_answer),
        errors=(RetryError, UndeliverableError),
    ),
    Target(
        name="retry-after",
        make=bytes_of(DATES, (b"GMT", b":", b",", b" ", b"-", b"Nov", b"+9999", b"(", b"Wed")),
        open=simple(retry_after),
        errors=(),
    ),
    Target(
        name="url",
        make=bytes_of(URLS, (b"http://", b"@", b":", b"[", b"]", b"#", b"?")),
        open=simple(url),
    ),
    Target(name="status-requests", make=bytes_of(ASKED, ASKING), open=requests, errors=()),
)
