"""One HTTP request to an engine: a question (GET) or a command (POST, for pausing), an answer.

An engine's Unix socket is asked directly, in HTTP/1.0: the answer then ends where the connection
ends, and no library is needed for the one thing that every check does.  (docker-py is the house's
client, but importing it takes longer than all the rest of a check; it serves the TCP endpoints,
where TLS matters.)  Every answer has a deadline and a size limit.

A request is sent at once; its answer is awaited when it is first looked at, so that two
requests can be under way at once.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from permdoctor.errors import CannotCheckError, PermdoctorError
from permdoctor.kernel.text import printable

TIMEOUT: Final = 15.0
"""Seconds for one whole answer."""

MAX_JSON: Final = 64 << 20
_MAX_HEAD: Final = 64 << 10
_CHUNK: Final = 256 << 10


class EngineError(CannotCheckError):
    """The engine does not answer, or not as an engine does."""


class AnsweredError(EngineError):
    """The engine answered with an HTTP error; ``status`` is its code, the message its own."""

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Response(Protocol):
    """An answer.  ``headers`` have lower-case names."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def read(self, limit: int) -> bytes:
        """At most ``limit`` bytes of the body, fewer only at its end."""
        ...

    def close(self) -> None: ...


class Transport(Protocol):
    """Sends requests to one engine."""

    def get(self, target: str) -> Response:
        """Ask for ``target``, a path with its query, as it goes on the wire."""
        ...

    def post(self, target: str) -> Response:
        """Have ``target`` done.  There is nothing to send with it."""
        ...

    def close(self) -> None: ...


class Peer(Struct, frozen=True, kw_only=True):
    """Who listens on a Unix socket (SO_PEERCRED of unix(7): as at ``listen``).  Host ids."""

    pid: int
    uid: int
    gid: int


class UnixTransport:
    """Talks to the engine behind a Unix socket.  ``peer`` is known once something was asked."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path, self.timeout = path, timeout
        self.peer: Peer | None = None

    def get(self, target: str) -> Response:
        return self._send(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n")

    def post(self, target: str) -> Response:
        head = f"POST {target} HTTP/1.0\r\nHost: localhost\r\n"
        return self._send(f"{head}Content-Length: 0\r\n\r\n")

    def _send(self, request: str) -> Response:
        deadline = time.monotonic() + self.timeout
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.path)
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, gid = struct.unpack("3i", credentials)
            self.peer = Peer(pid=pid, uid=uid, gid=gid)
            sock.sendall(request.encode("ascii"))
        except OSError as e:
            sock.close()
            raise _refused(self.path, e, self.timeout) from e
        return _UnixResponse(sock, self.path, deadline, self.timeout)

    def close(self) -> None:
        """Nothing is kept open between requests."""


class _UnixResponse:
    def __init__(self, sock: socket.socket, path: str, deadline: float, timeout: float) -> None:
        self._sock, self._path = sock, path
        self._deadline, self._timeout = deadline, timeout
        self._head: tuple[int, Mapping[str, str]] | None = None
        self._buffer = b""

    @property
    def status(self) -> int:
        return self._parsed()[0]

    @property
    def headers(self) -> Mapping[str, str]:
        return self._parsed()[1]

    def read(self, limit: int) -> bytes:
        self._parsed()
        pieces, size = [self._buffer], len(self._buffer)
        while size < limit:
            piece = self._recv()
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        whole = b"".join(pieces)
        self._buffer = whole[limit:]
        return whole[:limit]

    def close(self) -> None:
        self._sock.close()

    def _parsed(self) -> tuple[int, Mapping[str, str]]:
        if self._head is None:
            raw = b""
            while b"\r\n\r\n" not in raw:
                piece = self._recv()
                if not piece or len(raw) > _MAX_HEAD:
                    raise not_an_engine(f"unix://{self._path}")
                raw += piece
            head, _, self._buffer = raw.partition(b"\r\n\r\n")
            self._head = _parse_head(head, f"unix://{self._path}")
        return self._head

    def _recv(self) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _silent(self._path, self._timeout)
        self._sock.settimeout(left)
        try:
            return self._sock.recv(_CHUNK)
        except TimeoutError as e:
            raise _silent(self._path, self._timeout) from e
        except OSError as e:
            raise EngineError(
                f"unix://{printable(self._path)}: {e.strerror}: the engine hung up",
                hint="was it restarted? try again",
            ) from e


def _parse_head(head: bytes, endpoint: str) -> tuple[int, Mapping[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if (
        len(words) < 2
        or not words[0].startswith("HTTP/1.")
        or not re.fullmatch("[0-9]{3}", words[1])
    ):
        raise not_an_engine(endpoint)
    pairs = (line.partition(":") for line in lines)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


_UNRESERVED: Final = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
)


def quoted(path: bytes) -> str:
    """A path for a query (RFC 3986, section 2.1).  urllib.parse costs more than it saves here."""
    return "".join(chr(b) if b in _UNRESERVED else f"%{b:02X}" for b in path)


def segment(name: str) -> str:
    """A name or id as one path segment of a URL."""
    return quoted(name.encode("utf-8", "surrogateescape")).replace("/", "%2F")


def read_done(response: Response, endpoint: str) -> None:
    """The answer to a command; closes it.  Raises :class:`AnsweredError` for any but 2xx."""
    try:
        if response.status // 100 != 2:
            raise answered(response.status, response.read(4096), endpoint)
    finally:
        response.close()


def read_json(response: Response, endpoint: str) -> Any:
    """The JSON of a 2xx answer; closes it.

    Raises :class:`AnsweredError` for another status, :class:`EngineError` for what is no JSON.
    """
    try:
        body = response.read(MAX_JSON + 1)
        if len(body) > MAX_JSON:
            raise EngineError(f"{printable(endpoint)}: the engine's answer does not end")
        if response.status // 100 != 2:
            raise answered(response.status, body, endpoint)
        return json.loads(body)
    except (ValueError, RecursionError) as e:
        raise EngineError(
            f"{printable(endpoint)}: the engine's answer is cut off or no JSON",
            hint="was it restarted? try again",
        ) from e
    finally:
        response.close()


def answered(status: int, body: bytes, endpoint: str) -> AnsweredError:
    """The engine's own error message, in one line."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = body[:200].decode("utf-8", "replace")
    line = " ".join(message.split())[:400] or "no message"
    return AnsweredError(
        f"{printable(endpoint)}: the engine answers {status}: {printable(line)}", status=status
    )


