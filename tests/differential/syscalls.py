"""The system calls of the differential test, through ctypes.

Calls that set the scene raise ``OSError``; calls that are a case's operation return the errno,
0 for success.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EACCESS = 0x200
AT_EMPTY_PATH = 0x1000

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
_MOUNT_ATTR_IDMAP = 0x00100000

_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_FSPICK_EMPTY_PATH = 8
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE, _FSCONFIG_CMD_RECONFIGURE = (
    0,
    1,
    6,
    7,
)

_RESOLVE_IN_ROOT = 0x10

# The numbers above 423 are the same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _FSPICK = 428, 429, 430, 431, 432, 433
_OPENAT2, _FACCESSAT2, _MOUNT_SETATTR, _FCHMODAT2 = 437, 439, 442, 452

_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL, _FS_APPEND_FL = 0x10, 0x20

_PR_SET_DUMPABLE, _PR_SET_SECUREBITS = 4, 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2

_long = ctypes.c_long
_CAP_HEADER = struct.pack("=Ii", 0x20080522, 0)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _code(result: int) -> int:
    return 0 if result >= 0 else ctypes.get_errno()


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def make_mounts_private() -> None:
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")


def make_dumpable() -> None:
    """A change of ids made /proc/self/uid_map root's; give it back to the process."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def keep_caps_when_ids_change() -> None:
    """Change ids and capabilities independently of each other from now on."""
    _check(_libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "prctl(SECUREBITS)")


def permitted() -> int:
    """The calling process's permitted capabilities."""
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(_CAP_HEADER, data), "capget")
    low, high = struct.unpack_from("=4xI4x4xI4x", data)
    return int(low | high << 32)


def set_effective(effective: int, permitted_: int) -> None:
    data = struct.pack(
        "=IIIIII",
        effective & 0xFFFFFFFF,
        permitted_ & 0xFFFFFFFF,
        0,
        effective >> 32,
        permitted_ >> 32,
        0,
    )
    _check(_libc.capset(_CAP_HEADER, data), "capset")


def setfsids(uid: int, gid: int) -> None:
    """The call has no error to return: it is asked again what came of it."""
    c_uid, c_gid = ctypes.c_uint32(uid), ctypes.c_uint32(gid)
    _libc.setfsgid(c_gid)
    _libc.setfsuid(c_uid)
    nobody = ctypes.c_uint32(0xFFFFFFFF)
    if (_libc.setfsuid(nobody) ^ uid | _libc.setfsgid(nobody) ^ gid) & 0xFFFFFFFF:
        raise OSError(f"setfsuid({uid}), setfsgid({gid}) had no effect")


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def clone_mount(dir_fd: int, path: bytes, attributes: int, idmap_fd: int | None) -> int:
    """A detached bind mount of ``path``, as a descriptor of its root."""
    flags = os.O_CLOEXEC | _OPEN_TREE_CLONE
    tree = _check(_libc.syscall(_long(_OPEN_TREE), dir_fd, path, flags), "open_tree")
    if attributes or idmap_fd is not None:
        attr = _MountAttr(attr_set=attributes)
        if idmap_fd is not None:
            attr.attr_set |= _MOUNT_ATTR_IDMAP
            attr.userns_fd = idmap_fd
        size = ctypes.c_size_t(ctypes.sizeof(attr))
        result = _libc.syscall(
            _long(_MOUNT_SETATTR), tree, b"", AT_EMPTY_PATH, ctypes.byref(attr), size
        )
        if result < 0:
            code = ctypes.get_errno()
            os.close(tree)
            raise OSError(code, f"mount_setattr: {os.strerror(code)}")
    return tree


def new_tmpfs() -> int:
    """A detached tmpfs of the caller's user namespace."""
    fs = _check(_libc.syscall(_long(_FSOPEN), b"tmpfs", 1), "fsopen(tmpfs)")
    try:
        for key, value in ((b"size", b"64m"), (b"mode", b"0755")):
            _fsconfig(fs, _FSCONFIG_SET_STRING, key, value)
        _fsconfig(fs, _FSCONFIG_CMD_CREATE, None, None)
        return _check(_libc.syscall(_long(_FSMOUNT), fs, 1, 0), "fsmount")
    finally:
        os.close(fs)


def attach(tree: int, path: bytes) -> None:
    result = _libc.syscall(_long(_MOVE_MOUNT), tree, b"", AT_FDCWD, path, _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, "move_mount")


def reconfigure(path: bytes, *flags: bytes) -> None:
    """Change flags of the superblock (``ro``, ``noacl``); no mount's flag changes."""
    fs = _check(_libc.syscall(_long(_FSPICK), AT_FDCWD, path, 1), "fspick")
    try:
        for flag in flags:
            _fsconfig(fs, _FSCONFIG_SET_FLAG, flag, None)
        _fsconfig(fs, _FSCONFIG_CMD_RECONFIGURE, None, None)
    finally:
        os.close(fs)


def _fsconfig(fs: int, command: int, key: bytes | None, value: bytes | None) -> None:
    _check(_libc.syscall(_long(_FSCONFIG), fs, command, key, value, 0), f"fsconfig({key!r})")


def set_inode_flags(path: bytes, immutable: bool, append_only: bool) -> None:
    """FS_IOC_SETFLAGS on a regular file or a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _FS_IMMUTABLE_FL * immutable | _FS_APPEND_FL * append_only
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("=i", flags))
    finally:
        os.close(fd)


def faccessat2(path: bytes, mode: int) -> int:
    """With the effective ids, not following a last symlink."""
    flags = AT_EACCESS | AT_SYMLINK_NOFOLLOW
    return _code(_libc.syscall(_long(_FACCESSAT2), AT_FDCWD, path, mode, flags))


def fchmodat2(path: bytes, mode: int) -> int:
    """Not following a last symlink."""
    return _code(_libc.syscall(_long(_FCHMODAT2), AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW))


def resolve_in_root(root: int, path: bytes, nofollow: bool) -> int:
    """openat2 with O_PATH and RESOLVE_IN_ROOT: the walk and nothing else.

    EAGAIN: somebody renamed or mounted meanwhile.  ELOOP may be such an accident too: Linux walks
    again and goes on counting links.
    """
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if nofollow else 0)
    how = struct.pack("=QQQ", flags, 0, _RESOLVE_IN_ROOT)
    attempts = 0
    while True:
        fd = _libc.syscall(_long(_OPENAT2), root, path, how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            os.close(fd)
            return 0
        code = ctypes.get_errno()
        attempts += code == errno.ELOOP
        if code not in (errno.EAGAIN, errno.ELOOP) or attempts == 4:
            return code


_ARGV = (ctypes.c_char_p * 2)(b"x", None)
_ENVP = (ctypes.c_char_p * 1)(None)


def execveat(path: bytes) -> int:
    """Of an empty file: ENOEXEC is the answer where every permission was given."""
    return _code(_libc.execveat(AT_FDCWD, path, _ARGV, _ENVP, AT_SYMLINK_NOFOLLOW))


def detach(path: bytes) -> None:
    _check(_libc.umount2(path, 2), "umount -l")
