"""One place of the filesystem, looked at as a process sees it: walked, and its tree read.

These functions run in a worker that can be given up (``deadline.py``): a filesystem that does not
answer must not stop the check of the others.  They take and return plain values.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec import Struct

from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import Tree, Walk
from permdoctor.host import scan, syscalls
from permdoctor.host.sharing import scan_tree
from permdoctor.host.view import View
from permdoctor.host.walker import cannot
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import capable_wrt, is_owner
from permdoctor.kernel.walk import Hop


class Where(Struct, frozen=True, kw_only=True):
    """Whose view: a process's (``start`` guards against a reused pid), or the host's own."""

    pid: int | None = None
    start: int | None = None


_OPEN_VIEWS: dict[Where, View] = {}
_MOST_OPEN = 8
"""Views that a worker keeps open: each holds descriptors, and one worker serves a whole check."""


def _view(where: Where) -> View:
    view = _OPEN_VIEWS.get(where)
    if view is None:
        while len(_OPEN_VIEWS) >= _MOST_OPEN:
            _OPEN_VIEWS.pop(next(iter(_OPEN_VIEWS))).close()
        host = where.pid is None
        view = View.of_host() if host else View.of_process(where.pid or 0, where.start)
        _OPEN_VIEWS[where] = view
    return view


def walk(where: Where, path: bytes, follow: bool = True) -> Walk:
    """The hops to a path.  Raises ``CannotCheckError``."""
    return _view(where).walk(path, follow=follow)


def read_file(where: Where, path: bytes, limit: int) -> bytes:
    """The beginning of a regular file.  Raises ``CannotCheckError``."""
    return _view(where).read_file(path, limit)


def identity(where: Where, path: bytes) -> tuple[int, int] | None:
    """(device, inode) of what a path leads to, ``None`` where it leads nowhere."""
    found = walk(where, path)
    return None if found.object is None else (found.dev, found.ino)


def tree(
    where: Where,
    root: Hop,
    subjects: tuple[Subject, ...],
    budget: scan.Budget,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Tree:
    """The classes of the tree below a directory that a walk came to.

    ``progress`` as for ``scan_tree``.  Raises ``CannotCheckError``.
    """
    view = _view(where)
    fd = view.open_dir(root.path)
    try:
        return scan_tree(
            fd,
            root.mount,
            budget,
            acl_matters=acl_matters(subjects, root.mount),
            workers=workers,
            progress=progress,
            mountpoints=mountpoints_below(view, root.path, syscalls.statx(fd).mnt_id),
        )
    except OSError as e:
        raise cannot(root.path, e) from e
    finally:
        os.close(fd)


def mountpoints_below(view: View, path: bytes, mnt_id: int) -> frozenset[bytes]:
    """What is mounted on a mount below a path, relative to that.

    Not what is mounted on another mount: the scan does not get there, and below the same path
    something else may be hidden under the mount.
    """
    above = path.rstrip(b"/") + b"/"
    return frozenset(
        m.mountpoint[len(above) :]
        for m in view.mounts
        if m.parent == mnt_id and m.mountpoint.startswith(above) and m.mountpoint != above
    )


def selinux_label(where: Where, path: bytes) -> str:
    """The security.selinux label of a directory, empty where there is none."""
    fd = _view(where).open(path)
    try:
        value = os.getxattr(f"/proc/self/fd/{fd}", "security.selinux")
    except OSError:
        return ""
    finally:
        os.close(fd)
    return value.rstrip(b"\0").decode("utf-8", "replace")


def acl_matters(subjects: tuple[Subject, ...], mount: Mount) -> Callable[[Inode], bool]:
    """Whether an ACL could change anything for one of them: never for the owner, nor where
    CAP_DAC_OVERRIDE counts anyway.
    """
    creds = tuple({s.cred for s in subjects})

    def matters(inode: Inode) -> bool:
        return any(
            not is_owner(c, inode) and not capable_wrt(c, inode, Cap.DAC_OVERRIDE) for c in creds
        )

    return matters
