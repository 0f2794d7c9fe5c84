"""The process that forks the service's workers, so that a process with threads never forks.

Started before the first thread, it imports what workers need once; a worker is then there within
milliseconds and shares its memory.  It answers each request (with the worker's end of a socket)
with a pidfd: who is killed by that is never somebody else.  Both have a number, so that an answer
that came too late is not taken for the next one.

When the service dies, so does the nursery, and with it all workers (PR_SET_PDEATHSIG): nothing is
left behind by ``kill -9``.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from permdoctor.daemon.channel import Closed
from permdoctor.errors import CannotCheckError
from permdoctor.host import syscalls
from permdoctor.kernel.text import printable

CHECKER: Final = b"c"
WATCHER: Final = b"w"
_ANSWER_SECONDS: Final = 10.0
"""Two who ask one after the other wait for less than what makes the loop count as stuck."""

_NUMBER: Final = struct.Struct("=Q")
_MOST: Final = 512
"""Bytes of an answer: its number, and why there is no worker (nothing: there is one)."""

_RESET: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)

Work = Callable[[socket.socket], None]


class Child:
    """A worker, as the service sees it: its end of the socket, and a hold on the process."""

    def __init__(self, sock: socket.socket, pidfd: int) -> None:
        self.sock, self._pidfd = sock, pidfd

    def signal(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """And let go of it: one that cannot die (in the kernel) is left alone."""
        self.signal(signal.SIGKILL)
        self.release()

    def release(self) -> None:
        self.sock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class Nursery:
    """The service's side.  To be made while there is one thread."""

    def __init__(self, works: dict[bytes, Callable[[], Work]]) -> None:
        """``works`` are the kinds of workers; each imports its modules when it is asked for."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            _nurse(theirs, works, parent)
        theirs.close()
        self._sock = ours
        self._pidfd = os.pidfd_open(self._pid)
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def fileno(self) -> int:
        """Readable when it has died (pidfd_open(2)).  Not its socket: there a thread may be waiting
        for the answer that makes it readable.
        """
        return self._pidfd

    def child(self, kind: bytes) -> Child:
        """A new worker.  Raises ``CannotCheckError`` if there is none to be had."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs, self._lock:
                pidfd = self._asked(kind, theirs.fileno())
        except OSError as e:
            ours.close()
            raise CannotCheckError(f"cannot start a worker: {e.strerror or 'no answer'}") from e
        except BaseException:
            ours.close()
            raise
        return Child(ours, pidfd)

    def _asked(self, kind: bytes, fd: int) -> int:
        """Its pidfd.  Who is given up here finds nobody at the end of its socket, and ends."""
        number = _NUMBER.pack(next(self._numbers))
        end = time.monotonic() + _ANSWER_SECONDS
        self._sock.settimeout(_ANSWER_SECONDS)
        socket.send_fds(self._sock, [number, kind], [fd])
        while True:
            self._sock.settimeout(max(0.001, end - time.monotonic()))
            said, fds, _, _ = socket.recv_fds(self._sock, _MOST, 1, socket.MSG_CMSG_CLOEXEC)
            if not said:
                raise CannotCheckError("cannot start a worker: the nursery died")
            if not said.startswith(number):
                for late in fds:
                    os.close(late)
                continue
            if not fds:
                why = said[_NUMBER.size :].decode("utf-8", "replace")
                raise CannotCheckError(f"cannot start a worker: {why or 'no descriptor is free'}")
            return fds[0]

    def close(self) -> None:
        """Ends it and all workers; waits for it."""
        self._sock.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        os.close(self._pidfd)


def _nurse(sock: socket.socket, works: dict[bytes, Callable[[], Work]], parent: int) -> NoReturn:
    """Its whole life.  A session of its own: Ctrl-C is for the service alone."""
    try:
        _alone(sock)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
        ready = {kind: prepare() for kind, prepare in works.items()}
        gc.collect()
        gc.freeze()
        while os.getppid() == parent:
            asked, fds, _, _ = socket.recv_fds(sock, 16, 1)
            if not asked or not fds:
                break
            number, kind = asked[: _NUMBER.size], asked[_NUMBER.size :]
            _bear(sock, number, fds[0], ready[kind])
    except BaseException as e:  # noqa: BLE001 - nobody is above us
        _complain("the nursery", e)
    finally:
        os._exit(0)


def _alone(sock: socket.socket) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep = sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))


def _bear(sock: socket.socket, number: bytes, fd: int, work: Work) -> None:
    nurse = os.getpid()
    try:
        pid = os.fork()
    except OSError as e:
        os.close(fd)
        sock.send(number + (e.strerror or str(e)).encode())
        return
    if not pid:
        _live(sock, fd, work, nurse)
    os.close(fd)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as e:
        sock.send(number + (e.strerror or str(e)).encode())
        return
    socket.send_fds(sock, [number], [pidfd])
    os.close(pidfd)


def _live(sock: socket.socket, fd: int, work: Work, nurse: int) -> NoReturn:
    try:
        sock.close()
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == nurse:
            work(socket.socket(fileno=fd))
    except (Closed, KeyboardInterrupt):
        pass
    except BaseException as e:  # noqa: BLE001 - nobody is above us
        _complain("a worker", e)
    finally:
        os._exit(0)


def _complain(who: str, e: BaseException) -> None:
    """One line for the journal, whatever the error says."""
    why = printable(f"{type(e).__name__}: {e}")[:_MOST]
    os.write(2, f"permdoctor: {who} ended: {why}\n".encode())
