"""Work in processes of its own, watched at its system calls (seccomp_unotify(2)).

The work and all that it forks stop at each of the watched calls, before the kernel does it, until
the watcher has said what becomes of it: it goes on, it fails with an errno, or it is only said to
have succeeded.  The watcher may do anything meanwhile: kill -9 one process or all, fill the disk,
unmount.  So a run can be ended between any two calls, evenly spread, and whichever the machine's
speed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import pickle
import platform
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from tests.lab.needs import MissingError, need_root

_X86 = {
    "write": 1, "pwrite64": 18, "writev": 20, "msync": 26, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86,
    "unlink": 87, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
    "fremovexattr": 199, "mkdirat": 258, "fchownat": 260, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "fchmodat": 268, "fallocate": 285, "pwritev": 296, "renameat2": 316,
    "pwritev2": 328, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "exit_group": 231,
}  # fmt: skip
_GENERIC = {
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
    "fremovexattr": 16, "mkdirat": 34, "unlinkat": 35, "linkat": 37, "renameat": 38,
    "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52, "fchmodat": 53,
    "fchownat": 54, "fchown": 55, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70,
    "fsync": 82, "fdatasync": 83, "exit_group": 94, "msync": 227, "renameat2": 276,
    "pwritev2": 287, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
}  # fmt: skip
NUMBERS: Final = {"x86_64": _X86, "aarch64": _GENERIC}.get(platform.machine(), {})
_NAMES = {number: name for name, number in NUMBERS.items()}

OWNER: Final = ("chown", "fchown", "lchown", "fchownat")
MODE: Final = ("chmod", "fchmod", "fchmodat", "fchmodat2")
XATTR: Final = tuple(n for n in _X86 if n.endswith(("xattr", "xattrat")))
TREE: Final = OWNER + MODE + XATTR
"""What changes a tree."""
SYNC: Final = ("fsync", "fdatasync", "msync")
EVERYTHING: Final = tuple(n for n in _X86 if n != "exit_group")

_SYS_SECCOMP: Final = {"x86_64": 317}.get(platform.machine(), 277)
_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5
_RET_ALLOW, _RET_NOTIFY = 0x7FFF0000, 0x7FC00000
_NOTIFY_RECV, _NOTIFY_SEND, _FLAG_CONTINUE = 0xC0502100, 0xC0182101, 1
_FAR = 8192
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_libc = ctypes.CDLL(None, use_errno=True)


class Call(NamedTuple):
    """One watched call that is about to be made.  ``number`` counts from 0 in its run."""

    number: int
    name: str
    pid: int
    args: tuple[int, ...]


class Lie(NamedTuple):
    """The call is not made; its caller is told this value."""

    value: int = 0


Answer = int | Lie | None
"""An errno to fail with, a :class:`Lie`, or ``None``: the call is made."""


class Ended(NamedTuple):
    """How a run ended.  ``value`` is what the work returned, ``error`` what it raised; both are
    ``None`` when its main process was killed.
    """

    calls: int
    seconds: float
    value: Any = None
    error: BaseException | None = None

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


class Run:
    """``work()`` in a session of its own, from now on until :meth:`end`."""

    def __init__(self, work: Callable[[], object], watched: Iterable[str] = ()) -> None:
        self.calls = 0
        self.started = time.monotonic()
        self._listener = -1
        self._killed: set[int] = set()
        self._watch = [NUMBERS[n] for n in watched if n in NUMBERS]
        if self._watch:
            need_root()
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            _child(work, theirs, self._watch)
        theirs.close()
        self._results = ours
        self._main = os.pidfd_open(self.pid)
        if self._watch:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            if not fds:
                self.kill()
                raise MissingError("seccomp user notification is not allowed here")
            self._listener = fds[0]

    def end(
        self,
        at: Callable[[Call], Answer] | None = None,
        *,
        after: float | None = None,
        late: Callable[[], None] | None = None,
        seconds: float = 60.0,
        leave: bool = False,
    ) -> Ended:
        """Wait until no process of the run is left (``leave``: until the main one has ended).

        ``at`` is asked about each watched call, ``late`` called ``after`` so many seconds.  A run
        that takes longer than ``seconds`` is killed, and ``TimeoutError`` raised.  Every process
        of the run has a descriptor of the results' socket, so its end is that of them all.
        """
        deadline = self.started + seconds
        alarm = None if after is None else self.started + after
        watch = {self._results.fileno(), self._main}
        if self._listener >= 0:
            watch.add(self._listener)
        poll = select.poll()
        for fd in watch:
            poll.register(fd, select.POLLIN)
        said = bytearray()
        while self._main in watch if leave else watch:
            now = time.monotonic()
            if alarm is not None and now >= alarm:
                alarm = None
                assert late is not None
                late()
                continue
            if now > deadline:
                self.kill()
                raise TimeoutError(f"the run has not ended within {seconds} seconds")
            until = deadline if alarm is None else min(alarm, deadline)
            for fd, event in poll.poll(max(0.0, until - now) * 1000 + 0.05):
                if fd == self._listener and event & select.POLLIN:
                    self._notice(at)
                    continue
                chunk = self._results.recv(1 << 20) if fd == self._results.fileno() else b""
                said += chunk
                if not chunk:
                    poll.unregister(fd)
                    watch.discard(fd)
        self._reap(said)
        value, error = pickle.loads(said) if said else (None, None)
        return Ended(self.calls, time.monotonic() - self.started, value, error)

    def members(self) -> list[int]:
        """The processes of the run that are alive, the main one first if it is."""
        found = [pid for pid in _session(self.pid) if pid != self.pid]
        return [self.pid, *found] if _alive(self.pid) else found

    def kill(self, *pids: int) -> None:
        """kill -9 of these, of all (twice: one may have forked meanwhile) without."""
        for pid in pids or (self.pid, *_session(self.pid), *_session(self.pid)):
            self._killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """kill -9 of whatever is left; waits for nobody."""
        self.kill()
        self._results.close()
        for fd in (self._listener, self._main):
            if fd >= 0:
                os.close(fd)
        self._listener = self._main = -1
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _notice(self, at: Callable[[Call], Answer] | None) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self._listener, _NOTIFY_RECV, notice)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR):
                return  # the caller died
            raise
        cookie, pid, _, number, _, _, *args = _NOTICE.unpack(notice)
        call = Call(self.calls, _NAMES[number], pid, tuple(args))
        self.calls += 1
        answer = at(call) if at is not None else None
        if pid in self._killed:
            return  # an answer could reach it before its death does
        match answer:
            case None:
                said = _ANSWER.pack(cookie, 0, 0, _FLAG_CONTINUE)
            case Lie(value):
                said = _ANSWER.pack(cookie, value, 0, 0)
            case _:
                said = _ANSWER.pack(cookie, 0, -answer, 0)
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(self._listener, _NOTIFY_SEND, said)

    def _reap(self, said: bytearray) -> None:
        """The main process has ended: what it said at last, and its status."""
        self._results.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while chunk := self._results.recv(1 << 20):
                said += chunk
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def run(work: Callable[[], object], **how: Any) -> Any:
    """``work()`` in a process of its own, unwatched: its value, or what it raised."""
    with Run(work) as r:
        return r.end(**how).get()


def _session(leader: int) -> list[int]:
    """Its processes, which have numbers after its own, or small ones when these begin anew."""
    return [pid for pid in _processes(leader) if _stat(pid)[1:] == (leader, True)]


def _alive(pid: int) -> bool:
    return _stat(pid)[2]


def _processes(leader: int) -> Iterator[int]:
    pids = (int(n) for n in os.listdir("/proc") if n.isdigit())
    return (pid for pid in pids if pid >= leader or pid < leader - _FAR)


def _stat(pid: int) -> tuple[int, int, bool]:
    """Parent, session, whether it is alive (no zombie)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0, False
    return int(fields[1]), int(fields[3]), fields[0] not in (b"Z", b"X")


