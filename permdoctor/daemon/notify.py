"""sd_notify(3): what the service manager is told, and how often it wants a sign of life.

Without ``NOTIFY_SOCKET`` nobody is told and nothing fails.  What is sent never waits.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_MICRO: Final = 1_000_000
_OFTEN: Final = 3
"""As often within the manager's limit a sign of life is sent."""


class Notifier:
    """Takes its variables out of the environment: children must not speak for us."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        limit = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.every: float | None = None
        """Seconds between signs of life; ``None``: the manager wants none."""
        if re.fullmatch("[0-9]{1,19}", limit) and int(limit) > 0 and mine:
            self.every = int(limit) / _MICRO / _OFTEN
        self._sock: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._connect(address)

    def _connect(self, address: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        try:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            sock.close()
            return
        self._sock = sock

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """``MONOTONIC_USEC`` is what Type=notify-reload wants, too."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, message: str) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.send(message.encode("utf-8", "replace"))


def _line(status: str) -> str:
    """A second line would be another word to the manager."""
    return status.replace("\n", " ")
