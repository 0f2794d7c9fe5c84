"""The operations that programs are refused: open, create, unlink, rename, chmod, chown, ...

Each is the list of its checks in the kernel's order; the first refusal is the answer, and its
errno is what the process gets.  They mirror ``fs/namei.c``, ``fs/open.c``, ``fs/attr.c`` and
``fs/posix_acl.c`` of Linux 6.12 and later, *after* the path walk (``walk.py``).

Steps say in ``about`` which inode they mean: ``object`` or ``parent``; for rename and link also
``new-parent`` and ``target``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.kernel.acl import Acl, AclEntry, Tag
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Gid, Kgid, Kuid, Uid
from permdoctor.kernel.inode import S_ISGID, S_ISUID, S_ISVTX, FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import (
    capable_wrt,
    is_owner,
    owner_or_capable,
    permission,
    why_not_capable,
)
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Errno, Outcome, Rule, Step, Verdict, Want

P = ParamSpec("P")
Checks = Iterator[Verdict]


def _in_order(checks: Callable[P, Checks]) -> Callable[P, Verdict]:
    """Make an operation of its checks: ask one after the other, stop at the first refusal."""

    @wraps(checks)
    def operation(*args: P.args, **kwargs: P.kwargs) -> Verdict:
        steps: list[Step] = []
        for verdict in checks(*args, **kwargs):
            steps.extend(verdict.steps)
            if not verdict.allowed:
                return Verdict(errno=verdict.errno, steps=tuple(steps))
        return Verdict(errno=None, steps=tuple(steps))

    return operation


_PASSED = Verdict(errno=None)


def _refuse_if(
    refused: bool,
    rule: Rule,
    code: Errno,
    about: str = "object",
    *,
    id_: int | None = None,
    cap: Cap = Cap.NONE,
    why: str = "",
) -> Verdict:
    if not refused:
        return _PASSED
    step = Step(rule=rule, outcome=Outcome.REFUSES, about=about, id=id_, cap=cap, why=why)
    return Verdict(errno=code, steps=(step,))


def _mount_writable(mount: Mount, about: str = "object") -> Checks:
    """``mnt_want_write``: the mount's own flag, then the superblock's."""
    yield _refuse_if(mount.read_only, Rule.MOUNT_READ_ONLY, Errno.EROFS, about)
    yield _refuse_if(mount.sb.read_only, Rule.SB_READ_ONLY, Errno.EROFS, about)


def _ids_valid(inode: Inode, code: Errno, about: str = "object") -> Verdict:
    return _refuse_if(inode.uid is None or inode.gid is None, Rule.UNMAPPED, code, about)


def _not_fixed(inode: Inode, about: str = "object") -> Checks:
    """Neither immutable nor append-only."""
    yield _refuse_if(inode.immutable, Rule.IMMUTABLE, Errno.EPERM, about)
    yield _refuse_if(inode.append_only, Rule.APPEND_ONLY, Errno.EPERM, about)


def _must_own(cred: Cred, inode: Inode, about: str = "object") -> Verdict:
    """``inode_owner_or_capable``."""
    if is_owner(cred, inode):
        step = Step(rule=Rule.OWNER, outcome=Outcome.GRANTS, about=about, id=inode.uid)
        return Verdict(errno=None, steps=(step,))
    if owner_or_capable(cred, inode):
        step = Step(rule=Rule.CAPABILITY, outcome=Outcome.GRANTS, about=about, cap=Cap.FOWNER)
        return Verdict(errno=None, steps=(step,))
    return _refuse_if(
        True,
        Rule.NOT_OWNER,
        Errno.EPERM,
        about,
        id_=inode.uid,
        cap=Cap.FOWNER,
        why="uid-unmapped" if cred.has(Cap.FOWNER) else "absent",
    )


def _representable(cred: Cred, mount: Mount, about: str) -> Verdict:
    """``fsuidgid_has_mapping``: can the filesystem store the subject's ids at all?"""
    ns = mount.sb.userns
    uid, gid = mount.stored_uid(cred.fsuid), mount.stored_gid(cred.fsgid)
    if not ns.has_uid(uid):
        return _refuse_if(
            True, Rule.UNREPRESENTABLE, Errno.EOVERFLOW, about, id_=cred.fsuid, why="uid"
        )
    return _refuse_if(
        not ns.has_gid(gid),
        Rule.UNREPRESENTABLE,
        Errno.EOVERFLOW,
        about,
        id_=cred.fsgid,
        why="gid",
    )


