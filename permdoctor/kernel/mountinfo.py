"""``/proc/PID/mountinfo`` (proc_pid_mountinfo(5)): parsing, and finding the governing mount.

Paths stay bytes.  The kernel escapes space, tab, newline and backslash in octal and passes every
other byte through, ESC too.  ``root`` is relative to the *filesystem's* root, not a host path.
"""

from __future__ import annotations

import re

from msgspec import Struct

from permdoctor.kernel.numbers import number

DELETED = b"//deleted"


class MountInfo(Struct, frozen=True, kw_only=True):
    """One line.  ``options`` are the mount's own, ``super_options`` the superblock's."""

    id: int
    parent: int
    major: int
    minor: int
    root: bytes
    mountpoint: bytes
    options: tuple[bytes, ...]
    tags: tuple[bytes, ...]
    fstype: bytes
    source: bytes
    super_options: tuple[bytes, ...]

    @property
    def deleted(self) -> bool:
        """Whether the mounted directory or file has been removed since."""
        return self.root.endswith(DELETED)

    @property
    def read_only(self) -> bool:
        return b"ro" in self.options

    @property
    def sb_read_only(self) -> bool:
        return b"ro" in self.super_options

    @property
    def idmapped(self) -> bool:
        return b"idmapped" in self.options


_OCTAL = re.compile(rb"\\([0-7]{3})")


def unescape(field: bytes) -> bytes:
    r"""Undo ``\040`` and its like (``mangle_path``)."""
    return _OCTAL.sub(lambda m: bytes([int(m[1], 8) & 0xFF]), field)


def parse_mountinfo(text: bytes) -> tuple[MountInfo, ...]:
    """All lines, in the order of the file.  A line that is cut off or garbled is left out."""
    mounts = []
    for line in text.split(b"\n"):
        mount = _parse_line(line)
        if mount is not None:
            mounts.append(mount)
    return tuple(mounts)


def _parse_line(line: bytes) -> MountInfo | None:
    head, separator, tail = line.partition(b" - ")
    fields, after = head.split(b" "), tail.split(b" ")
    if not separator or len(fields) < 6 or len(after) < 3:
        return None
    try:
        major, minor = fields[2].split(b":")
        return MountInfo(
            id=number(fields[0]),
            parent=number(fields[1]),
            major=number(major),
            minor=number(minor),
            root=unescape(fields[3]),
            mountpoint=unescape(fields[4]),
            options=tuple(fields[5].split(b",")),
            tags=tuple(f for f in fields[6:] if f),
            fstype=unescape(after[0]),
            source=unescape(after[1]),
            super_options=tuple(b" ".join(after[2:]).split(b",")),
        )
    except ValueError:
        return None


_SLASH = ord("/")
_PATH_MAX = 4096
"""A mount's root may be longer: then not each of its beginnings is made."""


def is_beneath(path: bytes, top: bytes) -> bool:
    """Whether an absolute, clean path is ``top`` or lies below it."""
    return path == top or top == b"/" or path.startswith(top + b"/")


def governing(mounts: tuple[MountInfo, ...], path: bytes) -> MountInfo | None:
    """The mount that an absolute path lies on, found as the walk finds it: from the root mount
    into the first child on the way, and so on.

    Not simply the deepest mountpoint: a mount on ``/a`` covers what was mounted on ``/a/b`` before.
    """
    ids = {m.id for m in mounts}
    on_the_way = _on_the_way(mounts, path)
    tops = [m for m in on_the_way if m.parent not in ids or m.parent == m.id]
    at = max(reversed(tops), key=lambda m: len(m.mountpoint), default=None)
    passed: set[int] = set()
    while at is not None:
        passed.add(at.id)
        children = [m for m in on_the_way if m.parent == at.id and m.id not in passed]
        if not children:
            return at
        at = min(reversed(children), key=lambda m: len(m.mountpoint))
    return None


def _on_the_way(mounts: tuple[MountInfo, ...], path: bytes) -> list[MountInfo]:
    if len(path) > _PATH_MAX:
        return [m for m in mounts if is_beneath(path, m.mountpoint)]
    way = {b"/", path, *(path[:i] for i, c in enumerate(path) if c == _SLASH)}
    return [m for m in mounts if m.mountpoint in way]


def host_paths(
    mount: MountInfo, host: tuple[MountInfo, ...], inside: bytes = b""
) -> tuple[bytes, ...]:
    """Where the host sees ``inside`` (a path relative to the mount) of a container's mount.

    The host's mounts of the same device whose root is a prefix of this mount's root, best first:
    the longest matching root, which is the most specific place.  Empty when the host does not
    see it (a tmpfs of the container) or it was deleted.
    """
    if mount.deleted:
        return ()
    wanted = mount.root.rstrip(b"/") + (b"/" + inside if inside else b"") or b"/"
    found = []
    for m in host:
        if (m.major, m.minor) != (mount.major, mount.minor) or not is_beneath(wanted, m.root):
            continue
        rest = wanted[len(m.root.rstrip(b"/")) :].lstrip(b"/")
        path = m.mountpoint.rstrip(b"/") + (b"/" + rest if rest else b"") or b"/"
        if governing(host, path) is m:
            found.append((len(m.root), path))
    return tuple(p for _, p in sorted(found, key=lambda f: -f[0]))
