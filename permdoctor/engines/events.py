"""The event stream of an engine, ``GET /events``, over a connection of its own.

A stream that ends and one that is silent look alike to who only reads: ``next`` has a deadline of
its own, and whoever holds the stream must ask the engine now and then whether it lives.  Nothing is
promised of it: engines replay at most 256 events and drop what a slow reader does not take.

``parse_event`` is total: whatever JSON can hold gives an event or ``None``.  HTTP/1.0, so a body is
neither chunked nor counted: a line is an event.
"""

from __future__ import annotations

import json
import re
import select
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from permdoctor.container.inspect import number_of, text_of
from permdoctor.engines.endpoints import Endpoint
from permdoctor.engines.transport import (
    EngineError,
    answered,
    not_an_engine,
    quoted,
)
from permdoctor.errors import CannotCheckError
from permdoctor.kernel.text import printable

MAX_LINE: Final = 1 << 20
_MAX_HEAD: Final = 64 << 10
_CHUNK: Final = 64 << 10
_TYPES: Final = ("container", "volume", "daemon")
_STATUS: Final = re.compile(rb"[0-9]{3}\Z")
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}\Z")
_OWN: Final = frozenset(
    {"image", "name", "exitCode", "signal", "execID", "execDuration", "oldName"}
    | {"containerExitCode", "podId"}
)
"""Attributes of a container's event that are no labels: Docker's, and those that Podman adds."""


class EngineEvent(Struct, frozen=True, kw_only=True):
    """``action`` is the engine's first word (``exec_start``, without the command after it), in
    Docker's vocabulary.  ``at`` is in nanoseconds since the epoch, 0 if it is not said.
    ``container`` is a full id, ``name`` the container's name, both empty where the event has none.
    """

    kind: str
    action: str
    container: str = ""
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    at: int = 0


class StreamEnded(CannotCheckError):  # noqa: N818 - it is a state of the stream
    """The engine hung up: it stops, or it had enough of us."""


class TooLongError(CannotCheckError):
    """An event without an end: it is left out, and something has been missed."""


class EventStream:
    """One connection.  ``next`` is for one thread; ``close`` may come from any other."""

    def __init__(
        self, endpoint: Endpoint, api_version: str, since: float, *, seconds: float
    ) -> None:
        """Subscribed when it returns.  ``since`` is in seconds since the epoch, ``seconds`` how
        long the engine may take to answer.  Raises ``EngineError``.
        """
        self._url = endpoint.url
        self._buffer = bytearray()
        self._lines: deque[bytes] = deque()
        self._skipping = False
        self._sock = _connected(endpoint, seconds)
        try:
            self._sock.sendall(_request(api_version, since))
            self._read_head()
            self._sock.setblocking(False)
        except OSError as e:
            self._sock.close()
            raise EngineError(f"{printable(self._url)}: {e.strerror or 'no answer'}") from e
        except BaseException:
            self._sock.close()
            raise

    def next(self, seconds: float) -> bytes | None:
        """The next event as a line of JSON; ``None``: there was none for so long.

        Raises ``StreamEnded``, and ``TooLongError`` once for an event that does not end.
        """
        while not self._lines:
            if not self._readable(seconds):
                return None
            self._take(self._received())
        return self._lines.popleft()

    def close(self) -> None:
        """Wakes who waits for an event; the descriptor is closed by :meth:`release`."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the engine was quicker

    def release(self) -> None:
        """Nobody reads any more."""
        self._sock.close()

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(int(seconds * 1000)))

    def _received(self) -> bytes:
        """Empty, where what came is not yet a record of TLS, or only TLS's own.  ``_CHUNK`` is more
        than a record, so that none is left where poll(2) does not see it.
        """
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError as e:
            raise StreamEnded(f"the event stream broke: {e.strerror}") from e
        if not data:
            raise StreamEnded("the engine ended the event stream")
        return data

    def _take(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            line, self._buffer = bytes(self._buffer + piece), bytearray()
            if not self._skipping and line.strip():
                self._lines.append(line)
            self._skipping = False
        if self._skipping:
            return
        self._buffer += rest
        if len(self._buffer) > MAX_LINE:
            self._buffer, self._skipping = bytearray(), True
            raise TooLongError("an event of the engine does not end")

    def _read_head(self) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = self._sock.recv(_CHUNK)
            if not piece or len(raw) > _MAX_HEAD:
                raise not_an_engine(self._url)
            raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not _STATUS.match(words[1]):
            raise not_an_engine(self._url)
        if int(words[1]) != 200:
            raise answered(int(words[1]), body, self._url)
        self._take(body)


def _connected(endpoint: Endpoint, seconds: float) -> socket.socket:
    """Raises ``EngineError``."""
    path = endpoint.socket_path
    if path is None:
        from permdoctor.engines.tcp import connected

        return connected(endpoint, seconds)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(seconds)
        sock.connect(path)
    except OSError as e:
        sock.close()
        raise EngineError(f"{printable(endpoint.url)}: {e.strerror or 'no answer'}") from e
    return sock


def _request(api_version: str, since: float) -> bytes:
    filters = json.dumps({"type": list(_TYPES)}, separators=(",", ":")).encode()
    target = f"/v{api_version}/events?since={since:.9f}&filters={quoted(filters)}"
    return f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii")


def parse_event(line: bytes) -> EngineEvent | None:
    """One line of the stream; ``None``: it is nothing that we know."""
    try:
        obj = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(obj, dict):
        return None
    kind, action = obj.get("Type"), text_of(obj.get("Action")) or text_of(obj.get("status"))
    if kind not in _TYPES or not action:
        return None
    actor = obj.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    attributes = actor.get("Attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    word = action.partition(":")[0].strip()
    return EngineEvent(
        kind=kind,
        action=_PODMAN.get(word, word),
        container=_id(_container(kind, actor, attributes, obj)),
        name=text_of(attributes.get("name")) if kind == "container" else "",
        labels=_labels(attributes) if kind == "container" else (),
        at=_nanoseconds(obj),
    )


_PODMAN: Final = {
    "remove": "destroy",
    "exec": "exec_start",
    "exec_died": "exec_die",
    "died": "die",
}


def _container(
    kind: str, actor: Mapping[str, Any], attributes: Mapping[str, Any], obj: Mapping[str, Any]
) -> str:
    match kind:
        case "container":
            return text_of(actor.get("ID")) or text_of(obj.get("id"))
        case "volume":
            return text_of(attributes.get("container"))
        case _:
            return ""


def _id(text: str) -> str:
    return text if _ID.match(text) else ""


def _labels(attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (text_of(k), text_of(v))
        for k, v in attributes.items()
        if isinstance(v, str) and k not in _OWN
    )


def _nanoseconds(obj: Mapping[str, Any]) -> int:
    return max(0, number_of(obj.get("timeNano")) or 0)
