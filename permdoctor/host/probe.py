"""Asks the kernel itself: a forked child becomes the subject, inside the container, and calls
faccessat2(2).

The child enters the mount and user namespace and the root of a process, takes the subject's ids
inside that user namespace and those of its capabilities that files ask for, and has then no more
rights than the subject.  It executes nothing, opens nothing, changes nothing; it is not in the
container's pid namespace, cannot be traced, and dies with us or at its deadline.

What access(2) cannot tell is said to be not probed: ownership (chmod, chown), and a sticky
directory's rule for deleting.  The child is outside of the container's LSM label and seccomp
filter, so a refusal by those does not show.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from enum import StrEnum
from typing import Final, NoReturn

from msgspec import Struct

from permdoctor.container.subject import Subject
from permdoctor.errors import CannotCheckError
from permdoctor.host import syscalls
from permdoctor.host.process import Proc
from permdoctor.kernel.caps import FILE_CAPS
from permdoctor.kernel.cred import Cred

OK: Final = "ok"


class Ask(StrEnum):
    """What may be asked of a path.  ``CREATE`` and ``DELETE`` are asked of the *directory*."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    LIST = "list"
    TRAVERSE = "traverse"
    CREATE = "create"
    DELETE = "delete"
    OWN = "own"


_R, _W, _X = os.R_OK, os.W_OK, os.X_OK
_MODES: Final = {
    Ask.READ: _R,
    Ask.WRITE: _W,
    Ask.EXECUTE: _X,
    Ask.LIST: _R,
    Ask.TRAVERSE: _X,
    Ask.CREATE: _W | _X,
    Ask.DELETE: _W | _X,
}
_NOTES: Final = {
    Ask.DELETE: "write and search permission on the directory; a sticky bit is not asked",
    Ask.OWN: "cannot be asked without changing something",
}


class Request(Struct, frozen=True, kw_only=True):
    """``path`` is absolute in the container.  ``want`` is one of :class:`Ask`, or its value."""

    path: bytes
    want: str


class Answer(Struct, frozen=True, kw_only=True):
    """``observed`` is ``ok`` or the errno's name, empty where it was not asked (see ``note``)."""

    path: bytes
    want: str
    observed: str
    note: str = ""


class _CannotBecome(Exception):  # noqa: N818 - never leaves this module
    """The child cannot take the subject's place; the message says why."""


def probe(
    pid: int,
    subject: Subject,
    requests: Iterable[Request],
    *,
    start: int | None = None,
    seconds: float = 5.0,
) -> tuple[Answer, ...]:
    """What the kernel says to the subject in the view of process ``pid``, one answer a request.

    ``start`` guards against a reused pid.  ``seconds`` is for all requests together; what had no
    answer by then says so.  Never raises for what the child could not do: that is a ``note``.
    """
    wanted = tuple(requests)
    observed: dict[int, str] = {}
    trouble = "no answer within its deadline"
    for kind, value in _ask(pid, start, subject.cred, wanted, seconds):
        if kind is None:
            trouble = value
        else:
            observed[kind] = value
    return tuple(_answer(r, observed.get(i), trouble) for i, r in enumerate(wanted))


def _answer(request: Request, observed: str | None, trouble: str) -> Answer:
    note = _NOTES.get(Ask(request.want), "")
    if observed is None and Ask(request.want) in _MODES:
        note = f"could not be asked: {trouble}"
    return Answer(path=request.path, want=request.want, observed=observed or "", note=note)


def _ask(
    pid: int, start: int | None, cred: Cred, requests: tuple[Request, ...], seconds: float
) -> list[tuple[int | None, str]]:
    """(index, observed) of each answer, or (``None``, why there are no more)."""
    answers, theirs = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if not child:
        _be_the_child(theirs, parent, pid, start, cred, requests)
    os.close(theirs)
    try:
        text = _read_until(answers, time.monotonic() + seconds)
    finally:
        os.close(answers)
        _dismiss(child)
    found: list[tuple[int | None, str]] = []
    for line in text.split(b"\n")[:-1]:
        number, _, value = line.decode("utf-8", "replace").partition(" ")
        found.append((int(number) if number != "-" else None, value))
    return found