@_in_order
def access(cred: Cred, inode: Inode, mount: Mount, want: Want) -> Checks:
    """faccessat2(2) with AT_EACCESS (``do_faccessat``): the mount's ro flag comes *after* DAC."""
    if want & Want.X and inode.type is FileType.REGULAR:
        yield _refuse_if(mount.noexec, Rule.NOEXEC, Errno.EACCES)
    yield permission(cred, inode, mount, want, "object")
    if want & Want.W and not inode.type.is_special:
        yield from _mount_writable(mount)


class OpenFlags(Struct, frozen=True, kw_only=True):
    """The flags of open(2) that take part in the decision; ``want`` is R, W or both."""

    want: Want
    create: bool = False
    exclusive: bool = False
    truncate: bool = False
    append: bool = False
    noatime: bool = False
    directory: bool = False


@_in_order
def open_existing(
    cred: Cred,
    inode: Inode,
    mount: Mount,
    flags: OpenFlags,
    parent: Inode | None = None,
    sysctls: Sysctls | None = None,
) -> Checks:
    """open(2) of something that exists (``do_open``, ``may_open``, ``do_dentry_open``).

    A symlink among the inodes is one that was not followed (O_NOFOLLOW).
    ``parent`` and ``sysctls`` are asked for O_CREAT in sticky directories only.
    """
    if flags.create:
        yield _refuse_if(flags.exclusive, Rule.EXISTS, Errno.EEXIST)
        yield _refuse_if(inode.is_dir, Rule.WRONG_TYPE, Errno.EISDIR)
        if parent is not None and sysctls is not None:
            yield _create_in_sticky(cred, inode, parent, sysctls)
    yield _refuse_if(flags.directory and not inode.is_dir, Rule.WRONG_TYPE, Errno.ENOTDIR)
    yield _refuse_if(inode.type is FileType.SYMLINK, Rule.WRONG_TYPE, Errno.ELOOP)
    regular = inode.type is FileType.REGULAR
    if regular and flags.truncate:
        yield from _mount_writable(mount)
    want = flags.want | (Want.W if flags.truncate else Want.NONE)
    yield _refuse_if(inode.is_dir and bool(want & Want.W), Rule.WRONG_TYPE, Errno.EISDIR)
    yield _refuse_if(inode.type.is_device and mount.no_devices, Rule.NODEV, Errno.EACCES)
    yield permission(cred, inode, mount, want, "object")
    if inode.append_only:
        truncates = flags.truncate and not inode.type.is_special
        writes = bool(flags.want & Want.W) and not flags.append
        yield _refuse_if(writes or truncates, Rule.APPEND_ONLY, Errno.EPERM)
    if flags.noatime:
        yield _must_own(cred, inode)
    if flags.want & Want.W and not inode.type.is_special:
        yield from _mount_writable(mount)


def _create_in_sticky(cred: Cred, inode: Inode, parent: Inode, sysctls: Sysctls) -> Verdict:
    """``may_create_in_sticky``: fs.protected_regular and fs.protected_fifos."""
    levels = {
        FileType.REGULAR: sysctls.protected_regular,
        FileType.FIFO: sysctls.protected_fifos,
    }
    level = levels.get(inode.type, 1)
    exempt = (
        not parent.mode & S_ISVTX
        or level == 0
        or (inode.uid is not None and inode.uid == parent.uid)
        or is_owner(cred, inode)
    )
    open_to_others = bool(parent.mode & 0o002) or (level >= 2 and bool(parent.mode & 0o020))
    return _refuse_if(
        not exempt and open_to_others, Rule.PROTECTED_CREATE, Errno.EACCES, id_=inode.uid
    )


