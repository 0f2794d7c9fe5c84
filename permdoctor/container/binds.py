"""The mounts of a container that are somebody's: what was asked for joined with what is mounted.

For a running container mountinfo is the truth and inspect the intention; the deepest mountpoint
governs.  What the engine itself mounts (its /proc, /sys, /dev, resolv.conf, hosts, hostname) is
nobody's and left out, unless somebody asked for exactly that target.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from msgspec import Struct

from permdoctor.container.container import MountKind, RequestedMount
from permdoctor.container.needs import clean_path
from permdoctor.kernel.filesystems import PSEUDO
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.mountinfo import MountInfo, governing, is_beneath


class SourceState(StrEnum):
    """Of a bind's source on the host."""

    PRESENT = "present"
    MISSING = "missing"
    DELETED = "deleted"
    UNKNOWN = "unknown"


class Bind(Struct, frozen=True, kw_only=True):
    """One mount of the container.

    ``requested`` is ``None`` for a mount that only mountinfo shows, ``mounted`` for a container
    that does not run.  ``host_path`` is the real place on the host.
    """

    target: bytes
    requested: RequestedMount | None
    mounted: MountInfo | None
    mount: Mount
    host_path: bytes | None = None
    source_state: SourceState = SourceState.UNKNOWN

    @property
    def kind(self) -> MountKind:
        if self.requested is not None:
            return self.requested.kind
        if self.mounted is not None and self.mounted.fstype == b"tmpfs":
            return MountKind.TMPFS
        return MountKind.BIND

    @property
    def read_only(self) -> bool:
        """Read-only by the mount's or the superblock's flag, or as it will be mounted."""
        return self.mount.read_only or self.mount.sb.read_only

    @property
    def fstype(self) -> str:
        return self.mount.sb.fstype


ENGINE_FILES = frozenset(
    {
        b"/etc/resolv.conf",
        b"/etc/hosts",
        b"/etc/hostname",
        b"/.dockerenv",
        b"/run/.containerenv",
        b"/sbin/docker-init",
        b"/dev/init",
        b"/run/podman-init",
    }
)
ENGINE_TREES = (b"/proc", b"/sys", b"/dev")


def mounts_of(
    requested: tuple[RequestedMount, ...], mountinfo: tuple[MountInfo, ...]
) -> tuple[tuple[bytes, RequestedMount | None, MountInfo | None], ...]:
    """(target, requested, mounted) for each mount of a *running* container, by target.

    A device that was asked for may be a plain node in the container's /dev instead of a mount:
    then ``mounted`` is the mount it lies on.  A requested mount that is not there any more has
    no ``mounted``.
    """
    wanted = {clean_path(r.target): r for r in requested}
    rows: dict[bytes, tuple[bytes, RequestedMount | None, MountInfo | None]] = {}
    for m in mountinfo:
        asked = wanted.get(m.mountpoint)
        if governing(mountinfo, m.mountpoint) is not m:
            continue
        if asked is not None or _is_somebodys(m, mountinfo, wanted):
            rows[m.mountpoint] = (m.mountpoint, asked, m)
    for target, r in wanted.items():
        if target not in rows:
            on = governing(mountinfo, target) if r.kind is MountKind.DEVICE else None
            rows[target] = (target, r, on)
    return tuple(rows[t] for t in sorted(rows))


def _is_somebodys(
    m: MountInfo, mountinfo: tuple[MountInfo, ...], wanted: Collection[bytes]
) -> bool:
    """Whether a mount that nobody asked for is worth judging.

    An overlay that came along with a bind of a directory above is another container's root.
    """
    if (
        m.mountpoint == b"/"
        or m.mountpoint in ENGINE_FILES
        or any(is_beneath(m.mountpoint, t) for t in ENGINE_TREES)
        or m.fstype.decode("utf-8", "replace") in PSEUDO
    ):
        return False
    return not any(
        o.fstype == b"overlay"
        and o.mountpoint not in wanted
        and is_beneath(m.mountpoint, o.mountpoint)
        for o in mountinfo
        if o.mountpoint != b"/"
    )


def covering(binds: tuple[Bind, ...], path: bytes) -> Bind | None:
    """The bind that a path of the container lies on: the deepest."""
    best: Bind | None = None
    for b in binds:
        if is_beneath(path, b.target) and (best is None or len(b.target) > len(best.target)):
            best = b
    return best
