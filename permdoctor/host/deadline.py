"""Filesystem work that can be given up: it runs in a worker process with a deadline.

A dead NFS or FUSE server blocks stat(2) in the kernel, possibly beyond SIGKILL.  So nothing here
ever waits for a worker: one that is late is killed, left alone, and replaced when the next call
comes.  The functions are found by name in the worker (they must be importable) and their
arguments and results are pickled; a worker serves many calls and keeps its module's state.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Self, TypeVar

from permdoctor.errors import CannotCheckError
from permdoctor.host import syscalls

R = TypeVar("R")

_LENGTH = struct.Struct("=I")
_VALUE, _ERROR, _PROGRESS = "value", "error", "progress"


class NotAnswering(CannotCheckError):  # noqa: N818 - it is a state of the filesystem
    """The filesystem did not answer within the deadline."""


class Giveup:
    """Calls functions in a forked worker.  Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._pid = 0
        self._sock: socket.socket | None = None
        self._left_behind: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        fn: Callable[..., R],
        /,
        *args: object,
        seconds: float,
        progress: Callable[[int], None] | None = None,
        **kwargs: object,
    ) -> R:
        """``fn(*args, **kwargs)`` in the worker, or what it raised.

        ``seconds`` is how long it may be silent.  With ``progress`` the function is given a
        ``progress=`` argument of its own: each call of that reaches ours, and counts as a sign
        of life.  Raises ``NotAnswering`` after the deadline, ``CannotCheckError`` if the worker
        died or cannot be started, and what ``progress`` raises.
        """
        sock = self._sock or self._start()
        try:
            with _troubles(seconds):
                _send(sock, (fn, args, kwargs, progress is not None))
            while True:
                with _troubles(seconds):
                    kind, value = _receive(sock, time.monotonic() + seconds)
                if kind != _PROGRESS:
                    break
                if progress is not None:
                    progress(value)
        except BaseException:
            self._abandon()  # between question and answer
            raise
        if kind == _ERROR:
            raise value
        result: R = value
        return result

    def close(self) -> None:
        """Kills the worker, which only reads; waits for none that does not go at once."""
        if self._sock is not None:
            self._abandon()
        deadline = time.monotonic() + 0.1
        while self._left_behind and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.0005)

    def _start(self) -> socket.socket:
        self._reap()
        parent = os.getpid()
        with contextlib.ExitStack() as held:
            try:
                ours, theirs = socket.socketpair()
                held.callback(ours.close)
                held.callback(theirs.close)
                self._pid = os.fork()
            except OSError as e:
                raise CannotCheckError(f"cannot start a worker: {e.strerror}") from e
            held.pop_all()
        if not self._pid:
            ours.close()
            _work(theirs, parent)
        theirs.close()
        self._sock = ours
        return ours

    def _abandon(self) -> None:
        assert self._sock is not None
        self._sock.close()
        self._sock = None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._left_behind.add(self._pid)

    def _reap(self) -> None:
        for pid in tuple(self._left_behind):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._left_behind.discard(pid)


@contextlib.contextmanager
def _troubles(seconds: float) -> Iterator[None]:
    """What can happen to a worker, as our own errors."""
    try:
        yield
    except TimeoutError:
        raise NotAnswering(
            f"no answer within {seconds:g} seconds",
            hint="the filesystem's server may be down; look at `dmesg` and at the mount",
        ) from None
    except (EOFError, OSError):
        raise CannotCheckError("the worker that read the filesystem died") from None


def _work(sock: socket.socket, parent: int) -> NoReturn:
    """The worker's whole life.  Its own process group, so that its helpers die with it."""
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        while os.getppid() == parent:
            fn, args, kwargs, wants_progress = _receive(sock, None)
            if wants_progress:
                kwargs["progress"] = lambda n: _send(sock, (_PROGRESS, n))
            _answer(sock, fn, args, kwargs)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _answer(
    sock: socket.socket, fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, Any]
) -> None:
    try:
        answer: tuple[str, object] = (_VALUE, fn(*args, **kwargs))
    except Exception as e:  # noqa: BLE001 - it is raised again on the other side
        answer = (_ERROR, e)
    try:
        _send(sock, answer)
    except (pickle.PicklingError, TypeError, AttributeError) as e:
        _send(sock, (_ERROR, TypeError(f"{fn!r}: {answer[1]!r} cannot be sent: {e}")))


def _send(sock: socket.socket, message: object) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    sock.sendall(_LENGTH.pack(len(data)) + data)


def _receive(sock: socket.socket, deadline: float | None) -> Any:
    """Raises ``TimeoutError`` at the deadline, ``EOFError`` if the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size, deadline))
    return pickle.loads(_exactly(sock, length, deadline))  # noqa: S301 - our own process's


def _exactly(sock: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([sock], [], [], left)[0]:
                raise TimeoutError
        chunk = sock.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