def not_an_engine(endpoint: str) -> EngineError:
    return EngineError(
        f"{printable(endpoint)}: something answers there, but it is no container engine",
        hint="give the engine's own socket with --host unix:///path/to/docker.sock",
    )


def _silent(path: str, timeout: float) -> EngineError:
    return EngineError(
        f"unix://{printable(path)}: the engine did not answer within {timeout:g} s",
        hint="is it stuck on a filesystem that hangs? `docker info` would show the same",
    )


def _refused(path: str, e: OSError, timeout: float) -> PermdoctorError:
    """connect(2) or the request failed: what that means for an engine's socket."""
    shown = f"unix://{printable(path)}"
    match e:
        case TimeoutError():
            return _silent(path, timeout)
        case FileNotFoundError() | NotADirectoryError():
            return EngineError(
                f"{shown}: no such socket: the engine is not running, or listens elsewhere",
                hint=_missing_hint(path),
            )
        case PermissionError():
            return EngineError(
                f"{shown}: permission denied: uid {os.geteuid()} may not talk to the engine",
                hint="run permdoctor with sudo: it reads other users' /proc entries too",
            )
        case ConnectionRefusedError():
            return EngineError(
                f"{shown}: nobody listens there: the engine has stopped, or this is no socket",
                hint="start it, for instance: systemctl start docker",
            )
        case _:
            return EngineError(f"{shown}: {e.strerror or e}")


def _missing_hint(path: str) -> str:
    others = [p for p in other_sockets() if p != path]
    if others:
        return f"there is one at {printable(others[0])}: --host unix://{printable(others[0])}"
    return "start it (systemctl start docker), or name its socket with --host"


def other_sockets() -> tuple[str, ...]:
    """Engine sockets in their usual places that exist, best first.  Named in hints only."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    places = (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    )
    return tuple(p for p in places if os.path.exists(p))
