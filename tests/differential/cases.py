"""The operations as cases: draw the arguments, ask the model, say what the executor is to do.

Whatever an operation is asked of the model, the way to it is asked first (``walk``), as the
kernel does.  The model's answer may say what will be there afterwards; that is compared too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from permdoctor.kernel import operations
from permdoctor.kernel import walk as path_walk
from permdoctor.kernel.acl import Acl, AclEntry, Tag
from permdoctor.kernel.ids import Gid, Kgid, Kuid, Uid
from permdoctor.kernel.inode import S_ISGID, S_ISUID, FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.operations import OpenFlags
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Verdict, Want
from permdoctor.kernel.walk import Hop
from tests.differential import aclxattr, ids, scene
from tests.differential.subjects import Subject

UMASKS = (0o022, 0o022, 0o002, 0o077, 0o027, 0, 0o777)


@dataclass(slots=True)
class Cell:
    """``c7`` with ``o`` in it, at times ``q7`` beside it and a target ``t`` in either.

    Inodes as the first mount shows them.  ``far`` is ``q7`` as the second mount shows it.
    """

    number: int
    parent: Inode
    object: Inode
    other: Inode | None = None
    target: Inode | None = None
    target_beside: bool = False
    far: Inode | None = None
    far_object: Inode | None = None
    far_parent: Inode | None = None
    made: int = 0

    @property
    def parent_path(self) -> bytes:
        return b"c%d" % self.number

    @property
    def object_path(self) -> bytes:
        return b"c%d/o" % self.number

    @property
    def other_path(self) -> bytes:
        return b"q%d" % self.number

    def new_name(self) -> bytes:
        self.made += 1
        return b"n%d" % self.made


@dataclass(frozen=True, slots=True)
class World:
    """What the cases of a round have in common.  ``uids`` and ``gids`` are inside ids to pass as
    arguments, mapped or not; ``mount`` and ``far_mount`` are the two views.
    """

    rng: Random
    mount: Mount
    far_mount: Mount
    sysctls: Sysctls
    uids: list[int]
    gids: list[int]
    uid_map: ids.Extents
    gid_map: ids.Extents


@dataclass(frozen=True, slots=True)
class Left:
    """What an allowed operation must leave at ``path``, as the first mount shows it."""

    path: bytes
    inode: Inode


@dataclass(frozen=True, slots=True)
class Case:
    """``call`` and ``args`` are for the executor.  ``changes``: if allowed, the cell is another
    one afterwards.  ``facts`` are what a person needs to understand a disagreement.
    """

    op: str
    verdict: Verdict
    call: str
    args: tuple[Any, ...]
    facts: tuple[Any, ...]
    changes: bool = False
    left: Left | None = None
    answer: Any = 0
    """What the executor answers if it is allowed."""


def _way(subject: Subject, world: World, *directories: Inode) -> Verdict | None:
    """The refusal on the way through these directories, if any."""
    for directory in directories:
        hops = (_hop(directory, world.mount), _hop(directory, world.mount))
        verdict = path_walk.walk(subject.cred, hops, world.sysctls)
        if not verdict.allowed:
            return verdict
    return None


def _hop(inode: Inode, mount: Mount) -> Hop:
    return Hop(path=b"", inode=inode, mount=mount)


def access(cell: Cell, subject: Subject, world: World) -> Case:
    want = Want(world.rng.choice((0, 1, 2, 4, 4, 2, 6, 3, 5, 7)))
    verdict = _way(subject, world, cell.parent) or operations.access(
        subject.cred, cell.object, world.mount, want
    )
    return Case("access", verdict, "access", (cell.object_path, int(want)), (want,))


def stat_ids(cell: Cell, subject: Subject, world: World) -> Case:
    """Not refused to anybody who gets there; the ids must be those that the model gives."""
    verdict = _way(subject, world, cell.parent) or Verdict(errno=None)
    ns, o = subject.cred.userns, cell.object
    uid, gid = ns.uid(o.uid), ns.gid(o.gid)
    shown = (65534 if uid is None else uid, 65534 if gid is None else gid, o.mode)
    return Case("stat", verdict, "stat", (cell.object_path,), (), answer=shown)


_WANTS = {Want.R: os.O_RDONLY, Want.W: os.O_WRONLY, Want.R | Want.W: os.O_RDWR}


def open_existing(cell: Cell, subject: Subject, world: World) -> Case:
    roll = world.rng.random
    create = roll() < 0.3
    flags = OpenFlags(
        want=world.rng.choice((Want.R, Want.R, Want.W, Want.R | Want.W)),
        create=create,
        exclusive=create and roll() < 0.1,
        truncate=roll() < 0.2,
        append=roll() < 0.2,
        noatime=roll() < 0.15,
        directory=not create and roll() < 0.12,
    )
    bits = (
        _WANTS[flags.want]
        | os.O_CREAT * flags.create
        | os.O_EXCL * flags.exclusive
        | os.O_TRUNC * flags.truncate
        | os.O_APPEND * flags.append
        | os.O_NOATIME * flags.noatime
        | os.O_DIRECTORY * flags.directory
    )
    verdict = _way(subject, world, cell.parent) or operations.open_existing(
        subject.cred, cell.object, world.mount, flags, parent=cell.parent, sysctls=world.sysctls
    )
    return Case(
        "open",
        verdict,
        "open",
        (cell.object_path, bits),
        (flags,),
        changes=flags.truncate and bool(cell.object.mode & (S_ISUID | S_ISGID)),
    )


def create(cell: Cell, subject: Subject, world: World) -> Case:
    rng = world.rng
    exists = rng.random() < 0.08
    type_ = rng.choice(
        (FileType.REGULAR,) * 4
        + (FileType.DIRECTORY,) * 4
        + (FileType.SYMLINK, FileType.FIFO, FileType.SOCKET)
    )
    mode = rng.choice((0o666, 0o777, 0o644, 0o2755, 0o2775, rng.getrandbits(12)))
    umask = rng.choice(UMASKS)
    path = cell.object_path if exists else cell.parent_path + b"/" + cell.new_name()
    call, args = _create_call(type_, path, mode, umask, rng)
    verdict = _way(subject, world, cell.parent) or operations.create(
        subject.cred, cell.parent, world.mount, exists=exists
    )
    left = None
    if verdict.allowed:
        inode = operations.created(
            subject.cred, cell.parent, world.mount, mode=mode, umask=umask, type=type_
        )
        left = Left(path, inode)
    facts = (type_.name, oct(mode), oct(umask))
    return Case("create", verdict, call, args, facts, left=left)


def _create_call(
    type_: FileType, path: bytes, mode: int, umask: int, rng: Random
) -> tuple[str, tuple[Any, ...]]:
    match type_:
        case FileType.DIRECTORY:
            return "mkdir", (path, mode, umask)
        case FileType.SYMLINK:
            return "symlink", (path,)
        case FileType.REGULAR if rng.random() < 0.8:
            flags = rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_APPEND))
            return "create", (path, flags | os.O_EXCL, mode, umask)
        case _:
            return "mknod", (path, int(type_) | mode, umask)


def delete(cell: Cell, subject: Subject, world: World) -> Case:
    as_dir = cell.object.is_dir ^ (world.rng.random() < 0.1)
    verdict = _way(subject, world, cell.parent) or operations.delete(
        subject.cred, cell.parent, cell.object, world.mount, rmdir=as_dir
    )
    call = "rmdir" if as_dir else "unlink"
    return Case("delete", verdict, call, (cell.object_path,), (call,), changes=True)


def rename(cell: Cell, subject: Subject, world: World) -> Case:
    """Within ``c7``, from ``c7`` to ``q7``, or to ``q7`` through the other mount."""
    assert cell.other is not None
    assert cell.far is not None
    if cell.target_beside:
        new, new_path, target = cell.parent, cell.parent_path, cell.target
    else:
        new, new_path, target = cell.other, cell.other_path, cell.target
    same_mount = world.rng.random() < 0.93
    if not same_mount:
        new, new_path = cell.far, cell.other_path
    name = b"t" if target is not None else cell.new_name()
    verdict = (
        _way(subject, world, cell.parent)
        or _way_on(subject, world, new, world.mount if same_mount else world.far_mount)
        or operations.rename(
            subject.cred,
            cell.parent,
            cell.object,
            world.mount,
            new,
            target,
            same_directory=cell.target_beside and same_mount,
            same_mount=same_mount,
        )
    )
    args = (cell.object_path, new_path + b"/" + name, 0 if same_mount else 1)
    return Case("rename", verdict, "rename", args, (new, target, same_mount), changes=True)


def _way_on(subject: Subject, world: World, directory: Inode, mount: Mount) -> Verdict | None:
    hops = (_hop(directory, mount), _hop(directory, mount))
    verdict = path_walk.walk(subject.cred, hops, world.sysctls)
    return None if verdict.allowed else verdict


def link(cell: Cell, subject: Subject, world: World) -> Case:
    """From ``c7/o`` (through the other mount at times) to a new name in ``q7``."""
    assert cell.other is not None
    assert cell.far_object is not None
    assert cell.far_parent is not None
    same_mount = world.rng.random() < 0.93
    exists = cell.target is not None and not cell.target_beside and world.rng.random() < 0.2
    source = cell.object if same_mount else cell.far_object
    source_parent = cell.parent if same_mount else cell.far_parent
    source_mount = world.mount if same_mount else world.far_mount
    verdict = (
        _way_on(subject, world, source_parent, source_mount)
        or _way(subject, world, cell.other)
        or operations.link(
            subject.cred,
            source,
            cell.other,
            world.mount,
            world.sysctls,
            exists=exists,
            same_mount=same_mount,
        )
    )
    name = b"t" if exists else cell.new_name()
    args = (cell.object_path, cell.other_path + b"/" + name, 0 if same_mount else 1)
    return Case("link", verdict, "link", args, (cell.other, exists, same_mount))


def chmod(cell: Cell, subject: Subject, world: World) -> Case:
    mode = world.rng.getrandbits(12) if world.rng.random() < 0.7 else 0o2775
    verdict = _way(subject, world, cell.parent) or operations.chmod(
        subject.cred, cell.object, world.mount
    )
    left = None
    if verdict.allowed:
        left = Left(cell.object_path, operations.chmod_result(subject.cred, cell.object, mode))
    args = (cell.object_path, mode, cell.object.type is FileType.SYMLINK)
    return Case("chmod", verdict, "chmod", args, (oct(mode),), changes=True, left=left)


def chown(cell: Cell, subject: Subject, world: World) -> Case:
    rng = world.rng
    uid = None if rng.random() < 0.35 else Uid(rng.choice(world.uids))
    gid = None if rng.random() < 0.35 else Gid(rng.choice(world.gids))
    verdict = _way(subject, world, cell.parent) or operations.chown(
        subject.cred, cell.object, world.mount, uid, gid
    )
    left = None
    if verdict.allowed:
        kuid = None if uid is None else _kuid(world, uid)
        kgid = None if gid is None else _kgid(world, gid)
        inode = operations.chown_result(subject.cred, cell.object, kuid, kgid)
        left = Left(cell.object_path, inode)
    args = (cell.object_path, -1 if uid is None else uid, -1 if gid is None else gid)
    return Case("chown", verdict, "chown", args, (uid, gid), changes=True, left=left)


def _kuid(world: World, uid: int) -> Kuid | None:
    kuid = ids.outside(world.uid_map, uid)
    return None if kuid is None else Kuid(kuid)


def _kgid(world: World, gid: int) -> Kgid | None:
    kgid = ids.outside(world.gid_map, gid)
    return None if kgid is None else Kgid(kgid)


def utimes(cell: Cell, subject: Subject, world: World) -> Case:
    to_now = world.rng.random() < 0.5
    verdict = _way(subject, world, cell.parent) or operations.utimes(
        subject.cred, cell.object, world.mount, to_now=to_now
    )
    return Case("utimes", verdict, "utimes", (cell.object_path, to_now), (to_now,))


def set_acl(cell: Cell, subject: Subject, world: World) -> Case:
    rng = world.rng
    default = rng.random() < 0.3
    inside = scene.draw_acl(rng, world.uids, world.gids)
    uids = tuple(Uid(e.id) for e in inside.entries if e.tag is Tag.USER and e.id is not None)
    gids = tuple(Gid(e.id) for e in inside.entries if e.tag is Tag.GROUP and e.id is not None)
    verdict = _way(subject, world, cell.parent) or operations.set_acl(
        subject.cred, cell.object, world.mount, uids, gids, default=default
    )
    left = None
    if verdict.allowed:
        acl = _on_host(inside, world)
        inode = operations.set_acl_result(subject.cred, cell.object, acl, default=default)
        left = Left(cell.object_path, inode)
    name = aclxattr.DEFAULT if default else aclxattr.ACCESS
    args = (cell.object_path, name, aclxattr.of_acl(inside))
    return Case("set_acl", verdict, "set_acl", args, (name, inside), changes=True, left=left)


def _on_host(acl: Acl, world: World) -> Acl:
    def entry(e: AclEntry) -> AclEntry:
        if e.id is None:
            return e
        host = ids.outside(world.uid_map if e.tag is Tag.USER else world.gid_map, e.id)
        return AclEntry(tag=e.tag, perm=e.perm, id=host)

    return Acl(tuple(entry(e) for e in acl.entries))


def execute(cell: Cell, subject: Subject, world: World) -> Case:
    verdict = _way(subject, world, cell.parent) or operations.execute(
        subject.cred, cell.object, world.mount
    )
    return Case("execute", verdict, "execute", (cell.object_path,), ())


Draw = Callable[[Cell, Subject, World], Case]

OF_AN_OBJECT: tuple[Draw, ...] = (
    *(access,) * 6,
    *(open_existing,) * 7,
    *(create,) * 5,
    *(chown,) * 5,
    *(chmod,) * 3,
    *(set_acl,) * 3,
    *(delete,) * 3,
    *(utimes,) * 3,
    *(execute,) * 2,
    stat_ids,
)
OF_A_PAIR: tuple[Draw, ...] = (rename, rename, link)