def _child(work: Callable[[], object], results: socket.socket, watch: list[int]) -> None:
    """The main process's whole life."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if watch:
            try:
                listener = _install(watch)
            except OSError:
                results.send(b"n")
                os._exit(1)
            socket.send_fds(results, [b"y"], [listener])
            os.close(listener)
        try:
            said: tuple[object, BaseException | None] = (work(), None)
        except BaseException as e:
            said = (None, e)
        try:
            data = pickle.dumps(said)
        except Exception as e:
            data = pickle.dumps((None, RuntimeError(f"cannot be sent: {said!r}: {e}")))
        results.sendall(data)
    finally:
        os._exit(0)


def _install(numbers: list[int]) -> int:
    """A filter that hands these calls to whoever holds the descriptor returned."""
    code = [(0x20, 0, 0, 0)]  # A = seccomp_data.nr
    for n in numbers:
        code += [(0x15, 0, 1, n), (0x06, 0, 0, _RET_NOTIFY)]
    code.append((0x06, 0, 0, _RET_ALLOW))
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *c) for c in code))
    program = struct.pack("@HP", len(code), ctypes.addressof(text))
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        fd = int(
            _libc.syscall(
                ctypes.c_long(_SYS_SECCOMP),
                ctypes.c_long(_SET_MODE_FILTER),
                ctypes.c_long(flags),
                program,
            )
        )
        if fd >= 0:
            return fd
    raise OSError(ctypes.get_errno(), "seccomp")
