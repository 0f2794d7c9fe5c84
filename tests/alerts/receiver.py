"""An HTTP or HTTPS receiver on loopback that behaves as badly as a test wants.

A bare socket server: what it answers goes out as the test wrote it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Behaviour = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Request:
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answer(status: int = 200, headers: str = "", body: bytes = b"") -> Behaviour:
    head = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return lambda sock: sock.sendall(head.encode() + body)


def hang_up(sock: socket.socket) -> None:
    """A reset, not a polite end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Receiver:
    """``behaviours`` are used in turn, the last one for ever."""

    def __init__(self, *behaviours: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.by_peer: dict[object, Request] = {}
        self.connections = 0
        self._behaviours = list(behaviours) or [answer()]
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        scheme, host = ("https", "localhost") if self._context else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.port}"

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sock):
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
            with contextlib.closing(sock):
                request = _read(sock)
                if len(request.body) < int(request.headers.get("content-length", "1")):
                    return  # its sender was killed
                self.requests.append(request)
                self.by_peer[sock.getpeername()] = request
                behave = self._behaviours[0]
                if len(self._behaviours) > 1:
                    self._behaviours.pop(0)
                behave(sock)


def _read(sock: socket.socket) -> Request:
    with sock.makefile("rb") as file:
        target = (file.readline().decode().split() or ["", ""])[1]
        headers = {}
        while line := file.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Request(target, headers, file.read(int(headers.get("content-length", "0"))))


@contextlib.contextmanager
def receiving(*behaviours: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(*behaviours, context=context)
    try:
        yield receiver
    finally:
        receiver.close()


@dataclass(frozen=True)
class Authority:
    """A CA of the test's own, and a server context with a certificate of it for localhost."""

    file: Path
    context: ssl.SSLContext = field(repr=False)


def authority(directory: Path, name: str = "localhost") -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    ca, key, cert = (directory / f for f in ("ca.pem", "key.pem", "cert.pem"))
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    plain = ("-nodes", "-days", "2")
    _run(*new, *plain, "-keyout", str(directory / "ca.key"), "-out", str(ca), "-subj", "/CN=ca",
         "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    _run(*new, *plain, "-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=CA:FALSE",
         "-CA", str(ca), "-CAkey", str(directory / "ca.key"))  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return Authority(ca, context)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