@_in_order
def create(cred: Cred, parent: Inode, mount: Mount, *, exists: bool = False) -> Checks:
    """open(O_CREAT) of a new name, mkdir, symlink, mknod of a FIFO or socket (``may_create``)."""
    yield _refuse_if(parent.nlink == 0, Rule.MISSING, Errno.ENOENT, "parent")  # IS_DEADDIR
    yield _refuse_if(exists, Rule.EXISTS, Errno.EEXIST)
    yield from _mount_writable(mount, "parent")
    yield from _may_create(cred, parent, mount, "parent")


def _may_create(cred: Cred, parent: Inode, mount: Mount, about: str) -> Checks:
    yield _representable(cred, mount, about)
    yield permission(cred, parent, mount, Want.W | Want.X, about)


@_in_order
def delete(
    cred: Cred,
    parent: Inode,
    victim: Inode,
    mount: Mount,
    *,
    rmdir: bool | None = None,
    busy: bool = False,
) -> Checks:
    """unlink(2), or rmdir(2) where ``rmdir`` is true; by default whichever fits the victim.

    ``busy``: something is mounted on it (``is_local_mountpoint``), or it is the root.  Whether a
    directory is empty is the filesystem's last question and not asked here.
    """
    yield from _mount_writable(mount, "parent")
    as_dir = victim.is_dir if rmdir is None else rmdir
    yield from _may_delete(cred, parent, victim, mount, "parent", "object", as_dir)
    yield _refuse_if(busy, Rule.MOUNTPOINT, Errno.EBUSY)


def _may_delete(
    cred: Cred,
    parent: Inode,
    victim: Inode,
    mount: Mount,
    about_parent: str,
    about: str,
    as_dir: bool,
) -> Checks:
    """``may_delete``."""
    yield _ids_valid(victim, Errno.EOVERFLOW, about)
    yield permission(cred, parent, mount, Want.W | Want.X, about_parent)
    yield _refuse_if(parent.append_only, Rule.APPEND_ONLY, Errno.EPERM, about_parent)
    yield _sticky(cred, parent, victim, about)
    yield from _not_fixed(victim, about)
    yield _refuse_if(as_dir and not victim.is_dir, Rule.WRONG_TYPE, Errno.ENOTDIR, about)
    yield _refuse_if(not as_dir and victim.is_dir, Rule.WRONG_TYPE, Errno.EISDIR, about)


def _sticky(cred: Cred, parent: Inode, victim: Inode, about: str) -> Verdict:
    """``__check_sticky``: the victim's owner, the directory's, or CAP_FOWNER over the victim."""
    free = (
        not parent.sticky
        or is_owner(cred, victim)
        or is_owner(cred, parent)
        or capable_wrt(cred, victim, Cap.FOWNER)
    )
    return _refuse_if(
        not free,
        Rule.STICKY,
        Errno.EPERM,
        about,
        id_=victim.uid,
        cap=Cap.FOWNER,
        why=why_not_capable(cred, victim, [Cap.FOWNER]),
    )


@_in_order
def rename(
    cred: Cred,
    parent: Inode,
    source: Inode,
    mount: Mount,
    new_parent: Inode,
    target: Inode | None = None,
    *,
    same_directory: bool = True,
    same_mount: bool = True,
) -> Checks:
    """rename(2) (``do_renameat2``, ``vfs_rename``); ``target`` is what it would replace."""
    yield _refuse_if(not same_mount, Rule.CROSS_MOUNT, Errno.EXDEV)
    yield from _mount_writable(mount, "parent")
    yield from _may_delete(cred, parent, source, mount, "parent", "object", source.is_dir)
    if target is None:
        yield from _may_create(cred, new_parent, mount, "new-parent")
    else:
        yield from _may_delete(
            cred, new_parent, target, mount, "new-parent", "target", source.is_dir
        )
    if source.is_dir and not same_directory:
        yield permission(cred, source, mount, Want.W, "object")


