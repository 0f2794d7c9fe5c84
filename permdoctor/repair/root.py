"""Where a repair may begin at all, and the descriptor it begins with.

The host's own places are refused by their names and by what they are, (device, inode): a bind
mount of /etc elsewhere is still /etc.  What the administrator allows is ``policy.py``'s business.
Everything here touches the filesystem in question: it is called in a worker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator

from msgspec import Struct

from permdoctor.diagnosis.system import ENGINES, EXACT, TREES, is_system
from permdoctor.errors import UsageError
from permdoctor.host import syscalls
from permdoctor.host.deadline import NotAnswering
from permdoctor.host.look import mountpoints_below
from permdoctor.host.view import View
from permdoctor.kernel.filesystems import FAKED_OWNERS, PSEUDO, SERVER_DECIDES, is_fuse
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.text import printable
from permdoctor.repair.options import Asked, CannotRepairError
from permdoctor.repair.planfile import Root

Identity = tuple[int, int]
"""(device, inode)."""

_NEVER = (*TREES, b"/usr", b"/run")
_BY_PATH = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


class OpenRoot(Struct, kw_only=True):
    """A root, held: a directory by its descriptor; a file by that of its directory and its
    ``name``, for whoever holds a file does not see whether the name still leads to it.

    ``ancestors`` are the identities of / and all directories down to it.
    """

    fd: int
    name: bytes
    root: Root
    is_dir: bool
    mount: Mount
    identity: Identity
    ancestors: tuple[Identity, ...]
    mountpoints: frozenset[bytes]


def open_root(path: bytes, *, expected: Identity = (0, 0), asked: Asked) -> OpenRoot:
    """Hold the object at an absolute path without a symlink in it.

    ``expected`` is what somebody else found there ((0, 0): nobody looked).  Raises
    ``UsageError`` for a place where nothing is repaired, ``CannotRepairError`` for one
    that cannot be.
    """
    _refuse_name(path)
    above, fd, ancestors = _descend(path)
    try:
        st = syscalls.statx(fd)
        identity = (st.dev, st.ino)
        _refuse_identity(path, (*ancestors, identity), asked.protected)
        if expected not in ((0, 0), identity):
            raise CannotRepairError(
                f"{printable(path)} is not what the container has there (inode {st.ino} of "
                f"{_device(st.dev)}, not {expected[1]} of {_device(expected[0])})",
                hint="something else is mounted over it on the host, or it was replaced",
            )
        if not (stat.S_ISDIR(st.mode) or stat.S_ISREG(st.mode)):
            raise UsageError(
                f"{printable(path)} is neither a directory nor a regular file",
                hint="sockets, devices and FIFOs are never changed",
            )
        with View.ours() as view:
            mount = view.mount_of_fd(fd, st)
            _refuse_mount(path, mount, force=asked.force, births=st.btime != (0, 0))
            below = mountpoints_below(view, path, st.mnt_id)
        is_dir = stat.S_ISDIR(st.mode)
        return OpenRoot(
            fd=os.dup(fd if is_dir else above),
            name=b"" if is_dir else path.rpartition(b"/")[2],
            root=Root(path=path, ino=st.ino, btime=st.btime, fstype=mount.sb.fstype),
            is_dir=is_dir,
            mount=mount,
            identity=identity,
            ancestors=tuple(ancestors),
            mountpoints=below,
        )
    except OSError as e:
        raise _cannot(path, e) from e
    finally:
        os.close(fd)
        os.close(above)


def lineage(path: bytes) -> tuple[Identity, tuple[Identity, ...]]:
    """The identity of what a path leads to, and of everything above it."""
    above, fd, ancestors = _descend(path)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
        os.close(above)
    return (status.st_dev, status.st_ino), tuple(ancestors)


@contextlib.contextmanager
def answering(place: bytes) -> Iterator[None]:
    """``NotAnswering`` with the name of what does not answer."""
    try:
        yield
    except NotAnswering as e:
        raise NotAnswering(f"{printable(place)}: {e.message}", hint=e.hint) from None


def _descend(path: bytes) -> tuple[int, int, list[Identity]]:
    """One component at a time, no symlinks: descriptors of the last directory and of the object,
    and who was passed on the way.
    """
    parts = [p for p in path.split(b"/") if p]
    if not path.startswith(b"/") or any(p in (b".", b"..") for p in parts):
        raise UsageError(f"{printable(path)} is no absolute path without . and ..")
    try:
        fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        above = os.dup(fd)
    except OSError as e:
        raise _cannot(b"/", e) from e
    passed: list[Identity] = []
    try:
        for part in parts:
            status = os.fstat(fd)
            passed.append((status.st_dev, status.st_ino))
            below = syscalls.openat2(fd, part, os.O_PATH | os.O_NOFOLLOW, _BY_PATH)
            os.close(above)
            above, fd = fd, below
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except OSError as e:
        os.close(fd)
        os.close(above)
        raise _cannot(path, e) from e
    return above, fd, passed


def _cannot(path: bytes, e: OSError) -> CannotRepairError:
    match e.errno:
        case errno.ELOOP:
            why = "there is a symlink on the way"
            hint = "name the place itself: readlink -f"
        case errno.ENOSYS:
            why = "this kernel has no openat2 (Linux 5.6)"
            hint = "permdoctor check still works"
        case _:
            why, hint = os.strerror(e.errno or 0), ""
    return CannotRepairError(f"cannot repair {printable(path)}: {why}", hint=hint or None)


def _refuse_name(path: bytes) -> None:
    if any(path == t or path.startswith(t + b"/") for t in _NEVER):
        raise _refused(path, "it belongs to the host itself")
    if is_system(path):
        raise _refused(path, "it belongs to the host or to an engine")


def _refuse_identity(path: bytes, way: tuple[Identity, ...], protected: tuple[bytes, ...]) -> None:
    """``way`` ends with the root itself."""
    own = way[-1]
    for place in (*EXACT, *_homes()):
        if _identity(place) == own:
            why = "a home directory itself" if place not in EXACT else "the host's own"
            raise _refused(path, f"it is {printable(place)}, {why}")
    for place in (*_NEVER, *protected):
        if _identity(place) in way:
            raise _refused(path, f"it is, or lies in, {printable(place)}")
    parts = [p for p in path.split(b"/") if p]
    for place in ENGINES:
        found = _identity(place)
        if found not in way:
            continue
        rest = parts[way.index(found) :]
        if not (b"volumes" in rest[:3] and b"_data" in rest):
            raise _refused(path, f"it lies in {printable(place)}, an engine's own")


def _homes() -> Iterator[bytes]:
    for account in pwd.getpwall():
        if account.pw_dir.startswith("/"):
            yield os.fsencode(account.pw_dir)


def _identity(place: bytes) -> Identity | None:
    try:
        status = os.stat(place)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _refused(path: bytes, why: str) -> UsageError:
    return UsageError(
        f"{printable(path)} is never repaired: {why}", hint="repair only what is mounted for it"
    )


def _refuse_mount(path: bytes, mount: Mount, *, force: bool, births: bool) -> None:
    fstype = mount.sb.fstype
    if mount.idmap is not None or mount.idmap_unknown:
        raise CannotRepairError(
            f"{printable(path)} is on an idmapped mount: what would be stored is not what is shown",
            hint="name the directory by its plain path on the host, with host ids",
        )
    if not births and not force:
        raise CannotRepairError(
            f"{printable(path)} is on {fstype} without birth times: a file that got the number of "
            "another could not be told from it",
            hint="say --force if nobody else makes files there now",
        )
    if fstype in PSEUDO:
        raise UsageError(f"{printable(path)} is on {fstype}: there is nothing to repair")
    if force or not (
        fstype in SERVER_DECIDES or fstype in FAKED_OWNERS or is_fuse(fstype) or fstype == "overlay"
    ):
        return
    raise CannotRepairError(
        f"{printable(path)} is on {fstype}, where owners and modes are not this kernel's alone",
        hint="repair it on the server, or say --force",
    )


def _device(dev: int) -> str:
    return f"{os.major(dev)}:{os.minor(dev)}"
