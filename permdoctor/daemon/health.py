"""Whether the service works: for /healthz, /readyz and systemd's watchdog alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from permdoctor.daemon.state import State
from permdoctor.render.table import plural

PATIENCE: Final = 30.0
"""Seconds without a sign of life after which the loop counts as stuck."""


class Health:
    """``clock`` gives monotonic seconds.  Thread-safe: only single values are replaced."""

    def __init__(
        self, *, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._patience = clock, patience
        self._beat = clock()
        self._state = State()
        self._swept = False
        self._untold = (0, "")

    def beat(self) -> None:
        """The loop has come round."""
        self._beat = self._clock()

    def observe(self, state: State) -> None:
        """What readiness is judged by from now on."""
        self._state = state
        if not self._swept:
            self._swept = _is_swept(state)

    def untold(self, number: int, why: str) -> None:
        """So many alerts cannot be kept, let alone sent."""
        self._untold = (number, why)

    def unkept(self) -> str:
        """What cannot be kept, and why; empty: everything can."""
        number, why = self._untold
        return f"{plural(number, 'alert')} cannot be kept: {why}" if number else ""

    def stuck(self) -> str:
        """Why the service is not alive; empty: it is."""
        silent = self._clock() - self._beat
        return f"the loop has not come round for {silent:.0f} s" if silent > self._patience else ""

    def not_ready(self) -> str:
        """Why the service is not ready; empty: it is.  Ready is who is alive, can keep what people
        are to be told, has judged everything that ran when it started, and is connected to every
        engine.
        """
        if why := self.stuck() or self.unkept():
            return why
        engines = self._state.engines
        if not engines:
            return "no engine has answered yet"
        if away := sum(not e.connected for e in engines):
            return f"{away} of {len(engines)} engines not connected"
        return "" if self._swept else "the first sweep is not done"


def _is_swept(state: State) -> bool:
    return (
        bool(state.engines)
        and all(e.connected and e.swept is not None for e in state.engines)
        and all(c.judged or c.failed for c in state.containers)
    )