@_in_order
def link(
    cred: Cred,
    source: Inode,
    new_parent: Inode,
    mount: Mount,
    sysctls: Sysctls,
    *,
    exists: bool = False,
    same_mount: bool = True,
) -> Checks:
    """link(2) (``do_linkat``, ``may_linkat``, ``vfs_link``); ``mount`` is that of the new name."""
    yield _refuse_if(exists, Rule.EXISTS, Errno.EEXIST, "target")
    yield from _mount_writable(mount, "new-parent")
    yield _refuse_if(not same_mount, Rule.CROSS_MOUNT, Errno.EXDEV)
    yield _ids_valid(source, Errno.EOVERFLOW)
    if sysctls.protected_hardlinks:
        safe = _safe_hardlink_source(cred, source, mount) or owner_or_capable(cred, source)
        yield _refuse_if(not safe, Rule.PROTECTED_HARDLINKS, Errno.EPERM, id_=source.uid)
    yield from _may_create(cred, new_parent, mount, "new-parent")
    yield from _not_fixed(source)
    yield _refuse_if(source.is_dir, Rule.WRONG_TYPE, Errno.EPERM)


def _safe_hardlink_source(cred: Cred, source: Inode, mount: Mount) -> bool:
    """``safe_hardlink_source``: a plain file that the subject may read and write anyway."""
    set_id = source.mode & S_ISUID or source.mode & (S_ISGID | 0o010) == S_ISGID | 0o010
    return (
        source.type is FileType.REGULAR
        and not set_id
        and permission(cred, source, mount, Want.R | Want.W).allowed
    )


@_in_order
def chmod(cred: Cred, inode: Inode, mount: Mount) -> Checks:
    """chmod(2) (``chmod_common``, ``notify_change``); what it does is :func:`chmod_result`."""
    yield from _mount_writable(mount)
    yield from _not_fixed(inode)
    yield _refuse_if(inode.type is FileType.SYMLINK, Rule.WRONG_TYPE, Errno.EOPNOTSUPP)
    yield _ids_valid(inode, Errno.EOVERFLOW)
    yield _must_own(cred, inode)


def _in_group_or_capable(cred: Cred, inode: Inode, gid: Kgid | None) -> bool:
    """``in_group_or_capable``."""
    return cred.in_group(gid) or capable_wrt(cred, inode, Cap.FSETID)


def chmod_result(cred: Cred, inode: Inode, mode: int) -> Inode:
    """The inode after an allowed chmod to ``mode``: setgid dropped silently where the subject is
    not in the group; with an ACL the group bits set the mask.
    """
    mode &= 0o7777
    if not _in_group_or_capable(cred, inode, inode.gid):
        mode &= ~S_ISGID
    return replace(inode, mode=mode, acl=inode.acl and inode.acl.with_mode(mode))


_LOOKS_AT_FLAGS_AGAIN = frozenset({"ext2", "ext3", "ext4", "f2fs"})
"""Filesystems that refuse a fixed inode even a chown that changes nothing (``ext4_setattr``)."""


@_in_order
def chown(cred: Cred, inode: Inode, mount: Mount, uid: Uid | None, gid: Gid | None) -> Checks:
    """chown(2) (``chown_common``, ``notify_change``, ``setattr_prepare``).

    ``uid`` and ``gid`` are ids *inside* the subject's namespace, as a program passes them;
    ``None`` leaves one unchanged (-1).
    """
    yield from _mount_writable(mount)
    ns = cred.userns
    new_uid = None if uid is None else ns.kuid(uid)
    new_gid = None if gid is None else ns.kgid(gid)
    unknown = (uid is not None and new_uid is None) or (gid is not None and new_gid is None)
    yield _refuse_if(unknown, Rule.NOT_IN_NAMESPACE, Errno.EINVAL)
    if uid is not None or gid is not None:
        yield from _not_fixed(inode)
    drops_set_id = not inode.is_dir and _chown_drops(cred, inode)
    yield from _chown_representable(inode, mount, new_uid, new_gid)
    if mount.sb.fstype in _LOOKS_AT_FLAGS_AGAIN:
        yield _refuse_if(inode.immutable, Rule.IMMUTABLE, Errno.EPERM)
        yield _refuse_if(inode.append_only and drops_set_id, Rule.APPEND_ONLY, Errno.EPERM)
    ok = (uid is None or _chown_ok(cred, inode, mount, new_uid)) and (
        gid is None or _chgrp_ok(cred, inode, mount, new_gid)
    )
    yield _refuse_if(
        not ok,
        Rule.NOT_OWNER,
        Errno.EPERM,
        id_=inode.uid,
        cap=Cap.CHOWN,
        why=why_not_capable(cred, inode, [Cap.CHOWN]),
    )
    if drops_set_id:
        yield _must_own(cred, inode)


