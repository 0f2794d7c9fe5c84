"""Watches directories and files with inotify, in a process of its own.

For each root: itself and the directories in it.  Looking at them may hang where a filesystem does
not answer, so nobody waits for this process; what it was about to look at it has said before
(``about``), and whoever gives it up can leave that out the next time.  Symlinks are not followed:
what a container puts there does not lead anywhere else.

Only what can change a verdict is asked for: names, owners, modes, ACLs; not contents.
"""

from __future__ import annotations

import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from permdoctor.daemon.channel import Channel, Closed

MASK: Final = Mask(
    InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MASK_ADD
)
_TREE: Final = Mask(
    (MASK & ~InotifyConstants.IN_CLOSE_WRITE)
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_EXCL_UNLINK
)
_FULL: Final = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SEND_SECONDS: Final = 10.0
_GATHER: Final = 0.02
"""Seconds for which what happens in one root is one thing."""

_MOST_A_SECOND: Final = 2000


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be watched from now on.  ``files`` are directories in which these names matter:
    a file that is replaced is another one.
    """

    roots: tuple[bytes, ...] = ()
    files: tuple[bytes, ...] = ()
    most: int = 4096


class Noticed(Struct, frozen=True, kw_only=True):
    """``changed`` paths, ``file`` if it is one of ``files``.  ``about``: what is looked at now.
    ``done``: all of ``Wanted`` was looked at; so many directories are watched, and ``left_out``
    roots are not, or not with all their directories, because of ``why``.  ``overflow``: events were
    lost.
    """

    changed: bytes = b""
    file: bool = False
    about: bytes = b""
    done: bool = False
    watched: int = 0
    left_out: int = 0
    why: str = ""
    overflow: bool = False


def watching(sock: socket.socket) -> None:
    """Serve until the service is done with us.  Raises ``Closed``."""
    channel: Channel[Wanted] = Channel(sock, Wanted)
    _Watcher(channel).run()


class _Watcher:
    """Two threads: inotify's own calls back, the other one does what has to be done."""

    def __init__(self, channel: Channel[Wanted]) -> None:
        self._channel = channel
        self._inotify = InotifyFD()
        self._inotify.daemon = True
        self._todo: queue.SimpleQueue[Wanted | Noticed | _NewDirectory | _Watched | None] = (
            queue.SimpleQueue()
        )
        self.pace = _Pace()
        self._roots: dict[bytes, _Root] = {}
        self._files: dict[bytes, _Files] = {}
        self._most = 0
        self._count = 0

    def run(self) -> None:
        self._inotify.start()
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            match self._todo.get():
                case Wanted() as wanted:
                    self._want(wanted)
                case _NewDirectory(root=root, path=path):
                    root.add(path)
                case _Watched() as stirred:
                    time.sleep(_GATHER)
                    self._say(stirred.noticed())
                case Noticed() as noticed:
                    self._say(noticed)
                case None:
                    return

    def _listen(self) -> None:
        """What the service wants comes at any time."""
        try:
            while True:
                self._todo.put(self._channel.wait())
        except Closed:
            self._todo.put(None)

    def _say(self, noticed: Noticed) -> None:
        self._channel.send(noticed, _SEND_SECONDS)

    def tell(self, noticed: Noticed | _NewDirectory | _Watched) -> None:
        """From inotify's thread."""
        self._todo.put(noticed)

    def room(self) -> bool:
        return self._count < self._most

    def counted(self, more: int) -> None:
        self._count += more

    @property
    def inotify(self) -> InotifyFD:
        return self._inotify

    def _want(self, wanted: Wanted) -> None:
        self._most = wanted.most
        for path in [p for p in self._roots if p not in set(wanted.roots)]:
            self._roots.pop(path).end()
        for path in [p for p in self._files if p not in set(wanted.files)]:
            self._files.pop(path).end()
        for path in wanted.files:
            if path not in self._files:
                self._files[path] = _Files(self, path)
        why = ""
        for path in wanted.roots:
            if path not in self._roots or self._roots[path].why:
                self._say(Noticed(about=path))
                if path in self._roots:
                    self._roots.pop(path).end()
                self._roots[path] = _Root(self, path)
            why = why or self._roots[path].why
        left_out = sum(bool(r.why) for r in self._roots.values())
        self._say(Noticed(done=True, watched=self._count, left_out=left_out, why=why))