def _read_until(fd: int, deadline: float) -> bytes:
    """What the child wrote before it ended or the time was over."""
    data = bytearray()
    while (left := deadline - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _dismiss(child: int) -> None:
    """Never waits for a child that hangs in the kernel."""
    for _ in range(50):
        with suppress(ChildProcessError):
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                os.kill(child, signal.SIGKILL)
                time.sleep(0.001)
                continue
        return


def _be_the_child(
    out: int, parent: int, pid: int, start: int | None, cred: Cred, requests: tuple[Request, ...]
) -> NoReturn:
    """The child's whole life: become the subject, ask, write, end."""
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _close_all_but(out)
        _become(pid, start, cred)
        if os.getppid() != parent:
            raise _CannotBecome("we are gone")
        for i, request in enumerate(requests):
            mode = _MODES.get(Ask(request.want))
            if mode is not None:
                code = syscalls.faccessat2(request.path, mode)
                name = errno.errorcode.get(code, str(code)) if code else OK
                os.write(out, b"%d %s\n" % (i, name.encode()))
    except (_CannotBecome, CannotCheckError, OSError) as e:
        os.write(out, b"- %s\n" % str(e).replace("\n", " ").encode("utf-8", "backslashreplace"))
    finally:
        os._exit(0)


def _close_all_but(out: int) -> None:
    os.closerange(3, out)
    os.closerange(out + 1, os.sysconf("SC_OPEN_MAX"))


def _become(pid: int, start: int | None, cred: Cred) -> None:
    """Enter the view, take the credentials, and check that they are what was asked for."""
    with Proc(pid, start) as proc, ExitStack() as held:

        def hold(name: str, flags: int = os.O_RDONLY) -> int:
            fd = proc.open(name, flags)
            held.callback(os.close, fd)
            return fd

        root = hold("root", os.O_PATH | os.O_DIRECTORY)
        mnt_ns, user_ns = hold("ns/mnt"), hold("ns/user")
        same_mnt = proc.ns_inum("mnt") == os.stat("/proc/self/ns/mnt").st_ino
        their_user = proc.ns_inum("user")
        same_user = their_user == os.stat("/proc/self/ns/user").st_ino
        if cred.userns.inum not in (0, their_user) and not (same_user and cred.userns.is_initial):
            raise _CannotBecome("the subject lives in another user namespace than the process")
        uid, gid, groups = _ids_inside(cred)
        if not same_mnt:
            syscalls.setns(mnt_ns, syscalls.CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(".")
        if not same_user:
            syscalls.setns(user_ns, syscalls.CLONE_NEWUSER)
    _take(uid, gid, groups, int(cred.effective & FILE_CAPS))


def _ids_inside(cred: Cred) -> tuple[int, int, list[int]]:
    """The ids as the subject's namespace calls them: setuid(2) takes no others."""
    uid, gid = cred.userns.uid(cred.fsuid), cred.userns.gid(cred.fsgid)
    groups = [cred.userns.gid(g) for g in sorted(cred.groups)]
    known = [int(g) for g in groups if g is not None]
    if uid is None or gid is None or len(known) != len(groups):
        raise _CannotBecome("an id of the subject has no place in its user namespace")
    return int(uid), int(gid), known


def _take(uid: int, gid: int, groups: list[int], caps: int) -> None:
    missing = caps & ~syscalls.capget()
    if missing:
        raise _CannotBecome("we lack a capability that the subject has")
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    syscalls.capset(caps)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    if (
        os.getresuid() != (uid, uid, uid)
        or os.getresgid() != (gid, gid, gid)
        or sorted(os.getgroups()) != sorted(groups)
        or syscalls.capget() != caps
    ):
        raise _CannotBecome("the subject's credentials could not be taken")
