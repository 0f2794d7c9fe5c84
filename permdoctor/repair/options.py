"""How far a repair may go, and what it does only when asked."""

from __future__ import annotations

from msgspec import Struct

from permdoctor.errors import PermdoctorError


class CannotRepairError(PermdoctorError):
    """The repair was allowed, but the machine does not let it happen."""

    exit_status = 3


class Limits(Struct, frozen=True, kw_only=True):
    """``entries`` looked at and ``seconds`` taken by one survey, bytes of a plan; ``deadline`` is
    how long, in seconds, a worker may be silent before it is left behind.
    """

    entries: int = 5_000_000
    seconds: float = 3600.0
    plan_bytes: int = 2 << 30
    deadline: float = 30.0
    workers: int = 2


class Asked(Struct, frozen=True, kw_only=True):
    """What is done only on request.

    ``set_id``: change set-id files and files with capabilities too; they lose these, as chown(2)
    makes them.  ``symlinks``: change the owner of symlinks themselves.  ``force``: also on
    filesystems whose server decides, and on overlay.  ``protected`` are trees (resolved absolute
    paths) that nothing is repaired in, besides the host's own: the policy's and an engine's.
    """

    set_id: bool = False
    symlinks: bool = False
    force: bool = False
    protected: tuple[bytes, ...] = ()
