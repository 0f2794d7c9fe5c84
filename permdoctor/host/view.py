"""What one process sees of the filesystem: its root, its mounts, and paths as it would walk them.

The root is held by descriptor and nothing is ever resolved above it: openat2 with
RESOLVEIN_ROOT, or one component at a time without following.  A walk follows symlinks itself, as
``link_path_walk`` (``fs/namei.c``) would below that root; ``..`` at the root stays there.  Links
of /proc that are more than their text (``/proc/PID/root``) are followed as text.

Nothing is opened for reading but regular files and directories; all else is O_PATH.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from msgspec.structs import replace

from permdoctor.diagnosis.facts import Walk
from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.host import acl as acl_xattr
from permdoctor.host import inodes, machine, mounts, syscalls
from permdoctor.host.process import Proc
from permdoctor.host.procfs import userns_of
from permdoctor.host.walker import IN_ROOT, Walker, cannot
from permdoctor.kernel.filesystems import PSEUDO
from permdoctor.kernel.ids import INITIAL, UserNs
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.mountinfo import MountInfo, parse_mountinfo
from permdoctor.kernel.text import printable
from permdoctor.kernel.walk import Hop


class View:
    """The filesystem as a process sees it (``of_process``), as the host's first process does
    (``of_host``), or as we do ourselves (``ours``).

    Holds descriptors: close it, or use it as a context manager.  All calls that touch a
    filesystem may block on one that does not answer; ``deadline.Giveup`` is for that.
    """

    def __init__(self, *, root_fd: int, proc: Proc, userns: UserNs, mnt_ns: int | None) -> None:
        self.root_fd = root_fd
        self.pid = proc.pid
        self.userns = userns
        self._proc = proc
        self._mnt_ns = mnt_ns
        self._mounts: tuple[MountInfo, ...] | None = None
        self._by_id: dict[int, Mount] = {}
        self._owner: UserNs | None = None
        self._host_mounts: tuple[MountInfo, ...] | None = None

    @classmethod
    def of_process(cls, pid: int, start: int | None = None) -> View:
        """The root of ``/proc/PID/root``.  Raises ``ProcessGone`` (also when ``start`` does not
        match) and ``NotPermitted``: /proc/PID/root needs ptrace rights over the process.
        """
        with ExitStack() as held:
            proc = Proc(pid, start)
            held.callback(proc.close)
            root = proc.open("root", os.O_PATH | os.O_DIRECTORY)
            held.callback(os.close, root)
            mnt_ns = proc.open("ns/mnt")
            held.callback(os.close, mnt_ns)
            view = cls(root_fd=root, proc=proc, userns=userns_of(proc), mnt_ns=mnt_ns)
            held.pop_all()
        return view

    @classmethod
    def of_host(cls) -> View:
        """The host's root, also for a service that has mounts of its own.  Raises ``ProcessGone``
        and ``NotPermitted`` where there is no way to it.
        """
        return cls.of_process(machine.FIRST) if machine.has_own_mounts() else cls.ours()

    @classmethod
    def ours(cls) -> View:
        """Our own root, with our own mounts: where what we open is opened."""
        proc = Proc(os.getpid())
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(root_fd=root, proc=proc, userns=INITIAL, mnt_ns=None)

    def close(self) -> None:
        self._proc.close()
        for fd in (self.root_fd, self._mnt_ns):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.root_fd, self._mnt_ns = -1, None

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def mounts(self) -> tuple[MountInfo, ...]:
        """mountinfo, read once; paths are relative to the process's root."""
        if self._mounts is None:
            self._mounts = parse_mountinfo(self._proc.read("mountinfo"))
        return self._mounts

    @property
    def host_mounts(self) -> tuple[MountInfo, ...]:
        """``host_mountinfo``, read once."""
        if self._host_mounts is None:
            self._host_mounts = machine.host_mountinfo()
        return self._host_mounts

    # --- paths ---

    def walk(self, path: bytes, *, follow: bool = True) -> Walk:
        """The hops from the root to ``path``, as the kernel would go.

        A component that does not exist, or below something that is no directory, ends the walk
        with ``missing`` set.  ``follow=False`` does not follow a symlink that is the last
        component.  Raises ``CannotCheckError`` where *we* could not go on.
        """
        return Walker(self, _clean(path), follow).walk()

    def open(self, path: bytes, flags: int = os.O_PATH) -> int:
        """A descriptor of what ``path`` resolves to in this root (openat2 RESOLVEIN_ROOT)."""
        try:
            return syscalls.openat2(self.root_fd, _clean(path), flags, IN_ROOT)
        except OSError as e:
            raise cannot(path, e) from e

    def open_dir(self, path: bytes) -> int:
        """An O_PATH descriptor of a directory, to scan from."""
        return self.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def read_file(self, path: bytes, limit: int = 1 << 20) -> bytes:
        """At most ``limit`` bytes of a regular file; anything else is refused unopened."""
        held = self.open(path)
        try:
            status = os.fstat(held)
            if not stat.S_ISREG(status.st_mode):
                raise CannotCheckError(f"{printable(path)} is no regular file")
            mount = self.mount_of_fd(held, syscalls.statx(held))
            if not status.st_size or mount.sb.fstype in PSEUDO:
                return b""  # files of /proc and /sys act when they are read
            fd = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as f:
                return f.read(min(limit, status.st_size)) or b""
        except OSError as e:
            raise cannot(path, e) from e
        finally:
            os.close(held)

    # --- mounts ---

    def mount_of(self, info: MountInfo) -> Mount:
        """The mount of a line of ``mounts``.

        Asks at its mountpoint for ACL support and the id map; a mount that is covered there by
        another one is described without them (ACLs taken as supported, the map as unknown).
        """
        known = self._by_id.get(info.id)
        if known is not None:
            return known
        try:
            fd = syscalls.openat2(self.root_fd, info.mountpoint, os.O_PATH, IN_ROOT)
        except OSError:
            return self._describe(info, None)
        try:
            st = syscalls.statx(fd)
            return self.mount_of_fd(fd, st) if st.mnt_id == info.id else self._describe(info, None)
        except OSError:
            return self._describe(info, None)
        finally:
            os.close(fd)

    def mount_of_fd(self, fd: int, st: syscalls.Stat) -> Mount:
        """The mount that a descriptor is on; ``st`` is its statx."""
        known = self._by_id.get(st.mnt_id)
        if known is not None:
            return known
        is_link = stat.S_ISLNK(st.mode)
        acls = True if is_link else inodes.supports_acls(fd)
        info = self._find(st.mnt_id)
        if info is None:
            mount = self._unlisted(fd, st.dev, acls=acls)
        else:
            mount = self._describe(info, fd, acls=acls)
        if not is_link:
            self._by_id[st.mnt_id] = mount
        return mount

    def _find(self, mnt_id: int) -> MountInfo | None:
        """Mounts come and go: mountinfo is read again for an id it did not have."""
        for fresh in (False, True):
            if fresh:
                self._mounts = None
            found = next((m for m in self.mounts if m.id == mnt_id), None)
            if found is not None:
                return found
        return None

    def _unlisted(self, fd: int, dev: int, *, acls: bool) -> Mount:
        """The mount above a chroot is not in the process's mountinfo, its superblock may be."""
        device = (os.major(dev), os.minor(dev))
        listed = (*self.mounts, *self.host_mounts)
        like = next((m for m in listed if (m.major, m.minor) == device), None)
        userns = INITIAL if like is None else self._superblock_userns(like)
        return mounts.mount_of_fd(fd, like, userns, acls)

    def _describe(self, info: MountInfo, fd: int | None, *, acls: bool = True) -> Mount:
        idmap = mounts.read_idmap(fd, self._mnt_ns) if fd is not None and info.idmapped else None
        return mounts.mount_of(info, self._superblock_userns(info), idmap, acls)

    def _superblock_userns(self, info: MountInfo) -> UserNs:
        if self.userns.is_initial:
            return INITIAL
        if self._owner is None:
            self._owner = self._mnt_ns_owner()
        ours = frozenset((m.major, m.minor) for m in self.host_mounts)
        return mounts.superblock_userns(info, ours, self._owner)

    def _mnt_ns_owner(self) -> UserNs:
        """The user namespace that owns the mount namespace: the process's, or an ancestor."""
        if self._mnt_ns is None:
            return INITIAL
        try:
            fd = syscalls.ns_open(self._mnt_ns, syscalls.NS_GET_USERNS)
        except OSError:
            return INITIAL
        inum = os.fstat(fd).st_ino
        os.close(fd)
        at: UserNs | None = self.userns
        while at is not None and at.inum != inum:
            at = at.parent
        return at or self.userns

    def inode_of_fd(self, fd: int, st: syscalls.Stat, mount: Mount, *, acls: bool = True) -> Hop:
        """A hop without a path, for what ``fd`` holds.  Raises ``OSError``, ``ValueError``."""
        inode = inodes.inode_of(st, mount)
        if acls and mount.sb.acls and not stat.S_ISLNK(st.mode):
            default = inodes.read_acl(fd, acl_xattr.DEFAULT) if inode.is_dir else None
            inode = replace(inode, acl=inodes.read_acl(fd, acl_xattr.ACCESS), default_acl=default)
        return Hop(path=b"", inode=inode, mount=mount)


def _clean(path: bytes) -> bytes:
    if b"\0" in path:
        raise UsageError(f"{printable(path)} is no path: it has a NUL byte")
    return path or b"/"
