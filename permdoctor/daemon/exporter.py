"""The service as Prometheus and load balancers see it: /metrics, /healthz and /readyz, or a file.

Loopback by default; whoever reaches the port may read.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from permdoctor.daemon import log
from permdoctor.daemon.health import Health
from permdoctor.daemon.http import Answer, Request, Server
from permdoctor.daemon.listener import born
from permdoctor.daemon.metrics import CONTENT_TYPE, Metrics
from permdoctor.errors import CannotCheckError
from permdoctor.kernel.text import printable

CLIENTS: Final = 8
FILE_MASK: Final = 0o022
"""0644: node_exporter is another user."""


class MetricsServer:
    """``address`` is host and port, as ``config.Metrics.address`` gives them."""

    trouble = ""

    def __init__(self, address: tuple[str, int], metrics: Metrics, health: Health) -> None:
        self._address, self._metrics, self._health = address, metrics, health
        self._server: Server | None = None
        self.port = 0

    def start(self) -> None:
        """Raises ``CannotCheckError`` where the port cannot be had."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=CLIENTS)
        except OSError as e:
            raise CannotCheckError(
                f"cannot listen at {printable(host)}:{port}: {_why(e)}",
                hint='metrics.listen names another address, or none with ""',
            ) from e
        self.port = listener.getsockname()[1]
        self._server = Server(
            listener,
            self._respond,
            name="permdoctor-metrics",
            clients=CLIENTS,
            failed=lambda e: log.logger().error("metrics failed", exc_info=e),
        )
        self._server.start()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _respond(self, request: Request) -> Answer:
        match request.path:
            case "/metrics":
                return Answer(body=self._metrics.text(), type=CONTENT_TYPE)
            case "/healthz":
                return _verdict(self._health.stuck())
            case "/readyz":
                return _verdict(self._health.not_ready())
            case "/":
                return Answer(body=b"permdoctor: /metrics /healthz /readyz\n")
            case _:
                return Answer(status=404, body=b"404 not here\n")


def write_textfile(path: str, metrics: Metrics) -> None:
    """For node_exporter's textfile collector, which must never see half of it.

    Raises ``CannotCheckError``.
    """
    text = metrics.text(process=False)
    new = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        fd = born(lambda: _created(new), umask=FILE_MASK)
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        os.rename(new, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise CannotCheckError(
            f"cannot write {printable(path)}: {e.strerror}", hint="see metrics.textfile"
        ) from e


def remove_textfile(path: str) -> None:
    """When the service ends: what it says would not be true any more."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _created(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def _why(e: OSError) -> str:
    """``create_server`` and the resolver have longer sentences of their own."""
    return os.strerror(e.errno) if e.errno is not None and e.errno > 0 else str(e.strerror)


def _verdict(why_not: str) -> Answer:
    if why_not:
        return Answer(status=503, body=f"{why_not}\n".encode())
    return Answer(body=b"ok\n")