def _chown_drops(cred: Cred, inode: Inode) -> bool:
    """Whether chown would have to clear suid or sgid (``setattr_should_drop_sgid``)."""
    sgid = inode.mode & S_ISGID and (
        inode.mode & 0o010 or not _in_group_or_capable(cred, inode, inode.gid)
    )
    return bool(inode.mode & S_ISUID or sgid)


def _chown_representable(inode: Inode, mount: Mount, uid: Kuid | None, gid: Kgid | None) -> Checks:
    """``notify_change``: new ids must be storable, ids that stay must be valid."""
    for new, old, stored, which in (
        (uid, inode.uid, mount.stored_uid(uid), "uid"),
        (gid, inode.gid, mount.stored_gid(gid), "gid"),
    ):
        yield _refuse_if(
            new is not None and stored is None,
            Rule.UNREPRESENTABLE,
            Errno.EOVERFLOW,
            id_=new,
            why=which,
        )
        yield _refuse_if(new is None and old is None, Rule.UNMAPPED, Errno.EOVERFLOW, why=which)


def _chown_ok(cred: Cred, inode: Inode, mount: Mount, uid: Kuid | None) -> bool:
    """``chown_ok``."""
    return (
        (is_owner(cred, inode) and uid == inode.uid)
        or capable_wrt(cred, inode, Cap.CHOWN)
        or (inode.uid is None and cred.capable_in(mount.sb.userns, Cap.CHOWN))
    )


def _chgrp_ok(cred: Cred, inode: Inode, mount: Mount, gid: Kgid | None) -> bool:
    """``chgrp_ok``."""
    return (
        (is_owner(cred, inode) and (gid == inode.gid or cred.in_group(gid)))
        or capable_wrt(cred, inode, Cap.CHOWN)
        or (inode.gid is None and cred.capable_in(mount.sb.userns, Cap.CHOWN))
    )


def chown_result(cred: Cred, inode: Inode, uid: Kuid | None, gid: Kgid | None) -> Inode:
    """The inode after an allowed chown to host ids: set-id bits go, for root too.

    A mode that has to change at all loses a setgid bit that the subject could not set, on the
    old owner's file or on the new one's (``setattr_prepare``, ``setattr_copy``).
    """
    owned = replace(
        inode,
        uid=inode.uid if uid is None else uid,
        gid=inode.gid if gid is None else gid,
    )
    if inode.is_dir or not _chown_drops(cred, inode):
        return owned
    mode = inode.mode & ~S_ISUID
    may_keep = all(
        _in_group_or_capable(cred, of, g)
        for of, g in ((inode, inode.gid), (inode, owned.gid), (owned, owned.gid))
    )
    if mode & 0o010 or not may_keep:
        mode &= ~S_ISGID
    return replace(owned, mode=mode)


@_in_order
def utimes(cred: Cred, inode: Inode, mount: Mount, *, to_now: bool) -> Checks:
    """utimensat(2), both times now (``to_now``) or both to a given time."""
    yield from _mount_writable(mount)
    if to_now:
        yield _refuse_if(inode.immutable, Rule.IMMUTABLE, Errno.EPERM)
        if not owner_or_capable(cred, inode):
            yield permission(cred, inode, mount, Want.W, "object")
        yield _ids_valid(inode, Errno.EOVERFLOW)
        return
    yield from _not_fixed(inode)
    yield _ids_valid(inode, Errno.EOVERFLOW)
    yield _must_own(cred, inode)