class _NewDirectory(Struct, frozen=True):
    root: _Root
    path: bytes


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


class _Watched:
    """Some directories, watched together: what inotify tells of them comes here."""

    mask = MASK

    file = False

    def __init__(self, watcher: _Watcher, path: bytes) -> None:
        self._watcher, self._path = watcher, path
        self._paths: dict[WatchDescriptor, bytes] = {}
        self._stirred = False
        self.why = ""
        """Why not all of it is watched; empty: it is."""

    def _watch(self, path: bytes, mask: Mask | None = None) -> bool:
        if not self._watcher.room():
            self.why = "service.watch_max is reached"
            return False
        asked = self.mask if mask is None else mask
        try:
            wd = self._watcher.inotify.add_callback(path, asked, self, CallbackId(id(self)))
        except NotADirectoryError:
            return mask is None and self._watch(path, Mask(asked & ~InotifyConstants.IN_ONLYDIR))
        except OSError as e:
            if e.errno in _FULL:
                self.why = f"inotify: {os.strerror(e.errno)}"
            return False
        if wd not in self._paths:
            self._watcher.counted(1)
        self._paths[wd] = path
        return True

    def end(self) -> None:
        paths, self._paths = self._paths, {}
        self._watcher.counted(-len(paths))
        self._watcher.inotify.remove_callbacks([(wd, CallbackId(id(self))) for wd in paths])

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        if self._paths.pop(wd, None) is not None:
            self._watcher.counted(-1)

    def on_queue_overflow(self) -> None:
        self._watcher.tell(Noticed(overflow=True))

    def on_event(self, event: InotifyEvent) -> None:
        self._watcher.pace.step()
        directory = self._paths.get(event.wd)
        if directory is not None and self._matters(directory, event) and not self._stirred:
            self._stirred = True
            self._watcher.tell(self)

    def noticed(self) -> Noticed:
        """However much has happened since the last time, it is one thing."""
        self._stirred = False
        return Noticed(changed=self._path, file=self.file)

    def _matters(self, directory: bytes, event: InotifyEvent) -> bool:
        raise NotImplementedError


class _Root(_Watched):
    """A mount's root and the directories in it."""

    mask = _TREE

    def __init__(self, watcher: _Watcher, path: bytes) -> None:
        super().__init__(watcher, path)
        if not self._watch(path):
            return
        for name in _directories(path):
            if not self._watch(path + b"/" + name) and self.why:
                return

    def add(self, path: bytes) -> None:
        if self._paths:
            self._watch(path)

    def _matters(self, directory: bytes, event: InotifyEvent) -> bool:
        if event.is_directory and event.name and directory == self._path and _appears(event):
            self._watcher.tell(_NewDirectory(self, directory + b"/" + event.name))
        return True


class _Files(_Watched):
    """One file, by its directory: it may be replaced, and need not be there."""

    file = True

    def __init__(self, watcher: _Watcher, path: bytes) -> None:
        super().__init__(watcher, path)
        directory, _, self._name = path.rpartition(b"/")
        self._watch(directory or b"/")

    def _matters(self, directory: bytes, event: InotifyEvent) -> bool:
        return bool(event.name == self._name)


def _appears(event: InotifyEvent) -> bool:
    return bool(event.is_create or event.is_moved_to)


def _directories(path: bytes) -> Iterator[bytes]:
    """Names of the directories in it; none where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            yield from (e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return
