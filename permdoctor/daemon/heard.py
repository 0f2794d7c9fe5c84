"""What an engine's events mean, and which of them are told a second time."""

from __future__ import annotations

import time
from typing import Final

from permdoctor.daemon.events import Action

BEFORE: Final = 2.0
"""Seconds before the subscription from which on events are asked for."""

ACTIONS: Final = {
    "container": {
        "create": Action.CREATE,
        "start": Action.START,
        "die": Action.STOP,
        "destroy": Action.GONE,
        "restart": Action.CHANGE,
        "unpause": Action.CHANGE,
        "exec_start": Action.CHANGE,
        "exec_die": Action.CHANGE,
        "rename": Action.CHANGE,
        "update": Action.CHANGE,
    },
    "volume": {"mount": Action.CHANGE, "unmount": Action.CHANGE},
}
"""``stop`` and ``kill`` come with a ``die``; of a start that fails Docker says nothing at all."""


class Replay:
    """What is said again when a stream begins, and was listed since: it is older than ``known``, in
    nanoseconds since the epoch.  Not for longer: clocks are set back.
    """

    def __init__(self, known: int) -> None:
        self._known, self._end = known, time.monotonic() + BEFORE

    def has(self, at: int) -> bool:
        if at >= self._known or time.monotonic() >= self._end:
            self._known = 0
        return 0 < at < self._known