@_in_order
def set_acl(
    cred: Cred,
    inode: Inode,
    mount: Mount,
    named_uids: tuple[Uid, ...] = (),
    named_gids: tuple[Gid, ...] = (),
    *,
    default: bool = False,
) -> Checks:
    """setxattr(2) of an ACL (``vfs_set_acl``, ``set_posix_acl``).  Named ids are inside ids."""
    yield from _mount_writable(mount)
    ns = cred.userns
    kuids = [ns.kuid(u) for u in named_uids]
    kgids = [ns.kgid(g) for g in named_gids]
    yield _refuse_if(None in kuids or None in kgids, Rule.NOT_IN_NAMESPACE, Errno.EINVAL)
    yield from _not_fixed(inode)
    yield _ids_valid(inode, Errno.EPERM)
    unsupported = not mount.sb.acls or inode.type is FileType.SYMLINK
    yield _refuse_if(unsupported, Rule.NO_ACL_SUPPORT, Errno.EOPNOTSUPP)
    yield _refuse_if(default and not inode.is_dir, Rule.WRONG_TYPE, Errno.EACCES)
    yield _must_own(cred, inode)
    fs = mount.sb.userns
    storable = all(fs.has_uid(mount.stored_uid(k)) for k in kuids) and all(
        fs.has_gid(mount.stored_gid(k)) for k in kgids
    )
    yield _refuse_if(not storable, Rule.UNREPRESENTABLE, Errno.EINVAL)


def set_acl_result(cred: Cred, inode: Inode, acl: Acl, *, default: bool = False) -> Inode:
    """The inode after an allowed :func:`set_acl` (``posix_acl_update_mode``): the mode follows an
    access ACL, a minimal one is only that, and setgid goes where the subject is not in the group.
    """
    if default:
        return replace(inode, default_acl=acl)
    mode = inode.mode & ~0o777 | acl.mode
    if not _in_group_or_capable(cred, inode, inode.gid):
        mode &= ~S_ISGID
    return replace(inode, mode=mode, acl=acl if acl.is_extended else None)


@_in_order
def execute(cred: Cred, inode: Inode, mount: Mount) -> Checks:
    """execve(2) of a file (``do_open_execat``); what is in the file is not asked."""
    yield _refuse_if(inode.type is FileType.SYMLINK, Rule.WRONG_TYPE, Errno.ELOOP)
    yield _refuse_if(inode.type is not FileType.REGULAR, Rule.WRONG_TYPE, Errno.EACCES)
    yield _refuse_if(mount.noexec, Rule.NOEXEC, Errno.EACCES)
    yield permission(cred, inode, mount, Want.X, "object")


def created(
    cred: Cred,
    parent: Inode,
    mount: Mount,
    *,
    mode: int,
    umask: int,
    type: FileType = FileType.REGULAR,  # noqa: A002 - the field's name
) -> Inode:
    """The inode that an allowed create makes, as the mount will show it.

    ``inode_init_owner``, ``mode_strip_sgid``, ``posix_acl_create``: the gid is the parent's under
    setgid, mkdir inherits setgid (and takes no set-id bit from ``mode``), a default ACL on the
    parent replaces the umask.  A symlink is 0777 and has no ACL.
    """
    is_dir = type is FileType.DIRECTORY
    gid = parent.gid if parent.setgid else cred.fsgid
    if type is FileType.SYMLINK:
        return Inode(uid=cred.fsuid, gid=gid, mode=0o777, type=type)
    if is_dir:
        mode &= 0o777 | S_ISVTX
    if (
        parent.setgid
        and mode & (S_ISGID | 0o010) == S_ISGID | 0o010
        and not _in_group_or_capable(cred, parent, parent.gid)
    ):
        mode &= ~S_ISGID
    if is_dir and parent.setgid:
        mode |= S_ISGID
    acl, default = None, None
    if parent.default_acl is not None and mount.sb.acls:
        inherited = _masked(parent.default_acl, mode)
        mode = mode & ~0o777 | inherited.mode
        acl = inherited if inherited.is_extended else None
        default = parent.default_acl if is_dir else None
    else:
        mode &= ~umask
    return Inode(uid=cred.fsuid, gid=gid, mode=mode, type=type, acl=acl, default_acl=default)


def _masked(acl: Acl, mode: int) -> Acl:
    """``posix_acl_create_masq``: each class loses what the mode asked for does not have."""
    group_tag = Tag.MASK if acl.mask is not None else Tag.GROUP_OBJ
    shifts = {Tag.USER_OBJ: 6, group_tag: 3, Tag.OTHER: 0}

    def masked(e: AclEntry) -> AclEntry:
        if e.tag not in shifts:
            return e
        return replace(e, perm=e.perm & (mode >> shifts[e.tag]) & 7)

    return Acl(tuple(masked(e) for e in acl.entries))
