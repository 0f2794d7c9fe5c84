"""What we may do ourselves, and what must be known of a place before it is repaired."""

from __future__ import annotations

import os
import pwd
import stat

from permdoctor.errors import UsageError
from permdoctor.host.procfs import read_status
from permdoctor.kernel.caps import Cap, names
from permdoctor.kernel.text import printable
from permdoctor.repair.options import CannotRepairError

NEEDED = Cap.CHOWN | Cap.FOWNER | Cap.FSETID | Cap.DAC_OVERRIDE | Cap.SETFCAP
"""chown, chmod and setfacl of what is not ours, keeping and restoring set-id bits and file
capabilities, and the way there (capabilities(7)).
"""


def need_rights(what: str) -> None:
    """Raises ``CannotRepairError`` naming what is missing."""
    missing = NEEDED & ~read_status(os.getpid()).effective
    if not missing:
        return
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    raise CannotRepairError(
        f"{what} needs root's rights on files; {who} lacks {', '.join(names(missing))} here",
        hint="run it with sudo, on the host itself",
    )


def home_directories() -> frozenset[bytes]:
    """Those of all accounts that getpwent(3) lists; ``/`` is nobody's."""
    homes = (e.pw_dir.rstrip("/") for e in pwd.getpwall())
    return frozenset(os.fsencode(h) for h in homes if h.startswith("/"))


def place(path: bytes) -> tuple[bytes, bool]:
    """The path without symlinks, and whether a socket lies there.  To be called in a worker.

    Raises ``UsageError`` where there is nothing.
    """
    try:
        real = os.path.realpath(path, strict=True)
        return real, stat.S_ISSOCK(os.lstat(real).st_mode)
    except OSError as e:
        raise UsageError(f"{printable(path)}: {e.strerror}") from e
