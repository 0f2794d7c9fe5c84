"""Every byte of metadata of a tree, and what differs between two such snapshots.

Taken without opening anything but directories (O_NOATIME), so no FIFO blocks and no atime moves.
Ids and ACLs are those that the reader's user namespace and mount show.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from permdoctor.kernel.text import printable

Xattrs = tuple[tuple[str, bytes], ...]


class Meta(NamedTuple):
    """One entry.  ``xattrs`` are all of them, the ACLs and file capabilities too.

    ``ctime_ns`` and ``atime_ns`` are compared only where that is asked.
    """

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    mtime_ns: int
    xattrs: Xattrs
    atime_ns: int
    ctime_ns: int


Snapshot = dict[bytes, Meta]
"""By path relative to the root; the root itself is ``b"."``."""

_TWICE = ("trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT")
"""The ACLs once more, as xfs stores them."""
_TIMES = ("atime_ns", "ctime_ns")


def take(root: bytes | str) -> Snapshot:
    """Of everything below ``root`` on its filesystem, other mounts left out."""
    found: Snapshot = {}
    path = os.fsencode(root)
    found[b"."] = meta(path)
    dev = os.lstat(path).st_dev
    pending = [(path, b"")]
    while pending:
        directory, prefix = pending.pop()
        for name in _names(directory):
            below = directory + b"/" + name
            st = os.lstat(below)
            if st.st_dev != dev:
                continue
            found[prefix + name] = meta(below, st)
            if stat.S_ISDIR(st.st_mode):
                pending.append((below, prefix + name + b"/"))
    return found


def _names(directory: bytes) -> list[bytes]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def meta(path: bytes, st: os.stat_result | None = None) -> Meta:
    """Of one entry, a symlink itself."""
    st = os.lstat(path) if st is None else st
    names = [n for n in sorted(os.listxattr(path, follow_symlinks=False)) if n not in _TWICE]
    return Meta(
        ino=st.st_ino,
        mode=st.st_mode,
        uid=st.st_uid,
        gid=st.st_gid,
        nlink=st.st_nlink,
        size=st.st_size,
        rdev=st.st_rdev,
        mtime_ns=st.st_mtime_ns,
        xattrs=tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in names),
        atime_ns=st.st_atime_ns,
        ctime_ns=st.st_ctime_ns,
    )


def differing(before: Snapshot, now: Snapshot, *, times: bool = False) -> set[bytes]:
    """The paths that are not the same; ``times``: atime and ctime count as well."""
    both = before.keys() & now.keys()
    keep = (lambda m: m) if times else (lambda m: m[:-2])
    return (before.keys() ^ now.keys()) | {p for p in both if keep(before[p]) != keep(now[p])}


def diff(before: Snapshot, now: Snapshot, *, times: bool = False, most: int = 12) -> str:
    """Empty if they are equal, else what is not, a line for each entry."""
    paths = sorted(differing(before, now, times=times))
    lines = [f"{printable(p)}: {_one(before.get(p), now.get(p), times)}" for p in paths[:most]]
    if len(paths) > most:
        lines.append(f"... {len(paths)} entries differ in all")
    return "\n".join(lines)


def _one(before: Meta | None, now: Meta | None, times: bool) -> str:
    if before is None or now is None:
        return "gone" if now is None else "new"
    return ", ".join(_fields(before, now, times))


def _fields(before: Meta, now: Meta, times: bool) -> Iterator[str]:
    for field in Meta._fields:
        old, new = getattr(before, field), getattr(now, field)
        if old == new or field == "xattrs" or (field in _TIMES and not times):
            continue
        show = oct if field == "mode" else str
        yield f"{field} {show(old)} -> {show(new)}"
    olds, news = dict(before.xattrs), dict(now.xattrs)
    for name in sorted(olds.keys() | news.keys()):
        if olds.get(name) != news.get(name):
            yield f"{name} {_hex(olds.get(name))} -> {_hex(news.get(name))}"


def _hex(value: bytes | None) -> str:
    return "none" if value is None else value.hex()[:80]
