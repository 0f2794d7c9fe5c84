"""Where everything that happens comes in, from any thread, for the one loop that takes it out.

Bounded by what it may leave out: events of an engine that find no room are dropped, all together,
and that they were is said.  Paths that changed are a set, for
how often matters to nobody.  What comes back of our own work always finds room: there is never more
of it than was begun.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import Final

from permdoctor.daemon.events import Changed, Event, Happened

_MOST_PATHS: Final = 4096


class Inbox:
    """``fileno`` is readable when something is there."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._offered = 0
        self._paths: dict[bytes, None] = {}
        self._dropped: set[str] = set()
        self._missed: set[str] = set()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._wake

    def __len__(self) -> int:
        return len(self._events) + len(self._paths)

    def put(self, event: Event) -> None:
        """Something that must not be lost."""
        with self._lock:
            self._events.append(event)
        self.wake()

    def offer(self, event: Happened) -> None:
        """An engine's event: where there is no room, it and all that follow are left out."""
        engine = event.container.ref.engine
        with self._lock:
            if engine in self._dropped or self._offered >= self.size:
                self._dropped.add(engine)
                return
            self._offered += 1
            self._events.append(event)
        self.wake()

    def lose(self, engine: str) -> None:
        """An event that could not be read, or means everything."""
        with self._lock:
            self._missed.add(engine)
        self.wake()

    def changed(self, path: bytes) -> None:
        """A path.  Beyond the limit it is left to the next judgement that is due anyway."""
        with self._lock:
            if len(self._paths) < _MOST_PATHS:
                self._paths[path] = None
        self.wake()

    def take(self, most: int) -> list[Event]:
        """Up to so many, in their order; paths last."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            taken = [self._events.popleft() for _ in range(min(most, len(self._events)))]
            self._offered -= sum(isinstance(e, Happened) for e in taken)
            left = most - len(taken)
            paths = list(self._paths)[:left]
            for path in paths:
                del self._paths[path]
            more = bool(self._events or self._paths)
        if more:
            self.wake()
        return [*taken, *(Changed(path=p) for p in paths)]

    def lost(self) -> frozenset[str]:
        """Engines of which events are missing; of those that found no room, once there is some."""
        with self._lock:
            lost, self._missed = self._missed, set()
            if self._offered <= self.size // 2:
                lost |= self._dropped
                self._dropped = set()
        return frozenset(lost)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        os.close(self._wake)
