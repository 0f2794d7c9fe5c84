"""A Subject: credentials, and the processes of a container that hold them.

Live subjects come from ``/proc/PID/status`` of every process of the container, one for each
distinct credential set; predicted ones from configuration, and say so.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Gid, Kgid, Uid


class Basis(StrEnum):
    """Where a fact comes from: a live process, or configuration."""

    LIVE = "live"
    PREDICTED = "predicted"


class Process(Struct, frozen=True, kw_only=True):
    """``pid`` is the host's, ``inside_pid`` the container's.  ``comm`` is untrusted bytes.
    ``via_exec`` marks a ``docker exec`` session (or its child).  ``start`` is field 22 of
    /proc/PID/stat in clock ticks since boot: with the pid it identifies the process.
    """

    pid: int
    comm: bytes
    inside_pid: int | None = None
    start: int = 0
    umask: int | None = None
    via_exec: bool = False


class Subject(Struct, frozen=True, kw_only=True):
    """Whose permissions are judged.

    ``inside_user``/``inside_group`` are names from the container's passwd and group, ``host_user``
    and ``host_group`` from the host's; empty where there is none.  ``processes`` is empty for a
    predicted subject.  ``attr`` is the LSM label (``/proc/PID/attr/current``), empty if none.
    """

    cred: Cred
    basis: Basis
    processes: tuple[Process, ...] = ()
    inside_user: str = ""
    inside_group: str = ""
    host_user: str = ""
    host_group: str = ""
    umask: int | None = None
    attr: str = ""
    seccomp: bool = False

    @property
    def uid(self) -> Uid | None:
        """The uid as the container sees it; ``None`` if its namespace does not map it."""
        return self.cred.userns.uid(self.cred.fsuid)

    @property
    def gid(self) -> Gid | None:
        return self.cred.userns.gid(self.cred.fsgid)

    @property
    def inside_groups(self) -> tuple[int, ...]:
        """Supplementary groups as the container sees them, sorted, unmapped ones left out."""
        gids = (self.cred.userns.gid(g) for g in self.cred.groups)
        return tuple(sorted(g for g in gids if g is not None))

    @property
    def host_groups(self) -> tuple[Kgid, ...]:
        return tuple(sorted(self.cred.groups))

    @property
    def label(self) -> str:
        """``1001:1001``, with the host's numbers where they differ: ``1000:1000 (host
        101000:101000)``.
        """
        cred = self.cred
        host = f"{cred.fsuid}:{cred.fsgid}"
        inside = f"{_number(self.uid)}:{_number(self.gid)}"
        return inside if inside == host else f"{inside} (host {host})"


def _number(id_: int | None) -> str:
    return "unmapped" if id_ is None else str(id_)
