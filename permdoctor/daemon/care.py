"""What a killed repair left paused: resumed when the service starts, when an engine is there, and
at the end, when a repair that did not end in time was killed.

In a thread of its own: an engine that hangs holds up nobody.  Each look is at all that is left, so
several wishes are one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

from permdoctor.errors import PermdoctorError

_END_SECONDS: Final = 3.0


class Care:
    """Thread-safe.  ``state`` is where the journals are, ``say`` takes a
    line for the log (level, event, fields); what is still so is not said again.
    """

    def __init__(self, state: str, say: Callable[[str, str, Mapping[str, object]], None]) -> None:
        self._state, self._say = state, say
        self._said: frozenset[str] = frozenset()
        self._wanted = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="permdoctor-care", daemon=True)

    def start(self) -> None:
        """And look."""
        self.look()
        self._thread.start()

    def look(self) -> None:
        self._wanted.set()

    def close(self) -> None:
        """With a last look, of seconds at most: the journals know what is left."""
        self._ending = True
        self.look()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            ending = self._ending
            try:
                self._care()
            except PermdoctorError as e:
                self._tell({e.message: e.hint})
            except Exception as e:  # noqa: BLE001 - the next look may be better
                self._tell({f"internal error: {type(e).__name__}: {e}": None})
            if ending:
                return

    def _care(self) -> None:
        try:
            if not os.listdir(os.path.join(self._state, "active")):
                return
        except OSError:
            return
        from permdoctor.app.interrupted import take_care

        self._tell({told.message: told.hint for told in take_care(self._state)})

    def _tell(self, lines: dict[str, str | None]) -> None:
        for message, hint in lines.items():
            if message not in self._said:
                self._say("warning", message, {"hint": hint} if hint else {})
        self._said = frozenset(lines)
