"""Wrong models.  Each is a mistake people make about these rules, put in for one function.

The comparison must catch every one of them, or it would not have caught the same mistake in the
model itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from msgspec.structs import replace

from permdoctor.kernel import operations, permission, walk
from permdoctor.kernel.acl import Acl, Tag
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Gid, IdMap, Kgid, Kuid
from permdoctor.kernel.inode import S_ISGID, S_ISUID, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Errno, Outcome, Rule, Step, Verdict, Want
from permdoctor.kernel.walk import Hop
from tests.differential import subjects

MUTANTS: dict[str, Callable[[contextlib.ExitStack], None]] = {}
"""Name to what puts the mistake in, for as long as the stack lives."""

_PASSED = Verdict(errno=None)
_dac, _acl, _capability = permission._dac, permission._acl, permission._capability
_permission, _show_acl = permission.permission, Mount._show_acl
_may_delete, _follow = operations._may_delete, walk._follow
_draw = subjects.draw


def wrong(*places: object, name: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated function takes the place of ``name`` in ``places``; its own name, with
    dashes, is the mutant's.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def put_in(stack: contextlib.ExitStack) -> None:
            for place in places:
                stack.enter_context(mock.patch.object(place, name, function))

        MUTANTS[function.__name__.replace("_", "-")] = put_in
        return function

    return register


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        MUTANTS[name](stack)
        yield


# permission()


@wrong(permission, name="_dac")
def acl_in_spite_of_an_empty_group_class(
    cred: Cred, inode: Inode, mount: Mount, want: Want, about: str, steps: list[Step]
) -> Step:
    if inode.acl is not None and not permission.is_owner(cred, inode):
        return _acl(cred, inode, inode.acl, want, about, steps)
    return _dac(cred, inode, mount, want, about, steps)


@wrong(permission, name="_dac")
def acl_before_the_owner(
    cred: Cred, inode: Inode, mount: Mount, want: Want, about: str, steps: list[Step]
) -> Step:
    if inode.acl is not None and inode.mode & 0o070:
        return _acl(cred, inode, inode.acl, want, about, steps)
    return _dac(cred, inode, mount, want, about, steps)


@wrong(permission, name="_dac")
def owner_class_does_not_deny(
    cred: Cred, inode: Inode, mount: Mount, want: Want, about: str, steps: list[Step]
) -> Step:
    step = _dac(cred, inode, mount, want, about, steps)
    if step.rule is Rule.OWNER_BITS and step.outcome is Outcome.PASSES:
        return _dac(cred, replace(inode, uid=None), mount, want, about, steps)
    return step


@wrong(permission, name="_dac")
def group_class_does_not_deny(
    cred: Cred, inode: Inode, mount: Mount, want: Want, about: str, steps: list[Step]
) -> Step:
    step = _dac(cred, inode, mount, want, about, steps)
    if step.rule is Rule.GROUP_BITS and step.outcome is Outcome.PASSES:
        return _dac(cred, replace(inode, gid=None), mount, want, about, steps)
    return step


@wrong(permission, name="_acl")
def groups_added_up(
    cred: Cred, inode: Inode, acl: Acl, want: Want, about: str, steps: list[Step]
) -> Step:
    union = 0
    for e in acl.entries:
        gid = inode.gid if e.tag is Tag.GROUP_OBJ else e.id
        if e.tag in (Tag.GROUP_OBJ, Tag.GROUP) and gid is not None and cred.in_group(Kgid(gid)):
            union |= e.perm
    entries = [replace(e, perm=e.perm | union) if e.tag is Tag.GROUP else e for e in acl.entries]
    return _acl(cred, inode, Acl(tuple(entries)), want, about, steps)


@wrong(permission, name="_acl")
def mask_ignored(
    cred: Cred, inode: Inode, acl: Acl, want: Want, about: str, steps: list[Step]
) -> Step:
    entries = tuple(e for e in acl.entries if e.tag is not Tag.MASK)
    return _acl(cred, inode, Acl(entries), want, about, steps)


@wrong(permission, name="_acl")
def other_after_a_group(
    cred: Cred, inode: Inode, acl: Acl, want: Want, about: str, steps: list[Step]
) -> Step:
    step = _acl(cred, inode, acl, want, about, steps)
    if step.rule is not Rule.ACL_GROUP_CLASS:
        return step
    other = next(e.perm for e in acl.entries if e.tag is Tag.OTHER)
    return replace(step, outcome=Outcome.PASSES if want & ~other else Outcome.GRANTS)


@wrong(permission, operations, name="capable_wrt")
def capability_without_the_gid(cred: Cred, inode: Inode, cap: Cap) -> bool:
    return cred.has(cap) and cred.userns.has_uid(inode.uid)


@wrong(permission, operations, name="capable_wrt")
def capability_without_the_uid(cred: Cred, inode: Inode, cap: Cap) -> bool:
    return cred.has(cap) and cred.userns.has_gid(inode.gid)


@wrong(permission, name="_capability")
def root_may_everything(
    cred: Cred, inode: Inode, want: Want, about: str, steps: list[Step]
) -> bool:
    return cred.userns.uid(cred.fsuid) == 0 or _capability(cred, inode, want, about, steps)


@wrong(permission, name="_capability")
def override_executes_without_an_x_bit(
    cred: Cred, inode: Inode, want: Want, about: str, steps: list[Step]
) -> bool:
    return _capability(cred, replace(inode, mode=inode.mode | 0o100), want, about, steps)


@wrong(permission, name="_capability")
def read_search_writes_directories(
    cred: Cred, inode: Inode, want: Want, about: str, steps: list[Step]
) -> bool:
    searches = inode.is_dir and permission.capable_wrt(cred, inode, Cap.DAC_READ_SEARCH)
    return searches or _capability(cred, inode, want, about, steps)


@wrong(permission, name="_capability")
def read_search_executes_files(
    cred: Cred, inode: Inode, want: Want, about: str, steps: list[Step]
) -> bool:
    reads = not inode.is_dir and permission.capable_wrt(cred, inode, Cap.DAC_READ_SEARCH)
    return (reads and not want & Want.W) or _capability(cred, inode, want, about, steps)


@wrong(permission, operations, walk, name="permission")
def superblock_forgotten(
    cred: Cred, inode: Inode, mount: Mount, want: Want, about: str = ""
) -> Verdict:
    mount = replace(mount, sb=replace(mount.sb, read_only=False))
    return _permission(cred, inode, mount, want, about)


@wrong(permission, operations, walk, name="permission")
def unmapped_inodes_are_writable(
    cred: Cred, inode: Inode, mount: Mount, want: Want, about: str = ""
) -> Verdict:
    nobody = 0xFFFFFFFF
    uid = Kuid(nobody) if inode.uid is None else inode.uid
    gid = Kgid(nobody) if inode.gid is None else inode.gid
    return _permission(cred, replace(inode, uid=uid, gid=gid), mount, want, about)


@wrong(permission, operations, name="owner_or_capable")
def fowner_needs_the_gid(cred: Cred, inode: Inode) -> bool:
    return permission.is_owner(cred, inode) or permission.capable_wrt(cred, inode, Cap.FOWNER)


# Who


@wrong(subjects, name="draw")
def real_uid_instead_of_fsuid(*args: Any) -> subjects.Subject:
    subject = _draw(*args)
    cred = replace(subject.cred, fsuid=subject.ruid)
    return dataclasses.replace(subject, cred=cred)


@wrong(IdMap, name="inside")
def first_extent_only(self: IdMap, outside: int) -> int | None:
    e = self.extents[0]
    return e.inside + outside - e.outside if e.outside <= outside < e.outside + e.count else None


@wrong(Mount, name="_show_acl")
def acl_ids_not_mapped(self: Mount, acl: Acl | None) -> Acl | None:
    return acl


# The operations


@wrong(operations, name="access")
def read_only_mount_before_dac(cred: Cred, inode: Inode, mount: Mount, want: Want) -> Verdict:
    if want & Want.W and mount.read_only and not inode.type.is_special:
        return Verdict(errno=Errno.EROFS)
    return _permission(cred, inode, mount, want)


@wrong(operations, name="_sticky")
def sticky_asks_for_the_directory(cred: Cred, parent: Inode, victim: Inode, about: str) -> Verdict:
    free = not parent.sticky or permission.is_owner(cred, victim)
    free = free or permission.is_owner(cred, parent)
    free = free or permission.capable_wrt(cred, parent, Cap.FOWNER)
    return _PASSED if free else Verdict(errno=Errno.EPERM)


@wrong(operations, name="_representable")
def unrepresentable_ids_forgotten(cred: Cred, mount: Mount, about: str) -> Verdict:
    return _PASSED


@wrong(operations, name="_may_delete")
def delete_asks_the_directory_first(
    cred: Cred, parent: Inode, victim: Inode, mount: Mount, *rest: Any
) -> Iterator[Verdict]:
    yield _permission(cred, parent, mount, Want.W | Want.X)
    yield from _may_delete(cred, parent, victim, mount, *rest)


@wrong(operations, name="_may_delete")
def victims_flags_forgotten(
    cred: Cred, parent: Inode, victim: Inode, mount: Mount, *rest: Any
) -> Iterator[Verdict]:
    victim = replace(victim, immutable=False, append_only=False)
    yield from _may_delete(cred, parent, victim, mount, *rest)


_rename = operations.rename


@wrong(operations, name="rename")
def moved_directory_not_written(*args: Any, same_directory: bool, same_mount: bool) -> Verdict:
    return _rename(*args, same_directory=True, same_mount=same_mount)


_open_existing = operations.open_existing


@wrong(operations, name="open_existing")
def truncate_asks_dac_first(
    cred: Cred, inode: Inode, mount: Mount, flags: operations.OpenFlags, **rest: Any
) -> Verdict:
    verdict = _open_existing(cred, inode, mount, flags, **rest)
    if verdict.errno is Errno.EROFS and flags.truncate:
        dac = _permission(cred, inode, mount, flags.want | Want.W)
        return verdict if dac.allowed else dac
    return verdict


@wrong(operations, name="_safe_hardlink_source")
def protected_hardlinks_forgotten(cred: Cred, source: Inode, mount: Mount) -> bool:
    return True


@wrong(operations, name="_create_in_sticky")
def protected_regular_forgotten(
    cred: Cred, inode: Inode, parent: Inode, sysctls: Sysctls
) -> Verdict:
    return _PASSED


@wrong(walk, name="_follow")
def protected_symlinks_forgotten(
    cred: Cred, link: Hop, directory: Hop | None, links: int, sysctls: Sysctls, *rest: Any
) -> Errno | None:
    return _follow(cred, link, directory, links, replace(sysctls, protected_symlinks=0), *rest)


@wrong(operations, name="_chgrp_ok")
def owner_gives_to_any_group(cred: Cred, inode: Inode, mount: Mount, gid: Gid | None) -> bool:
    return permission.is_owner(cred, inode) or permission.capable_wrt(cred, inode, Cap.CHOWN)


# What is left


_chmod_result, _chown_result = operations.chmod_result, operations.chown_result
_created = operations.created


@wrong(operations, name="chmod_result")
def chmod_keeps_setgid(cred: Cred, inode: Inode, mode: int) -> Inode:
    after = _chmod_result(cred, inode, mode)
    return replace(after, mode=after.mode | mode & S_ISGID)


@wrong(operations, name="chmod_result")
def chmod_leaves_the_mask(cred: Cred, inode: Inode, mode: int) -> Inode:
    return replace(_chmod_result(cred, inode, mode), acl=inode.acl)


@wrong(operations, name="chown_result")
def roots_chown_keeps_setuid(cred: Cred, inode: Inode, *ids: Any) -> Inode:
    after = _chown_result(cred, inode, *ids)
    keeps = inode.mode & S_ISUID if Cap.FSETID in cred.effective else 0
    return replace(after, mode=after.mode | keeps)


@wrong(operations, name="created")
def umask_in_spite_of_a_default_acl(*args: Any, mode: int, umask: int, **rest: Any) -> Inode:
    return _created(*args, mode=mode & ~umask, umask=0, **rest)


@wrong(operations, name="created")
def new_files_have_the_subjects_gid(cred: Cred, *args: Any, **rest: Any) -> Inode:
    return replace(_created(cred, *args, **rest), gid=cred.fsgid)
