"""The ways into the service: metrics for Prometheus, and the status socket.

Each is a server with threads of its own; they see the state that the loop published last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from permdoctor.config import Config
from permdoctor.daemon.parts import Parts
from permdoctor.daemon.state import State
from permdoctor.errors import PermdoctorError

if TYPE_CHECKING:
    from permdoctor.daemon.exporter import MetricsServer
    from permdoctor.daemon.status import Facts, StatusServer


class Doors:
    """``state`` and ``facts`` are asked in the servers' threads."""

    def __init__(
        self, parts: Parts, state: Callable[[], State], facts: Callable[[], Facts]
    ) -> None:
        self._parts, self._state, self._facts = parts, state, facts
        self._servers: list[MetricsServer | StatusServer] = []

    def open(self, config: Config) -> None:
        """Raises ``PermdoctorError``; then some may be open."""
        from permdoctor.daemon.exporter import MetricsServer
        from permdoctor.daemon.status import StatusServer

        parts, service = self._parts, config.service
        servers: list[MetricsServer | StatusServer] = []
        address = config.metrics.address
        if address is not None and parts.metrics is not None:
            servers.append(MetricsServer(address, parts.metrics, parts.health))
        if service.socket:
            group = service.socket_group
            servers.append(
                StatusServer(service.socket, group, self._state, parts.check, self._facts)
            )
        for server in servers:
            server.start()
            self._servers.append(server)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is not as the configuration wants it."""
        return tuple(s.trouble for s in tuple(self._servers) if s.trouble)

    def reopen(self, config: Config) -> None:
        """Where they are others than now.  Raises ``PermdoctorError`` with those of now open."""
        old = self._parts.config
        if _addresses(config) == _addresses(old):
            return
        self.close()
        try:
            self.open(config)
        except PermdoctorError:
            self.close()
            self.open(old)
            raise

    def close(self) -> None:
        while self._servers:
            self._servers.pop().close()


def _addresses(config: Config) -> tuple[str, str, str]:
    return config.metrics.listen, config.service.socket, config.service.socket_group
