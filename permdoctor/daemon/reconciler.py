"""The service's mind: (event, now, wall) in, commands out.  It never waits and reads no clock."""

from __future__ import annotations

from collections.abc import Callable

from permdoctor.daemon.events import Command, Event, Rules
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.state import State


def utc_minute(wall: float) -> int:
    """The minute of the day, in UTC."""
    return int(wall // 60) % 1440


class Reconciler:
    """``minute_of_day`` turns seconds since the epoch into the minute of the local day, for
    maintenance windows: a pure core knows no time zone.
    """

    def __init__(
        self,
        rules: Rules,
        limits: Limits | None = None,
        minute_of_day: Callable[[float], int] = utc_minute,
    ) -> None:
        self._rules = rules
        self._limits = limits or Limits()
        self._minute_of_day = minute_of_day

    def handle(self, event: Event, now: float, wall: float) -> list[Command]:
        """What is to be done now that this has happened, in this order.  ``now`` is monotonic
        seconds and never goes back, ``wall`` seconds since the epoch, which may.
        """
        raise NotImplementedError

    def due(self) -> float | None:
        """The monotonic time at which ``Tick`` would do something; ``None``: never."""
        raise NotImplementedError

    def state(self) -> State:
        """What is known now."""
        raise NotImplementedError
