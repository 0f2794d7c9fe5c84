"""What is watched on the filesystems, and the process that watches (``watching.py``).

That one may hang in a filesystem that does not answer: it is given up after ``PATIENCE`` seconds,
and another one watches the rest.  What cannot be watched, for that or because a limit is reached,
the reconciler is told; a warning says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from permdoctor.config import SUFFIX, Places
from permdoctor.daemon.channel import Channel, Closed
from permdoctor.daemon.events import Changed, Event, MapsChanged, Watched
from permdoctor.daemon.nursery import WATCHER, Child, Nursery
from permdoctor.daemon.watching import Noticed, Wanted
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.text import printable

PATIENCE: Final = 10.0
_AGAIN: Final = 600.0
"""Seconds until it is tried again what did not answer, or had no room."""

_RESTART: Final = 5.0
_SEND_SECONDS: Final = 2.0

MAPS: Final = (b"/etc/subuid", b"/etc/subgid", b"/etc/docker/daemon.json")
"""Who is whom."""

CONFIGURATION: Final = b"the configuration"
"""What has changed, where it does not matter which file."""

_SILENT: Final = "it does not answer"

Say = Callable[[str, str, dict[str, object]], None]


class Watch:
    """The service's side; one thread, the loop's."""

    def __init__(
        self,
        nursery: Nursery,
        most: int,
        say: Say,
        watch: Callable[[int, object], None],
        forget: Callable[[int], None],
    ) -> None:
        self._nursery, self._most, self._say = nursery, most, say
        self._watch, self._forget = watch, forget
        self._roots: tuple[bytes, ...] = ()
        self._number = 0
        self._files: tuple[bytes, ...] = ()
        self._directories: tuple[tuple[bytes, bytes], ...] = ()
        self._child: Child | None = None
        self._channel: Channel[Noticed] | None = None
        self._deadline: float | None = None
        self._again: float | None = None
        self._about = b""
        self._dead: dict[bytes, float] = {}
        self._warned = False
        self._unseen = True
        self._news: list[Event] = []

    def resize(self, most: int) -> None:
        self._most = most

    def configuration(self, at: Places) -> None:
        """Where the configuration is."""
        self._files = tuple(map(os.fsencode, at.files))
        self._directories = tuple((os.fsencode(d), SUFFIX.encode()) for d in at.directories)
        self._ask()

    def want(self, roots: tuple[bytes, ...]) -> None:
        """These roots and no others."""
        self._roots = roots
        self._ask()

    def answered(self) -> list[Event | bytes]:
        """What has changed; bytes alone mean the configuration."""
        if self._channel is None:
            return []  # it was lost in the same round of the loop
        try:
            noticed = self._channel.received()
        except Closed:
            self._lost("it died")
            return list[Event | bytes](self._told())
        return [event for n in noticed for event in self._heard(n)]

    def due(self) -> float | None:
        times = (self._deadline, self._again, min(self._dead.values(), default=None))
        return min((t for t in times if t is not None), default=None)

    def advance(self, now: float) -> list[Event]:
        """Give up what does not answer; try again what did not.  What came of it."""
        if self._deadline is not None and now >= self._deadline:
            if self._about:
                self._dead[self._about] = now + _AGAIN
                self._say("warning", f"not watched: {_SILENT}", {"path": self._about})
            self._lost(_SILENT)
        revived = [path for path, at in self._dead.items() if now >= at]
        for path in revived:
            del self._dead[path]
        if revived or (self._again is not None and now >= self._again):
            self._ask()
        return self._told()

    def close(self) -> None:
        if self._child is not None and self._channel is not None:
            self._forget(self._channel.fileno())
            self._child.kill()
        self._child = self._channel = None
        self._deadline = self._again = None

    def _ask(self) -> None:
        self._again = None
        try:
            channel = self._channel or self._hire()
            self._number += 1
            wanted = Wanted(
                number=self._number,
                roots=tuple(r for r in self._roots if r not in self._dead),
                files=(*MAPS, *self._files),
                directories=self._directories,
                most=self._most,
            )
            channel.send(wanted, _SEND_SECONDS)
        except Closed:
            self._lost("it does not listen")
            return
        except PermdoctorError as e:
            self._lost(e.message)
            return
        self._deadline = time.monotonic() + PATIENCE

    def _hire(self) -> Channel[Noticed]:
        self._child = self._nursery.child(WATCHER)
        self._channel = Channel(self._child.sock, Noticed)
        self._watch(self._channel.fileno(), self)
        return self._channel

    def _lost(self, why: str) -> None:
        """Another one begins in a moment; what changes until it watches nobody sees."""
        self._say("debug", "the watching process is replaced", {"why": why})
        self.close()
        self._unseen = True
        self._news.append(Watched(paths=self._roots, dark=self._roots, why=f"the watcher: {why}"))
        self._again = time.monotonic() + _RESTART

    def _heard(self, noticed: Noticed) -> list[Event | bytes]:
        if noticed.about:
            self._about = noticed.about
            self._deadline = time.monotonic() + PATIENCE
            return []
        if noticed.done:
            if noticed.number != self._number:
                return []  # it was asked for more meanwhile
            self._done(noticed)
            unseen, self._unseen = self._unseen, False
            return [*self._told(), *(self._everything() if unseen else [])]
        if noticed.overflow:
            return self._everything()
        if not noticed.file:
            return [Changed(path=noticed.changed)]
        if noticed.changed in MAPS:
            return [MapsChanged(path=noticed.changed)]
        return [noticed.changed]

    def _everything(self) -> list[Event | bytes]:
        """What may have changed when it is not known what has."""
        return [CONFIGURATION, *(Changed(path=root) for root in self._roots)]

    def _told(self) -> list[Event]:
        news, self._news = self._news, []
        return news

    def _done(self, noticed: Noticed) -> None:
        self._deadline, self._about = None, b""
        silent = tuple(r for r in self._roots if r in self._dead)
        self._news.append(
            Watched(
                paths=self._roots,
                dark=(*noticed.dark, *silent),
                directories=noticed.watched,
                why=noticed.why or (f"{printable(silent[0])}: {_SILENT}" if silent else ""),
            )
        )
        if noticed.left_out:
            self._again = time.monotonic() + _AGAIN
        if noticed.left_out and not self._warned:
            self._say(
                "warning",
                "not everything can be watched: who mounts that is judged at each sweep",
                {
                    "why": printable(noticed.why),
                    "watched": noticed.watched,
                    "left": noticed.left_out + len(silent),
                },
            )
        self._warned = bool(noticed.left_out)
