"""Another program that is told: started without a shell, with a text on its stdin.

It gets a session of its own, an environment that holds nothing of ours, and so many seconds; then
it is killed with all that it started.  Of what it says the beginning is kept, for the error.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from permdoctor.alerts.sink import RetryError
from permdoctor.kernel.text import printable

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_SAID: Final = 4 << 10


class Ended(Struct, frozen=True, kw_only=True):
    """``status`` as subprocess has it; ``said`` is the beginning of its stderr."""

    status: int
    said: bytes


def run(argv: Sequence[str], text: bytes, environ: Mapping[str, str], *, timeout: float) -> Ended:
    """Raises ``RetryError`` if it cannot be started or does not end in time (seconds)."""
    deadline = time.monotonic() + timeout
    shown = printable(argv[0])
    with _stdin(text) as stdin:
        try:
            child = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PATH": PATH, "LC_ALL": "C.UTF-8", **environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError as e:
            raise RetryError(f"cannot start {shown}: {e.strerror}") from None
    try:
        said, ended = _until_ended(child, deadline)
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        status = child.wait()
        assert child.stderr is not None
        child.stderr.close()
    if not ended:
        raise RetryError(f"{shown} did not end within {timeout:g} s and was killed")
    return Ended(status=status, said=said)


@contextlib.contextmanager
def _stdin(text: bytes) -> Iterator[int]:
    """A file in memory: a child that does not read cannot make us wait."""
    fd = os.memfd_create("permdoctor-alert", os.MFD_CLOEXEC)
    try:
        os.write(fd, text)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _until_ended(child: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bool]:
    """The beginning of its stderr, and whether it ended.  What it started may live on and hold
    the pipe: not waited for.
    """
    assert child.stderr is not None
    said = b""
    pidfd = os.pidfd_open(child.pid)
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(pidfd, selectors.EVENT_READ)
            ready.register(child.stderr, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                fds = {key.fd for key, _ in ready.select(left)}
                if child.stderr.fileno() in fds:
                    if not (more := os.read(child.stderr.fileno(), 64 << 10)):
                        ready.unregister(child.stderr)
                    said = (said + more)[:MAX_SAID]
                elif pidfd in fds:
                    return said, True
    finally:
        os.close(pidfd)
    return said, False
