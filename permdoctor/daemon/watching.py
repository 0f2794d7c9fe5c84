"""Watches directories and files with inotify, in a process of its own.

For each root: itself and the directories in it.  Looking at them may hang where a filesystem does
not answer, so nobody waits for this process; what it was about to look at it has said before
(``about``), and whoever gives it up can leave that out the next time.

Only what can change a verdict is asked for: names, owners, modes, ACLs; not contents.  What is
watched how is in ``watches.py``.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
import warnings
from typing import Final

from msgspec import Struct
from watchdog.observers.inotify_c import InotifyFD

from permdoctor.daemon.allowance import Room
from permdoctor.daemon.channel import Channel, Closed
from permdoctor.daemon.hostroot import HostRoot
from permdoctor.daemon.watches import File, NewDirectory, Root, Watched

_SEND_SECONDS: Final = 10.0
_GATHER: Final = 0.02
"""Seconds for which what happens in one root is one thing."""

_SOON: Final = 0.5
_LATE: Final = 30.0
"""Seconds until a root is looked for again whose name is somebody else's now, or nobody's: twice
as many each time.
"""

_MOST_A_SECOND: Final = 2000


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be watched from now on.  ``files`` may be replaced, and need not be there; in the
    ``directories`` every file matters whose name has the suffix that comes with it.
    """

    number: int = 0
    roots: tuple[bytes, ...] = ()
    files: tuple[bytes, ...] = ()
    directories: tuple[tuple[bytes, bytes], ...] = ()
    most: int = 4096


class Noticed(Struct, frozen=True, kw_only=True):
    """``changed`` paths, ``file`` if it is one of ``files`` or ``directories``.  ``about``: what is
    looked at now.  ``done``: all of ``Wanted`` of that number was looked at; so many directories
    are watched.
    The ``dark`` roots are not, or not with all their directories; ``left_out`` counts those of
    them, and of the files, that should be and are not because of ``why``, and not because there is
    nothing.  ``overflow``: events were lost.
    """

    changed: bytes = b""
    file: bool = False
    about: bytes = b""
    done: bool = False
    number: int = 0
    watched: int = 0
    dark: tuple[bytes, ...] = ()
    left_out: int = 0
    why: str = ""
    overflow: bool = False


def watching(sock: socket.socket) -> None:
    """Serve until the service is done with us.  Raises ``Closed``."""
    channel: Channel[Wanted] = Channel(sock, Wanted)
    # a directory that is renamed within its root is watched already
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
    try:
        watcher = _Watcher(channel)
    except OSError as e:
        _cannot(channel, f"inotify: {e.strerror}")
    else:
        watcher.run()


def _cannot(channel: Channel[Wanted], why: str) -> None:
    """There is no inotify for us (fs.inotify.max_user_instances)."""
    while True:
        wanted = channel.wait()
        left_out = len(wanted.roots) + len(wanted.files)
        noticed = Noticed(
            done=True, number=wanted.number, dark=wanted.roots, left_out=left_out, why=why
        )
        channel.send(noticed, _SEND_SECONDS)


_Todo = Wanted | Watched | NewDirectory | Noticed | None


