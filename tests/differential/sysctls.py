"""``fs.protected_*``: read, varied between phases, and put back, whatever happens to us.

The values are the whole machine's.  Whoever varies them holds an exclusive lock; who cannot get
it runs with the values that are there.  A small process of its own puts them back when the test
ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from random import Random

from permdoctor.kernel.sysctls import Sysctls

_NAMES = ("protected_hardlinks", "protected_symlinks", "protected_fifos", "protected_regular")
_LEVELS = ((0, 1), (0, 1), (0, 1, 2), (0, 1, 2))


def read() -> Sysctls:
    return Sysctls(**{name: int(_read(name)) for name in _NAMES})


def draw(rng: Random) -> Sysctls:
    """On more often than off."""
    return Sysctls(
        **{
            name: rng.choice((*levels, *levels[1:]))
            for name, levels in zip(_NAMES, _LEVELS, strict=True)
        }
    )


def _read(name: str) -> str:
    with open(f"/proc/sys/fs/{name}") as f:
        return f.read().strip()


Setter = Callable[[Sysctls], bool]
"""Sets them; false, and nothing done, where that is not ours to do."""


def _write(values: Sysctls) -> bool:
    for name in _NAMES:
        with open(f"/proc/sys/fs/{name}", "w") as f:
            f.write(str(getattr(values, name)))
    return True


@contextlib.contextmanager
def varied() -> Iterator[Setter]:
    """What is set in here is put back at its end, and after a crash too."""
    lock = os.open("/proc/sys/fs/protected_symlinks", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = read()
            _write(before)
        except OSError:
            yield lambda values: False
            return
        with _guarded(before):
            yield _write
    finally:
        os.close(lock)


@contextlib.contextmanager
def _guarded(before: Sysctls) -> Iterator[None]:
    """A process that outlives us by a moment and writes the old values back."""
    ours, theirs = os.pipe()[::-1]
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(s, signal.SIG_IGN)
        os.close(ours)
        os.read(theirs, 1)
        _write(before)
        os._exit(0)
    os.close(theirs)
    try:
        yield
    finally:
        os.close(ours)
        os.waitpid(pid, 0)
