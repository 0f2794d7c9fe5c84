"""The ``fs.protected_*`` sysctls (proc_sys_fs(5))."""

from __future__ import annotations

from msgspec import Struct


class Sysctls(Struct, frozen=True, kw_only=True):
    """Values as in ``/proc/sys/fs/protected_*``; the defaults are systemd's and Debian's."""

    protected_hardlinks: int = 1
    protected_symlinks: int = 1
    protected_fifos: int = 1
    protected_regular: int = 2
