"""A small HTTP/1.1 server for what is only looked at: GET and HEAD, one request a connection.

It serves no files.  So many clients at once (``places.py``), the next one is told to come back; who
is slow with its request, or to take its answer, is cut off.  A request has at most ``MAX_HEAD``
bytes.  What an answer costs is the business of who computes it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer, ThreadingMixIn
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from permdoctor.daemon.places import Places

MAX_HEAD: Final = 16 * 1024
MAX_PARAMETERS: Final = 16
POLL: Final = 0.5
"""Seconds between two looks for slow clients."""


_SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Peer(Struct, frozen=True, kw_only=True):
    """Who is at the other end of a unix socket: SO_PEERCRED of unix(7), as it connected."""

    pid: int
    uid: int
    gid: int


class Request(Struct, frozen=True, kw_only=True):
    """``path`` is decoded, ``query`` holds the last value of each parameter; ``peer`` is ``None``
    over TCP.
    """

    path: str
    query: Mapping[str, str]
    peer: Peer | None


class Answer(Struct, frozen=True, kw_only=True):
    """``headers`` beside those that every answer has."""

    status: int = 200
    body: bytes
    type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Responder = Callable[[Request], Answer]


class Server:
    """Serves ``listener``, which listens already, from ``start`` to ``close``; it is closed then.

    ``respond`` is called in a thread of each client's; whatever it raises is given to ``failed``,
    and the client gets a 500.  It has ``seconds`` to take its answer.
    """

    def __init__(
        self,
        listener: socket.socket,
        respond: Responder,
        *,
        name: str,
        clients: int = 8,
        seconds: float = 10.0,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._acceptor = _Acceptor(listener, respond, Places(clients, seconds), seconds, failed)
        self._thread = threading.Thread(
            target=self._acceptor.serve_forever, args=(POLL,), name=name, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Nobody is let in any more; who is being answered is cut off."""
        if self._thread.is_alive():
            self._acceptor.wake()
            self._acceptor.shutdown()
            self._thread.join()
        self._acceptor.server_close()


class _Acceptor(ThreadingMixIn, BaseServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        listener: socket.socket,
        respond: Responder,
        places: Places,
        seconds: float,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(listener.getsockname(), _Handler)
        listener.setblocking(False)
        self.respond, self.places, self.failed = respond, places, failed
        self._listener, self._seconds = listener, seconds

    def fileno(self) -> int:
        return self._listener.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            client, address = self._listener.accept()
        except OSError as e:
            if e.errno in _SHORT_OF:
                time.sleep(0.1)  # the client is still there, and would spin us
            raise
        client.settimeout(self._seconds)
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is a place for it."""
        peer = _peer(request)
        if self.places.enter(request, None if peer is None else peer.uid):
            return True
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        return False

    def service_actions(self) -> None:
        self.places.cut_late()

    def shutdown_request(self, request: Any) -> None:
        self.places.leave(request)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up or was cut off."""

    def wake(self) -> None:
        """Whoever waits for clients sees that there will be none."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        self._listener.close()
        self.places.cut_all()


_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class _Head(io.RawIOBase):
    """The first ``MAX_HEAD`` bytes of a connection: a longer request ends there.  ``is_cut``: more
    was wanted, and there is none, be it that the client was cut off.
    """

    def __init__(self, client: socket.socket, places: Places) -> None:
        self._client, self._places, self._left = client, places, MAX_HEAD
        self.is_cut = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        number = 0
        if self._left:
            self._places.waits(self._client, True)
            number = self._client.recv_into(memoryview(buffer)[: self._left])
            self._places.waits(self._client, False)
        self._left -= number
        self.is_cut = self.is_cut or not number
        return number


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: _Acceptor

    def setup(self) -> None:
        self.connection = self.request
        self._head = _Head(self.request, self.server.places)
        self.rfile = io.BufferedReader(self._head)
        self.wfile = io.BufferedWriter(socket.SocketIO(self.request, "w"))

    def handle(self) -> None:
        self.close_connection = True
        self.handle_one_request()

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self._head.is_cut or self.request_version == "HTTP/0.9":
            self.request_version = self.protocol_version
            self._write(Answer(status=431, body=b"431 too long, cut off, or not HTTP/1\n"))
            return False
        if self.command in ("GET", "HEAD"):
            return True
        headers = (("Allow", "GET, HEAD"),)
        self._write(Answer(status=405, body=b"405 only GET and HEAD\n", headers=headers))
        return False

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.server.places.asked(self.connection)
        try:
            answer = self.server.respond(self._asked())
        except _BadRequestError:
            answer = Answer(status=400, body=b"400 not understood\n")
        except Exception as e:  # noqa: BLE001 - one request must not end the others
            self.server.failed(e)
            answer = Answer(status=500, body=b"500 internal error\n")
        self._write(answer, body=body)

    def _asked(self) -> Request:
        try:
            target = urlsplit(self.path)
            query = parse_qsl(target.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
            path = unquote(target.path, errors="strict")
        except ValueError as e:
            raise _BadRequestError from e
        return Request(path=path, query=dict(query), peer=_peer(self.connection))

    def _write(self, answer: Answer, *, body: bool = True) -> None:
        self.server.places.answered(self.connection)
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(answer.body)

    def send_error(self, *args: Any, **more: Any) -> None:
        """With a head, also to who speaks HTTP/0.9."""
        self.request_version = self.protocol_version
        super().send_error(*args, **more)

    def version_string(self) -> str:
        return "permdoctor"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Who asks is logged where it matters."""


class _BadRequestError(Exception):
    """The target is no path."""


def _peer(client: socket.socket) -> Peer | None:
    if client.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", client.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, size
    ))  # fmt: skip
    return Peer(pid=pid, uid=uid & 0xFFFFFFFF, gid=gid & 0xFFFFFFFF)
