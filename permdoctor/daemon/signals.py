"""Signals, as a descriptor for the loop: a handler that runs anywhere may do nothing.

To be made and closed in the main thread (signal.set_wakeup_fd).
"""

from __future__ import annotations

import signal
import socket
from types import FrameType
from typing import Final

ENDS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD: Final = signal.SIGHUP


class Signals:
    """``fileno`` is readable when one has come."""

    def __init__(self) -> None:
        self._wake_r, self._wake_w = socket.socketpair()
        for end in (self._wake_r, self._wake_w):
            end.setblocking(False)
        self._caught = False

    def fileno(self) -> int:
        return self._wake_r.fileno()

    def catch(self) -> None:
        """From now on."""
        signal.set_wakeup_fd(self._wake_w.fileno(), warn_on_full_buffer=False)
        self._caught = True
        for number in (*ENDS, RELOAD):
            signal.signal(number, _nothing)

    def taken(self) -> frozenset[int]:
        """Those that have come since."""
        try:
            return frozenset(self._wake_r.recv(4096))
        except BlockingIOError:
            return frozenset()

    def close(self) -> None:
        if self._caught:
            signal.set_wakeup_fd(-1)
        self._wake_r.close()
        self._wake_w.close()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The number comes through the wakeup descriptor."""
