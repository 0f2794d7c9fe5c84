"""What inotify is asked to watch: the roots of mounts, and the files of a configuration.

Roots are looked for on the host (``hostroot.py``), and what is watched is what was opened,
whatever has the name meanwhile.  The files are ours to read, so they are watched where we see them,
and symlinks lead where they lead us.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final, Protocol

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from permdoctor.daemon.allowance import Room
from permdoctor.daemon.hostroot import HostRoot, directories, open_below, way_to

_FILE: Final = Mask(
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
_TREE: Final = Mask((_FILE & ~InotifyConstants.IN_CLOSE_WRITE) | InotifyConstants.IN_EXCL_UNLINK)
NO_ROOM: Final = "service.watch_max is reached"
_FULL: Final = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR)


class Watcher(Protocol):
    """Who owns the watches; ``tell`` may be called by inotify's thread."""

    inotify: InotifyFD
    room: Room
    host: HostRoot

    def step(self) -> None:
        """An event is looked at."""

    def tell(self, stirred: Watched | NewDirectory) -> None:
        """Something happened there."""

    def overflowed(self) -> None:
        """Events were lost, of all watches."""


class NewDirectory:
    """One that appeared in a root."""

    def __init__(self, root: Root, name: bytes) -> None:
        self.root, self.name = root, name


class Watched:
    """Some directories, watched together: what inotify tells of them comes here."""

    file = False

    def __init__(self, watcher: Watcher, path: bytes) -> None:
        self._watcher, self.path = watcher, path
        self._wds: set[WatchDescriptor] = set()
        self._stirred = False
        self.over = False
        self.why = ""
        """Why not all of it is watched; empty: it is."""

    def _watch(self, path: bytes, mask: Mask, below: int | None = None) -> WatchDescriptor | None:
        """``None``: it is not there, or not to be watched (``why``).  ``below`` as in ``Room``."""
        watcher = self._watcher
        if not watcher.room.make(below):
            self.why = NO_ROOM
            return None
        try:
            wd = watcher.inotify.add_callback(path, mask, self, CallbackId(id(self)))
        except OSError as e:
            self._failed(e)
            return None
        if wd < 0:  # watchdog says so of EACCES
            self.why = os.strerror(errno.EACCES)
            return None
        if wd not in self._wds:
            self._wds.add(wd)
            watcher.room.count(1)
        return wd

    def _failed(self, e: OSError) -> None:
        if e.errno in _FULL:
            self.why = f"inotify: {os.strerror(e.errno)}"
        elif e.errno == errno.ELOOP:
            self.why = "a symlink is on the way"
        elif e.errno not in _ABSENT:
            self.why = e.strerror or str(e)

    def end(self) -> None:
        """It is not wanted any more."""
        self.over = True
        self._leave()

    def _leave(self) -> None:
        wds, self._wds = self._wds, set()
        self._watcher.room.count(-len(wds))
        self._watcher.inotify.remove_callbacks([(wd, CallbackId(id(self))) for wd in wds])

    def _forget(self, wd: WatchDescriptor) -> bool:
        """Both threads may be about to."""
        try:
            self._wds.remove(wd)
        except KeyError:
            return False
        self._watcher.room.count(-1)
        return True

    def stir(self) -> None:
        """However much happens until it is told, it is one thing."""
        if not self._stirred:
            self._stirred = True
            self._watcher.tell(self)

    def settle(self) -> None:
        """It is told now."""
        self._stirred = False

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        if self._forget(wd):
            self.stir()

    def on_queue_overflow(self) -> None:
        self._watcher.overflowed()

    def on_event(self, event: InotifyEvent) -> None:
        self._watcher.step()
        if event.wd in self._wds and self._matters(event):
            self.stir()

    def _matters(self, event: InotifyEvent) -> bool:
        raise NotImplementedError


