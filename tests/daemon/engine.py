"""A stand-in engine on a unix socket or a TCP port: what Docker says of containers, without them.

For storms: it forgets and loses as Docker does.  Events are kept for replay up to 256; a stream
whose reader is slow loses what does not fit its queue.  ``pause`` makes every answer late,
``hang_up`` ends all streams and refuses connections for a while.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import socketserver
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPLAY = 256
STREAM = 1024


@dataclass
class Fake:
    """A container.  ``pid`` is of a process that really runs and is what is judged."""

    id: str
    name: str
    pid: int
    mounts: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    running: bool = False
    started: str = ""
    error: str = ""
    created: int = field(default_factory=lambda: time.time_ns() // 10**9)

    def inspect(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "State": {
                "Status": self.state,
                "Running": self.running,
                "Pid": self.pid if self.running else 0,
                "StartedAt": self.started,
                "Error": self.error,
            },
            "Config": {"Image": "lab", "User": "", "Labels": self.labels, "Env": []},
            "HostConfig": {},
            "Mounts": self.mounts,
        }

    def summary(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "Image": "lab",
            "State": self.state,
            "Mounts": self.mounts,
            "Labels": self.labels,
            "Created": self.created,
        }

    @property
    def state(self) -> str:
        if self.running:
            return "running"
        return "exited" if self.started else "created"


class StandIn:
    """Thread-safe.  ``with StandIn(path) as engine``; ``port``: at 127.0.0.1 instead."""

    def __init__(self, path: Path, port: int = 0) -> None:
        self.path, self.port = path, port
        self.host = f"tcp://127.0.0.1:{port}" if port else f"unix://{path}"
        self.containers: dict[str, Fake] = {}
        self.id = ""
        self.pause = 0.0
        self.silent = False
        self.asked = self.pings = 0
        self.away = False
        self._lock = threading.RLock()
        self._replay: deque[tuple[int, bytes]] = deque(maxlen=REPLAY)
        self._streams: list[queue.Queue[bytes | None]] = []
        self._numbers = iter(range(1, 1 << 30))
        self._server: socketserver.TCPServer | None = None

    def __enter__(self) -> StandIn:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    # -- what happens ------------------------------------------------------------------------

    def add(self, name: str, pid: int, **more: Any) -> Fake:
        with self._lock:
            number = next(self._numbers)
            fake = Fake(id=f"{number:064x}", name=name, pid=pid, **more)
            self.containers[fake.id] = fake
            self.emit(fake, "create")
            return fake

    def start(self, fake: Fake) -> None:
        with self._lock:
            fake.running, fake.started = True, f"run {next(self._numbers)}"
            self.emit(fake, "start")

    def refuse(self, fake: Fake, error: str) -> None:
        """A start that fails; Docker emits nothing."""
        fake.error = error

    def die(self, fake: Fake) -> None:
        with self._lock:
            fake.running = False
            self.emit(fake, "die")

    def remove(self, fake: Fake) -> None:
        with self._lock:
            fake.running = False
            del self.containers[fake.id]
            self.emit(fake, "destroy")

    def rename(self, fake: Fake, name: str) -> None:
        with self._lock:
            fake.name = name
            self.emit(fake, "rename")

    def emit(self, fake: Fake, action: str) -> None:
        with self._lock:
            at = time.time_ns()
            event = {
                "Type": "container",
                "Action": action,
                "Actor": {"ID": fake.id, "Attributes": {"name": fake.name, **fake.labels}},
                "time": at // 10**9,
                "timeNano": at,
            }
            self.raw(json.dumps(event).encode(), at)

    def raw(self, line: bytes, at: int = 0) -> None:
        """Any line on all streams."""
        with self._lock:
            self._replay.append((at or time.time_ns(), line))
            for stream in self._streams:
                if stream.qsize() < STREAM:
                    stream.put(line)

    # -- how it fails ------------------------------------------------------------------------

    def hang_up(self) -> None:
        """As a daemon that stops."""
        with self._lock:
            server, self._server = self._server, None
            self.away = True
            for stream in self._streams:
                stream.put(None)
            self._streams.clear()
        if server is not None:
            server.shutdown()
            server.server_close()
            self.path.unlink(missing_ok=True)

    def come_back(self) -> None:
        """A new daemon: it replays nothing of what was before."""
        with self._lock:
            self._replay.clear()
            self.away = False
        self._listen()

    def _listen(self) -> None:
        engine = self

        class Handler(_Handler):
            standin = engine

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            address_family = socket.AF_INET if engine.port else socket.AF_UNIX
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                """Who hangs up is not our trouble."""

            daemon_threads = True
            request_queue_size = 128
            block_on_close = False

        self.away = False
        address: Any = ("127.0.0.1", self.port) if self.port else str(self.path)
        self._server = Server(address, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    # -- what it answers ---------------------------------------------------------------------

    def answer(self, path: str, states: tuple[str, ...] = ("running",)) -> tuple[int, Any]:
        self.asked += 1
        if path.endswith("/info"):
            return 200, {
                "KernelVersion": os.uname().release,
                "ServerVersion": "20.10",
                "DockerRootDir": "/nonexistent",
                "SecurityOptions": [],
                "ID": self.id,
            }
        with self._lock:
            if path.endswith("/containers/json"):
                return 200, [c.summary() for c in self.containers.values() if c.state in states]
            if "/containers/" in path and path.endswith("/json"):
                known = self._named(path.split("/")[-2])
                if known is not None:
                    return 200, known.inspect()
        return 404, {"message": "No such container: it is not here"}

    def _named(self, name: str) -> Fake | None:
        """By name, id, or the beginning of an id, in this order, as Docker does."""
        all_ = self.containers.values()
        by_name = next((c for c in all_ if c.name == name), None)
        return by_name or next((c for c in all_ if c.id.startswith(name)), None)

    def subscribe(self, since: float) -> queue.Queue[bytes | None]:
        stream: queue.Queue[bytes | None] = queue.Queue()
        with self._lock:
            for at, line in self._replay:
                if at >= since * 10**9:
                    stream.put(line)
            self._streams.append(stream)
        return stream

    def forget(self, stream: queue.Queue[bytes | None]) -> None:
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)


class _Handler(BaseHTTPRequestHandler):
    standin: StandIn

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if self.standin.silent:
            time.sleep(3600)
        time.sleep(self.standin.pause)
        if url.path == "/_ping":
            self.standin.pings += 1
            self._send(200, b"OK")
        elif url.path.endswith("/events"):
            self._stream(float(parse_qs(url.query)["since"][0]))
        else:
            (filters,) = parse_qs(url.query).get("filters", ['{"status": ["running"]}'])
            status, obj = self.standin.answer(url.path, tuple(json.loads(filters)["status"]))
            self._send(status, json.dumps(obj).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.41")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, since: float) -> None:
        stream = self.standin.subscribe(since)
        try:
            self.send_response(200)
            self.end_headers()
            for line in self._lines(stream):
                self.wfile.write(line + b"\n")
        except OSError:
            pass
        finally:
            self.standin.forget(stream)

    def _lines(self, stream: queue.Queue[bytes | None]) -> Iterator[bytes]:
        while (line := stream.get()) is not None:
            if not self.standin.silent:
                yield line

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def address_string(self) -> str:
        return "unix"
