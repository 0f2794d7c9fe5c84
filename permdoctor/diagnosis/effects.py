"""Who gains what by a plan, and who loses what: its changes put to the rules for everybody.

Everybody is: the container's processes, other containers that mount the same, the account that
owns the mount, who asks, and whoever owns an entry now.  Root of the host is left out: nothing
changes for it.  Rights on the entries themselves are judged, not the way to them.

A plan may have thousands of kinds of entries and there may be 64 people: the rules are asked once
for all inodes and people that stand in the same relation (:class:`_Relation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from functools import cache

from msgspec import Struct

from permdoctor.diagnosis.facts import Facts, HostUsers, Neighbour
from permdoctor.diagnosis.judge import Phase, ask, rights
from permdoctor.diagnosis.parties import users_of
from permdoctor.diagnosis.plan import SAMPLES, Change, Summary, TreePlan
from permdoctor.kernel.acl import Tag
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import ID_MAX, Kgid, Kuid
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable

MOST_PEOPLE = 64
MOST_OWNERS = 16
"""So many owners of entries, those of the most entries, are judged besides the people known."""


class Right(StrEnum):
    """WRITE of a directory is to create and delete in it, SEARCH to pass through it (it is part of
    READ); OWN is chmod and chown.
    """

    READ = "read"
    SEARCH = "search"
    WRITE = "write"
    OWN = "own"


class Effect(Struct, frozen=True, kw_only=True):
    """Somebody's rights on ``count`` entries of the tree at ``path`` that change alike.

    ``samples`` are up to three paths relative to ``path``.
    """

    who: str
    path: bytes
    gains: tuple[Right, ...]
    loses: tuple[Right, ...]
    count: int
    samples: tuple[bytes, ...]


def effects(
    summary: Summary, facts: Facts | None = None, users: HostUsers | None = None
) -> tuple[Effect, ...]:
    """Losses first, then by count.

    ``users`` are names of host ids beside those of the facts.  Without ``facts`` only the owners of
    entries are judged.
    """
    found = [e for tree in summary.trees for e in _of_tree(tree, facts, users or HostUsers())]
    return tuple(sorted(found, key=lambda e: (not e.loses, -e.count, e.path, e.who)))


class _Person(Struct, frozen=True, kw_only=True):
    who: str
    cred: Cred
    mount: Mount


_Key = tuple[object, ...]
_Judged = dict[_Key, frozenset["Right"]]


def _of_tree(tree: TreePlan, facts: Facts | None, users: HostUsers) -> Iterator[Effect]:
    people = list(_people(tree.path, facts, users))
    names = dict((*(facts.users.users if facts is not None else ()), *users.users))
    owners = tuple(_owners(tree, {p.cred.fsuid for p in people}, names))
    shapes: dict[_Key, int] = {}
    changes = [(_Seen(c.before, shapes), _Seen(c.after, shapes), c) for c in tree.changes]
    judged: dict[_Key, _Judged] = {}
    for person in (*owners, *people[: MOST_PEOPLE - len(owners)]):
        alike = _alike(changes, person, judged.setdefault(_kind_of(person), {}))
        for (gains, loses), of in alike.items():
            yield Effect(
                who=person.who,
                path=tree.path,
                gains=gains,
                loses=loses,
                count=sum(c.count for c in of),
                samples=tuple(s for c in of for s in c.samples)[:SAMPLES],
            )


_Rights = tuple[Right, ...]


def _alike(
    changes: list[tuple[_Seen, _Seen, Change]], person: _Person, judged: _Judged
) -> dict[tuple[_Rights, _Rights], list[Change]]:
    """The changes by what the person gains and loses; those that are nothing to it left out."""
    relation = _Relation(person.cred)

    def held(seen: _Seen) -> frozenset[Right]:
        key = relation.to(seen)
        if key not in judged:
            judged[key] = _rights(person, seen.inode)
        return judged[key]

    found: dict[tuple[_Rights, _Rights], list[Change]] = {}
    for old, new, change in changes:
        before, after = held(old), held(new)
        if before != after:
            diff = (_in_order(after - before), _in_order(before - after))
            found.setdefault(diff, []).append(change)
    return found


_RIGHT = {
    Phase.READ: Right.READ,
    Phase.WRITE: Right.WRITE,
    Phase.CREATE: Right.WRITE,
    Phase.OWN: Right.OWN,
}


def _rights(person: _Person, inode: Inode) -> frozenset[Right]:
    held = {_RIGHT[p] for p in rights(person.cred, inode, person.mount)}
    if inode.is_dir and ask(person.cred, inode, person.mount, Phase.WALK).allowed:
        held.add(Right.SEARCH)
    return frozenset(held)


@cache
def _in_order(of: frozenset[Right]) -> tuple[Right, ...]:
    """Without SEARCH where READ says it."""
    return tuple(r for r in Right if r in of and not (r is Right.SEARCH and Right.READ in of))


def _kind_of(person: _Person) -> _Key:
    """Equal for people to whom every rule gives the same answer about an inode to which they have
    the same relation: their capabilities, their mount, and whether it can store their ids.
    """
    cred, mount, ns = person.cred, person.mount, person.mount.sb.userns
    uid, gid = mount.stored_uid(cred.fsuid), mount.stored_gid(cred.fsgid)
    return (cred.effective, mount, ns.has_uid(uid), ns.has_gid(gid))


class _Seen:
    """An inode, prepared for being asked about by many.

    ``shape`` is a number for everything but the ids and the named entries of its ACL.
    """

    __slots__ = ("groups", "inode", "shape", "users")

    def __init__(self, inode: Inode, shapes: dict[_Key, int]) -> None:
        entries = () if inode.acl is None else inode.acl.entries
        self.inode = inode
        self.users = {e.id: e.perm for e in entries if e.tag is Tag.USER}
        self.groups = {e.id: e.perm for e in entries if e.tag is Tag.GROUP and e.id is not None}
        shape = (
            inode.type,
            inode.mode & 0o777,
            tuple(e for e in entries if e.tag not in (Tag.USER, Tag.GROUP)),
            inode.acl is None,
            inode.immutable,
            inode.append_only,
            inode.nlink == 0,
        )
        self.shape = shapes.setdefault(shape, len(shapes))


class _Relation:
    """What an inode is to somebody: all that the rules ask of it.

    Of the ids it matters whether they are the person's and whether its namespace maps them, of an
    ACL the entries that match it; set-id and sticky bits decide nothing about the inode itself.
    """

    def __init__(self, cred: Cred) -> None:
        self.cred = cred
        self._groups = (cred.fsgid, *sorted(cred.groups - {cred.fsgid}))
        self._uids: dict[int | None, _Key] = {}
        self._gids: dict[int | None, _Key] = {}

    def to(self, seen: _Seen) -> _Key:
        cred, uid, gid = self.cred, seen.inode.uid, seen.inode.gid
        if uid not in self._uids:
            self._uids[uid] = (uid is None, uid == cred.fsuid, cred.userns.has_uid(uid))
        if gid not in self._gids:
            self._gids[gid] = (gid is None, cred.in_group(gid), cred.userns.has_gid(gid))
        named: _Key = ()
        if seen.users or seen.groups:
            groups = sorted(seen.groups[g] for g in self._groups if g in seen.groups)
            named = (seen.users.get(cred.fsuid), *groups)
        return (seen.shape, self._uids[uid], self._gids[gid], named)


# -- everybody ---------------------------------------------------------------------------------


def _people(path: bytes, facts: Facts | None, users: HostUsers) -> Iterator[_Person]:
    """Who is known to use the tree, each once, as who mounts it writable if it does."""
    seen: set[tuple[str, Cred]] = set()
    for n in sorted(_users(path, facts), key=lambda n: not n.rw):
        if (n.who, n.cred_of.cred) not in seen:
            seen.add((n.who, n.cred_of.cred))
            yield _Person(who=n.who, cred=n.cred_of.cred, mount=n.mount)
    logins = (*(facts.users.logins if facts is not None else ()), *users.logins)
    known = {cred.fsuid for _, cred in seen}
    for login in dict.fromkeys(logins):
        if login.cred.fsuid and login.cred.fsuid not in known:
            who = f"{printable(login.host_user)} ({login.cred.fsuid})"
            yield _Person(who=who, cred=login.cred, mount=Mount())


def _users(path: bytes, facts: Facts | None) -> list[Neighbour]:
    """Of the mount on which the tree lies, or of those that lie in the tree."""
    if facts is None:
        return []
    sources = {b.bind.host_path for b in facts.binds if b.bind.host_path is not None}
    above = [s for s in sources if is_beneath(path, s)]
    below = sorted(s for s in sources if is_beneath(s, path))
    return [n for s in ([max(above, key=len)] if above else below) for n in users_of(facts, s)]


def _owners(tree: TreePlan, known: set[Kuid], names: dict[int, str]) -> Iterator[_Person]:
    """Who owns entries that are given away and is not known yet: as a number in no group."""
    owned: Counter[Kuid] = Counter()
    for c in tree.changes:
        if c.before.uid and c.before.uid != c.after.uid and c.before.uid not in known:
            owned[c.before.uid] += c.count
    for uid, _ in owned.most_common(MOST_OWNERS):
        who = f"{printable(names[uid])} ({uid})" if uid in names else f"uid {uid}"
        yield _Person(who=who, cred=Cred(fsuid=uid, fsgid=Kgid(ID_MAX)), mount=Mount())
