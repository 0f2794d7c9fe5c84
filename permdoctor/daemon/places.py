"""Who is let in at a door of the service: so many at once, and nobody keeps the others out.

A place is the client's business until its request is there, then ours, then the client's again
until it has taken the answer.  Where all places are taken, the client makes room that has kept us
waiting for its request the longest, or else one that takes its answer slowly; not one that has said
something we have not read, however many come.  At a unix socket a user has a quarter of the places
at most, and the last quarter is root's.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final

from msgspec import Struct

HEAD_SECONDS: Final = 2.0
"""For a request to come; an answer that is taken for longer may make room."""

_ROOT: Final = 0


class _Turn(Enum):
    ASKING = auto()
    OURS = auto()
    TAKING = auto()


class _Place(Struct, kw_only=True, eq=False):
    """``uid`` is ``None`` over TCP; the client has to have done its part ``until`` then.
    ``waits``: its thread waits for more of the request.
    """

    client: socket.socket
    uid: int | None
    turn: _Turn
    since: float
    until: float
    waits: bool = False


class Places:
    """Thread-safe.  ``seconds`` is how long an answer may be taken.  Who has to go is cut off: its
    thread sees the end of its connection, and lets go of it by :meth:`leave`.
    """

    def __init__(
        self, number: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._number, self._share = number, max(1, number // 4)
        self._head, self._seconds, self._clock = min(HEAD_SECONDS, seconds), seconds, clock
        self._lock = threading.Lock()
        self._taken: dict[socket.socket, _Place] = {}
        self._leaving: set[socket.socket] = set()

    def enter(self, client: socket.socket, uid: int | None) -> bool:
        """Whether it has a place from now on."""
        now = self._clock()
        with self._lock:
            if len(self._leaving) >= self._number:
                return False
            crowd = self._crowd(uid)
            if crowd is not None and not self._make_room(crowd, now):
                return False
            self._taken[client] = _Place(
                client=client, uid=uid, turn=_Turn.ASKING, since=now, until=now + self._head
            )
        return True

    def waits(self, client: socket.socket, waits: bool) -> None:
        """For more of the request, or not any more."""
        with self._lock:
            place = self._taken.get(client)
            if place is not None:
                place.waits = waits

    def asked(self, client: socket.socket) -> None:
        """Its request is there."""
        self._turn(client, _Turn.OURS, float("inf"))

    def answered(self, client: socket.socket) -> None:
        """It is given its answer."""
        self._turn(client, _Turn.TAKING, self._seconds)

    def leave(self, client: socket.socket) -> None:
        with self._lock:
            self._taken.pop(client, None)
            self._leaving.discard(client)

    def cut_late(self) -> None:
        now = self._clock()
        with self._lock:
            for place in [p for p in self._taken.values() if p.until < now]:
                self._cut(place)

    def cut_all(self) -> None:
        with self._lock:
            for place in tuple(self._taken.values()):
                self._cut(place)

    def _crowd(self, uid: int | None) -> list[_Place] | None:
        """Of whom one has to go before somebody of that user is let in; ``None``: nobody."""
        taken = list(self._taken.values())
        full = len(taken) >= self._number
        if uid is not None and uid != _ROOT:
            mine = [p for p in taken if p.uid == uid]
            if len(mine) >= self._share:
                return mine
            common = [p for p in taken if p.uid != _ROOT]
            if full or len(common) >= self._number - self._share:
                return common
            return None
        return taken if full else None

    def _make_room(self, crowd: Iterable[_Place], now: float) -> bool:
        silent = [p for p in crowd if p.turn is _Turn.ASKING and p.waits and _is_silent(p.client)]
        slow = [p for p in crowd if p.turn is _Turn.TAKING and now - p.since > self._head]
        if not (silent or slow):
            return False
        self._cut(min(silent or slow, key=lambda p: p.since))
        return True

    def _turn(self, client: socket.socket, turn: _Turn, seconds: float) -> None:
        now = self._clock()
        with self._lock:
            place = self._taken.get(client)
            if place is not None:
                place.turn, place.since, place.until = turn, now, now + seconds

    def _cut(self, place: _Place) -> None:
        del self._taken[place.client]
        self._leaving.add(place.client)
        with contextlib.suppress(OSError):
            place.client.shutdown(socket.SHUT_RDWR)


def _is_silent(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return not poll.poll(0)
