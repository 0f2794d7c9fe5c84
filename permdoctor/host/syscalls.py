"""Thin layer over the system calls that Python 3.11 lacks.  Nothing is decided here.

Each function is one call with the kernel's names, raises ``OSError`` naming the call, and keeps
no state.  Read-only, and calls that change only the calling process: what changes a file belongs
in ``repair/``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from typing import Final

from msgspec import Struct

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EACCESS: Final = 0x200
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

STATX_BASIC_STATS: Final = 0x07FF
STATX_BTIME: Final = 0x0800
STATX_MNT_ID: Final = 0x1000
STATX_MNT_ID_UNIQUE: Final = 0x4000
STATX_ATTR_IMMUTABLE: Final = 0x10
STATX_ATTR_APPEND: Final = 0x20
STATX_ATTR_MOUNT_ROOT: Final = 0x2000
STATX_SIZE: Final = 256

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_SET_NO_NEW_PRIVS: Final = 38

NS_GET_USERNS: Final = 0xB701
NS_GET_PARENT: Final = 0xB702
NS_GET_OWNER_UID: Final = 0xB704
NS_GET_MNTNS_ID: Final = 0x8008B705

_SYS_OPENAT2: Final = 437
_SYS_FACCESSAT2: Final = 439
_SYS_STATMOUNT: Final = 457
_SYS_CAPGET, _SYS_CAPSET = {"x86_64": (125, 126)}.get(platform.machine(), (90, 91))

_STATMOUNT_MNT_UIDMAP: Final = 0x2000
_STATMOUNT_MNT_GIDMAP: Final = 0x4000
_STATMOUNT_HEAD: Final = 512
_CAPABILITY_VERSION_3: Final = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long
_statx = libc.statx
_statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]


def _fail(call: str, name: bytes | None = None) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}", name)


def _long(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


class Stat(Struct, frozen=True, kw_only=True):
    """statx(2).  ``uid`` and ``gid`` are what stat(2) shows to us: 65534 where nothing maps.

    ``mode`` includes the type.  ``mnt_id`` is the id of mountinfo's first field.
    """

    mode: int
    uid: int
    gid: int
    nlink: int
    ino: int
    dev: int
    mnt_id: int
    attributes: int
    btime: tuple[int, int]


_STATX = struct.Struct("=IIQIIIHxxQ")
_STATX_BTIME = struct.Struct("=qI")


def statx(dirfd: int, name: bytes = b"") -> Stat:
    """Of ``name`` below ``dirfd`` (of ``dirfd`` itself if empty); never follows or automounts."""
    out = _statx_raw(dirfd, name, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
    _, _, attributes, nlink, uid, gid, mode, ino = _STATX.unpack_from(out, 0)
    major, minor = struct.unpack_from("=II", out, 136)
    (mnt_id,) = struct.unpack_from("=Q", out, 144)
    seconds, nanoseconds = _STATX_BTIME.unpack_from(out, 80)
    return Stat(
        mode=mode,
        uid=uid,
        gid=gid,
        nlink=nlink,
        ino=ino,
        dev=os.makedev(major, minor),
        mnt_id=mnt_id,
        attributes=attributes,
        btime=(seconds, nanoseconds),
    )


def unique_mnt_id(fd: int) -> int | None:
    """The mount's id that is never used again (Linux 6.8), ``None`` where there is none."""
    out = _statx_raw(fd, b"", STATX_MNT_ID_UNIQUE)
    (mask,) = struct.unpack_from("=I", out, 0)
    if not mask & STATX_MNT_ID_UNIQUE:
        return None
    return int(struct.unpack_from("=Q", out, 144)[0])


def _statx_raw(dirfd: int, name: bytes, mask: int) -> ctypes.Array[ctypes.c_char]:
    out = ctypes.create_string_buffer(STATX_SIZE)
    flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH
    if _statx(dirfd, name, flags, mask, out):
        raise _fail("statx", name)
    return out


