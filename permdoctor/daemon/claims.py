"""Which endpoint an engine is watched at, where several lead to it.

An engine is known by its own id and, behind a unix socket, by who listens there: its id alone an
engine could make up, so that another is not watched.  Podman makes up a new one for each answer,
and so is never taken for another.  The endpoint that was named first has it, if it answers; another
one takes its place when that has not come back for as long as the engine answered there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from permdoctor.container.container import EngineInfo

_FIRST_SECONDS: Final = 2.0
"""How long those that were named before are waited for, at the beginning."""

PATIENCE: Final = 60.0


class _Holder(Struct, kw_only=True):
    """``wanted``: since when (monotonic) another endpoint was refused while this one was away."""

    url: str
    there: bool = True
    wanted: float | None = None


class Claims:
    """Thread-safe.  ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._order: tuple[str, ...] = ()
        self._tried: set[str] = set()
        self._held: dict[tuple[str, int | None], _Holder] = {}

    def expect(self, urls: Sequence[str]) -> None:
        """These endpoints and no others, in the order in which they were named."""
        with self._changed:
            self._order = tuple(urls)
            self._tried &= set(urls)
            self._held = {k: h for k, h in self._held.items() if h.url in urls}

    def claim(self, info: EngineInfo, url: str) -> str:
        """Watch this engine at this endpoint; else the one at which it is watched."""
        if not info.identity:
            return ""
        with self._changed:
            before = self._order[: self._order.index(url)] if url in self._order else ()
            self._changed.wait_for(lambda: self._tried.issuperset(before), _FIRST_SECONDS)
            holder = self._held.get(info.identity)
            if holder is not None and holder.url != url and not self._over(holder):
                return holder.url
            self._held = {k: h for k, h in self._held.items() if h.url != url}
            self._held[info.identity] = _Holder(url=url)
            return ""

    def tried(self, url: str) -> None:
        """It has answered, or not."""
        with self._changed:
            self._tried.add(url)
            self._changed.notify_all()

    def leave(self, url: str) -> None:
        """It does not answer any more."""
        with self._changed:
            for holder in self._held.values():
                if holder.url == url:
                    holder.there, holder.wanted = False, None

    def _over(self, holder: _Holder) -> bool:
        if holder.there:
            return False
        now = self._clock()
        if holder.wanted is None:
            holder.wanted = now
        return now - holder.wanted >= PATIENCE
