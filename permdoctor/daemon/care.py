"""What a killed repair left paused: resumed when the service starts, when an engine is there, and
at the end, when a repair that did not end in time was killed.

In a thread of its own: an engine that hangs holds up nobody.  Each look is at all that is left, so
several wishes are one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from permdoctor.errors import PermdoctorError

_END_SECONDS: Final = 3.0
_AGAIN_SECONDS: Final = 0.1


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
        """With last looks, for seconds at most: who was killed a moment ago may still hold his
        journal.  The journals know what is left.
        """
        self._ending = True
        self.look()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            ending = self._ending
            self._look()
            if ending:
                end = time.monotonic() + _END_SECONDS
                while self._is_left() and time.monotonic() < end:
                    time.sleep(_AGAIN_SECONDS)
                    self._look()
                return

    def _look(self) -> None:
        try:
            self._care()
        except PermdoctorError as e:
            self._tell({e.message: e.hint})
        except Exception as e:  # noqa: BLE001 - the next look may be better
            self._tell({f"internal error: {type(e).__name__}: {e}": None})

    def _care(self) -> None:
        if self._is_left():
            from permdoctor.app.interrupted import take_care

            self._tell({told.message: told.hint for told in take_care(self._state)})

    def _is_left(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(os.listdir(os.path.join(self._state, "active")))
        return False

    def _tell(self, lines: dict[str, str | None]) -> None:
        for message, hint in lines.items():
            if message not in self._said:
                self._say("warning", message, {"hint": hint} if hint else {})
        self._said = frozenset(lines)