def openat2(dirfd: int, name: bytes, flags: int, resolve: int) -> int:
    """openat2(2): a new descriptor, close-on-exec.  Never creates.  EAGAIN (a rename raced with
    ``..``) is tried again a few times, as the man page asks.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(32):
        fd = int(_syscall(_long(_SYS_OPENAT2), _long(dirfd), name, how, _long(len(how))))
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    raise _fail("openat2", name)


def faccessat2(name: bytes, mode: int) -> int:
    """0 or the errno of faccessat2(2) with AT_EACCESS: the effective ids and capabilities."""
    if not _syscall(_long(_SYS_FACCESSAT2), _long(AT_FDCWD), name, _long(mode), _long(AT_EACCESS)):
        return 0
    return ctypes.get_errno()


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    if libc.setns(fd, kind):
        raise _fail("setns")


def unshare(flags: int) -> None:
    """unshare(2)."""
    if libc.unshare(flags):
        raise _fail("unshare")


def prctl(option: int, value: int) -> None:
    """prctl(2)."""
    if libc.prctl(option, _long(value), _long(0), _long(0), _long(0)):
        raise _fail("prctl")


def capget() -> int:
    """The calling thread's permitted set, as a mask."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if _syscall(_long(_SYS_CAPGET), header, data):
        raise _fail("capget")
    _, low, _, _, high, _ = struct.unpack("=6I", data.raw)
    return int(high << 32 | low)


def capset(caps: int) -> None:
    """Effective and permitted become ``caps``, the inheritable set empty."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = caps & 0xFFFFFFFF, caps >> 32
    if _syscall(_long(_SYS_CAPSET), header, struct.pack("=6I", low, low, 0, high, high, 0)):
        raise _fail("capset")


def ns_open(fd: int, request: int) -> int:
    """ioctl_nsfs(2) NS_GET_USERNS or NS_GET_PARENT: a descriptor.  EPERM: outside our reach."""
    return fcntl.ioctl(fd, request)


def ns_owner_uid(fd: int) -> int:
    """ioctl_nsfs(2) NS_GET_OWNER_UID: who created this user namespace, as we see the uid."""
    return int(struct.unpack("=I", fcntl.ioctl(fd, NS_GET_OWNER_UID, bytes(4)))[0])


def statmount_idmap(mnt_id: int, mnt_ns: int | None) -> tuple[bytes, bytes] | None:
    """The two id maps of an idmapped mount, in the format of ``uid_map`` (statmount(2)).

    ``mnt_id`` is the unique id; ``mnt_ns`` a descriptor of the mount namespace it is in (``None``:
    ours).  ``None`` where the kernel (before 6.15) or our rights do not tell.  The right column
    is in ids of our user namespace.
    """
    try:
        ns_id = 0
        if mnt_ns is not None:
            (ns_id,) = struct.unpack("=Q", fcntl.ioctl(mnt_ns, NS_GET_MNTNS_ID, bytes(8)))
    except OSError:
        return None
    want = _STATMOUNT_MNT_UIDMAP | _STATMOUNT_MNT_GIDMAP
    request = struct.pack("=IIQQQ", 32, 0, mnt_id, want, ns_id)
    out = ctypes.create_string_buffer(1 << 16)
    if _syscall(_long(_SYS_STATMOUNT), request, out, _long(len(out)), _long(0)):
        return None
    if struct.unpack_from("=Q", out, 8)[0] & want != want:
        return None
    uid_lines, uid_at, gid_lines, gid_at = struct.unpack_from("=4I", out, 152)
    return _strings(out.raw, uid_lines, uid_at), _strings(out.raw, gid_lines, gid_at)


def _strings(out: bytes, count: int, at: int) -> bytes:
    """``count`` strings, each ended by NUL, as lines."""
    return b"\n".join(out[_STATMOUNT_HEAD + at :].split(b"\0", count)[:count])
