"""What a change does to an inode, in the words of ls -l and getfacl.

``root:root 0755 -> 1001:1001``, ``+user:1001:rwx``, ``default +group:2000:rwx``.  Ids are the
host's; a name stands for them where the host has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.diagnosis.facts import HostUsers
from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.text import printable

_WORDS = {
    Tag.USER_OBJ: "user:",
    Tag.USER: "user",
    Tag.GROUP_OBJ: "group:",
    Tag.GROUP: "group",
    Tag.MASK: "mask:",
    Tag.OTHER: "other:",
}

Entries = dict[tuple[Tag, int | None], AclEntry]


def difference(before: Inode, after: Inode, names: HostUsers) -> str:
    """Owner and mode as they are, then what changes of them, then of the ACLs."""
    parts = [_owner_and_mode(before, after, names)]
    if before.acl != after.acl:
        old, new = (_group_class(i) for i in (before, after))
        parts += _entries(old, new, names)
    old, new = (_by_key(i.default_acl) for i in (before, after))
    parts += (f"default {entry}" for entry in _entries(old, new, names))
    return ", ".join(parts)


def _owner_and_mode(before: Inode, after: Inode, names: HostUsers) -> str:
    old, new = _owner(before, names), _owner(after, names)
    changed = [new] if (before.uid, before.gid) != (after.uid, after.gid) else []
    if _shown_mode(before, after) != after.mode:
        changed.append(f"{after.mode:04o}")
    was = f"{old} {before.mode:04o}"
    return f"{was} -> {' '.join(changed)}" if changed else was


def _shown_mode(before: Inode, after: Inode) -> int:
    """The mode before, but for the group's bits where they are the mask of an ACL that changes."""
    masked = any(i.acl is not None and i.acl.is_extended for i in (before, after))
    if not masked or after.acl == before.acl:
        return before.mode
    return before.mode & ~0o070 | after.mode & 0o070


def _owner(inode: Inode, names: HostUsers) -> str:
    return f"{_name(inode.uid, names.users)}:{_name(inode.gid, names.groups)}"


def _name(number: int | None, known: tuple[tuple[int, str], ...]) -> str:
    if number is None:
        return "unmapped"
    return printable(next((n for i, n in known if i == number), "")) or str(number)


def _group_class(inode: Inode) -> Entries:
    """The entries of the access ACL that the owner's and others' bits do not show."""
    entries = _by_key(inode.acl or from_mode(inode.mode))
    return {k: e for k, e in entries.items() if k[0] not in (Tag.USER_OBJ, Tag.OTHER)}


def _by_key(acl: Acl | None) -> Entries:
    return {} if acl is None else {(e.tag, e.id): e for e in acl.entries}


def _entries(old: Entries, new: Entries, names: HostUsers) -> Iterator[str]:
    """Entries that are gone, changed and new.  A mask is worth a word where it takes something."""
    for key, entry in old.items():
        if key not in new and key[0] is not Tag.MASK:
            yield f"-{_entry(entry, names)}"
    for key, entry in new.items():
        was = old.get(key)
        if was is None:
            if key[0] is not Tag.MASK or entry.perm != _union(new):
                yield f"+{_entry(entry, names)}"
        elif was.perm != entry.perm:
            yield f"{_entry(was, names)} -> {_rwx(entry.perm)}"


def _union(entries: Entries) -> int:
    """What setfacl(1) makes the mask, if it is not told another."""
    perm = 0
    for (tag, _), entry in entries.items():
        if tag in (Tag.USER, Tag.GROUP_OBJ, Tag.GROUP):
            perm |= entry.perm
    return perm


def _entry(entry: AclEntry, names: HostUsers) -> str:
    word = _WORDS[entry.tag]
    if entry.tag in (Tag.USER, Tag.GROUP):
        known = names.users if entry.tag is Tag.USER else names.groups
        word = f"{word}:{_name(entry.id, known)}"
    return f"{word}:{_rwx(entry.perm)}"


def _rwx(perm: int) -> str:
    return "".join(c if perm & b else "-" for c, b in (("r", 4), ("w", 2), ("x", 1)))