class Root(Watched):
    """A mount's root and the directories in it.  ``gone``: what has its name now, if anything, is
    not what is watched.
    """

    def __init__(self, watcher: Watcher, path: bytes) -> None:
        super().__init__(watcher, path)
        self.gone = False
        self._top: WatchDescriptor | None = None
        self._identity = (0, 0)
        self._deep = False
        watcher.room.roots[self] = None
        try:
            with watcher.host.open(path) as fd:
                status = os.fstat(fd)
                self._identity = status.st_dev, status.st_ino
                self._top = self._watch(way_to(fd), _TREE)
                self._deep = stat.S_ISDIR(status.st_mode)
        except OSError as e:
            self._failed(e)
        self.gone = self._top is None and not self.why

    def fill(self) -> None:
        """The directories in it, too."""
        if self._top is not None and self._deep:
            self._open(self._add_all)

    def add(self, name: bytes) -> None:
        """A directory that appeared in it, if it is still the same."""
        if not self.is_short:
            self._open(lambda fd: self._add(fd, name))

    def _open(self, do: Callable[[int], None]) -> None:
        """With what has its name now, if that is what is watched."""
        try:
            with self._watcher.host.open(self.path) as fd:
                status = os.fstat(fd)
                if (status.st_dev, status.st_ino) == self._identity:
                    do(fd)
        except OSError as e:
            self._failed(e)

    def _add_all(self, fd: int) -> None:
        for name in directories(fd):
            self._add(fd, name)
            if self.why:
                return

    @property
    def below(self) -> int:
        """How many directories in it are watched."""
        return len(self._wds) - (self._top in self._wds)

    @property
    def is_short(self) -> bool:
        """Whether it has no room for more directories, and will have none if it asks again."""
        room = self._watcher.room
        return (
            self.why == NO_ROOM
            and self._top is not None
            and (room.is_full and self.below >= room.share)
        )

    def give_up_one(self) -> bool:
        """One of its directories is not watched any more: somebody else needs the room."""
        wd = next((w for w in tuple(self._wds) if w != self._top), None)
        if wd is None or not self._forget(wd):
            return False
        self.why = NO_ROOM
        self._watcher.inotify.remove_callbacks([(wd, CallbackId(id(self)))])
        return True

    def end(self) -> None:
        self._watcher.room.roots.pop(self, None)
        super().end()

    def _add(self, fd: int, name: bytes) -> None:
        """What is no directory (any more), or another filesystem's, is passed over."""
        try:
            below = open_below(fd, name)
        except OSError as e:
            if e.errno in _FULL:
                self._failed(e)
            return
        try:
            self._watch(way_to(below), _TREE, self.below)
        finally:
            os.close(below)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self.gone = self.gone or wd == self._top
        super().on_watch_deleted(wd)

    def _matters(self, event: InotifyEvent) -> bool:
        if event.wd == self._top:
            self.gone = self.gone or event.is_move_self
            if event.is_directory and event.name and _appears(event):
                self._watcher.tell(NewDirectory(self, event.name))
        return True


class File(Watched):
    """A file that may be replaced, and need not be there; or, with a ``suffix``, a directory in
    which every file whose name ends so matters.

    What is watched is the nearest directory above it that exists, for the next name on the way.
    """

    file = True

    def __init__(self, watcher: Watcher, path: bytes, suffix: bytes = b"") -> None:
        super().__init__(watcher, path)
        self._suffix = suffix
        self._names: dict[WatchDescriptor, bytes] = {}
        self._within: WatchDescriptor | None = None
        self._arm()

    def settle(self) -> None:
        """What was on the way may be another one now."""
        self._leave()
        self._arm()
        super().settle()

    def _arm(self) -> None:
        self._names, self._within, self.why = {}, None, ""
        above, _, name = self.path.rpartition(b"/")
        while (wd := self._watch(above or b"/", _FILE)) is None and above and not self.why:
            above, _, name = above.rpartition(b"/")
        if wd is not None:
            self._names[wd] = name
        if self._suffix:
            self._within = self._watch(self.path, _FILE)

    def _matters(self, event: InotifyEvent) -> bool:
        name = event.name
        if not name:
            return bool(event.is_delete_self or event.is_move_self)
        if event.wd == self._within and name.endswith(self._suffix):
            return True
        return bool(self._names.get(event.wd) == name)


def _appears(event: InotifyEvent) -> bool:
    return bool(event.is_create or event.is_moved_to)