class _Watcher:
    """Two threads: inotify's own calls back, the other one does what has to be done."""

    def __init__(self, channel: Channel[Wanted]) -> None:
        self._channel = channel
        self.host = HostRoot()
        self.inotify = InotifyFD()
        self.inotify.daemon = True
        self.room = Room()
        self._todo: queue.SimpleQueue[_Todo] = queue.SimpleQueue()
        self._pace = _Pace()
        self._overflow = False
        self._delay = _SOON
        self._again: float | None = None
        self._number = 0
        self._roots: dict[bytes, Root] = {}
        self._files: dict[tuple[bytes, bytes], File] = {}

    def run(self) -> None:
        self.inotify.start()
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            for each in self._next():
                if each is None:
                    return
                self._do(each)
            if self._again is not None and time.monotonic() >= self._again:
                self._look_again()

    def _next(self) -> list[_Todo]:
        """What there is to be done; nothing when it is time to look again."""
        gone = any(r.gone for r in self._roots.values())
        if not gone or self._again is None:
            self._again = time.monotonic() + self._delay if gone else None
        wait = None if self._again is None else max(0.0, self._again - time.monotonic())
        try:
            first = self._todo.get(timeout=wait)
        except queue.Empty:
            return []
        if isinstance(first, Watched):
            time.sleep(_GATHER)
        return [first, *(self._todo.get() for _ in range(self._todo.qsize()))]

    def _do(self, todo: Wanted | Watched | NewDirectory | Noticed) -> None:
        match todo:
            case Wanted():
                self._want(todo)
            case NewDirectory(root=root, name=name):
                if self._roots.get(root.path) is root:
                    root.add(name)
            case Watched() if todo.over:
                pass
            case Watched():
                todo.settle()
                self._say(Noticed(changed=todo.path, file=todo.file))
            case Noticed():
                self._overflow = False
                self._say(todo)

    def _listen(self) -> None:
        """What the service wants comes at any time."""
        try:
            while True:
                self._todo.put(self._channel.wait())
        except Closed:
            self._todo.put(None)

    def _say(self, noticed: Noticed) -> None:
        self._channel.send(noticed, _SEND_SECONDS)

    # -- from inotify's thread ---------------------------------------------------------------

    def step(self) -> None:
        self._pace.step()

    def tell(self, stirred: Watched | NewDirectory) -> None:
        self._todo.put(stirred)

    def overflowed(self) -> None:
        """Every watch says so of the same overflow."""
        if not self._overflow:
            self._overflow = True
            self._todo.put(Noticed(overflow=True))

    # -- what is watched ---------------------------------------------------------------------

    def _want(self, wanted: Wanted) -> None:
        self._number, self.room.most = wanted.number, wanted.most
        files = dict.fromkeys([*((f, b"") for f in wanted.files), *wanted.directories])
        for path in [p for p in self._roots if p not in set(wanted.roots)]:
            self._roots.pop(path).end()
        for file in [f for f in self._files if f not in files]:
            self._files.pop(file).end()
        for file in files:
            if file not in self._files:
                self._files[file] = File(self, *file)
        known = self._roots
        again = [p for p in wanted.roots if p not in known or self._may_have_more(known[p])]
        for path in again:
            self._look_at(path)
        for path in again:
            self._fill(path)
        self._done()

    def _look_again(self) -> None:
        """What has changed until it is found nobody saw."""
        self._again, self._delay = None, min(2 * self._delay, _LATE)
        for path in [p for p, root in self._roots.items() if root.gone]:
            self._look_at(path)
            self._fill(path)
            if not self._roots[path].gone:
                self._delay = _SOON
                self._say(Noticed(changed=path))
        self._done()

    def _look_at(self, path: bytes) -> None:
        self._say(Noticed(about=path))
        if path in self._roots:
            self._roots.pop(path).end()
        self._roots[path] = Root(self, path)

    def _fill(self, path: bytes) -> None:
        self._say(Noticed(about=path))
        self._roots[path].fill()

    def _may_have_more(self, root: Root) -> bool:
        return bool(root.why) and not root.is_short

    def _done(self) -> None:
        whys = [w.why for w in (*self._roots.values(), *self._files.values()) if w.why]
        self._say(
            Noticed(
                done=True,
                number=self._number,
                watched=self.room.taken,
                dark=tuple(path for path, r in self._roots.items() if r.why or r.gone),
                left_out=len(whys),
                why=whys[0] if whys else "",
            )
        )


class _Pace:
    """So many events a second are looked at; whoever makes more fills the kernel's queue, and not
    our time.
    """

    def __init__(self) -> None:
        self._second, self._count = 0.0, 0

    def step(self) -> None:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._count = now, 0
        self._count += 1
        if self._count > _MOST_A_SECOND:
            time.sleep(max(0.0, self._second + 1.0 - now))
