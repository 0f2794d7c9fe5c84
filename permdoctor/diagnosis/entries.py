"""Entries below a mount's root: the classes of a tree judged one by one, and their remedies.

Remedies name exactly the entries that are wrong; never a blanket -R.  Each is a recipe, asked
about each class: what it does not help is not named, and it is proven if it helps all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.needs import Need, PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.causes import code_of_trouble
from permdoctor.diagnosis.details import owner_label
from permdoctor.diagnosis.edits import held_back
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts, Neighbour
from permdoctor.diagnosis.judge import EntryTrouble, judge_entry
from permdoctor.diagnosis.parties import MOST, party_of, users_of
from permdoctor.diagnosis.recipes import Claim, Give, Grant, OwnerBits, Scope, UserEntry
from permdoctor.diagnosis.report import Finding, Impact, Remedy, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.system import is_system, narrow_mount
from permdoctor.kernel.filesystems import SERVER_DECIDES
from permdoctor.kernel.inode import S_ISGID, FileType, Inode
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Verdict


def entry_findings(
    facts: Facts, bind: BindFacts, need: PathNeed, subject: int
) -> Iterator[Finding]:
    """What lies below the root, by trouble: the classes of a tree judged one by one."""
    if bind.tree is None:
        return
    s = facts.subjects[subject]
    troubled: dict[EntryTrouble, list[tuple[EntryClass, Verdict]]] = {}
    for c in bind.tree.classes:
        if c.samples == (b"lost+found",) and c.inode.uid == 0:
            continue  # mkfs made it, for fsck alone
        trouble = judge_entry(s.cred, c.parent, c.inode, bind.bind.mount, need.need)
        if trouble is not None:
            troubled.setdefault(trouble[0], []).append((c, trouble[1]))
    for kind, classes in troubled.items():
        yield _entries(facts, bind, need.need, subject, kind, classes)


_ENTRY_VERBS = {
    EntryTrouble.UNREADABLE: "cannot read or search",
    EntryTrouble.UNWRITABLE: "cannot change",
    EntryTrouble.UNDELETABLE: "cannot delete",
}


def _entries(
    facts: Facts,
    bind: BindFacts,
    need: Need,
    subject: int,
    kind: EntryTrouble,
    classes: list[tuple[EntryClass, Verdict]],
) -> Finding:
    s, target = facts.subjects[subject], bind.bind.target
    count = sum(c.count for c, _ in classes)
    largest, verdict = max(classes, key=lambda c: c[0].count)
    sample = target.rstrip(b"/") + b"/" + largest.samples[0]
    steps = tuple(
        replace(step, about=printable(sample)) if step.about == "object" else step
        for step in verdict.steps
    )
    noun = "1 entry" if count == 1 else f"{count:,} entries"
    return Finding(
        code=code_of_trouble(kind),
        severity=Severity.ERROR if kind is EntryTrouble.UNREADABLE else Severity.WARNING,
        title=f"{s.label} {_ENTRY_VERBS[kind]} {noun} below {printable(target)}",
        target=target,
        path=target,
        host_path=bind.bind.host_path,
        subject=subject,
        verdict=replace(verdict, steps=steps),
        detail=tuple(
            f"{c.count:,} x {c.inode.type.name.lower()} {owner_label(c.inode)} "
            f"{c.inode.mode:04o}, such as {printable(c.samples[0])}"
            for c, _ in sorted(classes, key=lambda c: -c[0].count)[:3]
        ),
        count=count,
        samples=tuple(x for c, _ in classes for x in c.samples)[:3],
        remedies=entry_remedies(facts, bind, need, s, kind, [c for c, _ in classes]),
    )


_NAMED = 3
"""So many entries are named one by one; more are found by owner and mode."""
_JUDGED = 256
"""Of so many kinds of entries, the most frequent, it is asked who would lose them."""
_WAKES = "wakes entries that an ACL's mask holds back (`permdoctor fix` does not)"


def entry_remedies(
    facts: Facts,
    bind: BindFacts,
    need: Need,
    subject: Subject,
    trouble: EntryTrouble,
    classes: list[EntryClass],
) -> tuple[Remedy, ...]:
    """Best first.  Nothing where the host has no path, or the owners are not its to change."""
    host = bind.bind.host_path
    mount = bind.bind.mount
    if host is None or mount.idmap is not None or mount.sb.fstype in SERVER_DECIDES:
        return ()
    if is_system(host, facts.container.engine.data_root):
        return (narrow_mount(host, bind.bind.target),)
    if any(c.inode.immutable or c.inode.append_only for c in classes):
        named = " ".join(_paths(host, classes))
        return (
            Remedy(
                name="clear-flag",
                title="Clear the immutable or append-only flag, if nobody set it on purpose",
                commands=(f"lsattr -d {named}", f"chattr -i -a {named}"),
            ),
        )
    users = tuple(users_of(facts, host, but=subject))[:MOST]
    spare = tuple(dict.fromkeys(party_of(n) for n in users))
    claim = Claim(cred=subject.cred, mount=mount, need=need, spare=spare)
    made = (_remedy(host, way, classes, users) for way in _ways(claim, trouble))
    return tuple(sorted((r for r in made if r is not None), key=lambda r: r.breaks))


class _Way(Struct, frozen=True, kw_only=True):
    """A recipe, and how people say and do the same.  ``command`` and ``where``, what find(1) has
    to look at besides owner and mode, are asked for each class.
    """

    recipe: Grant
    command: Callable[[Inode], str]
    title: str
    why: str
    where: Callable[[Inode], str] = lambda _: ""


def _ways(claim: Claim, trouble: EntryTrouble) -> tuple[_Way, ...]:
    """Best first.  What cannot be deleted may be for its directory, which cannot be written."""
    about = {trouble}
    if trouble is EntryTrouble.UNDELETABLE:
        about.add(EntryTrouble.UNWRITABLE)
    claim = replace(claim, about=frozenset(about))
    own, acl, chown = _own(claim), _acl(claim), _chown(claim)
    return (own, acl, chown) if trouble is EntryTrouble.UNREADABLE else (own, chown, acl)


def entry_recipes(claim: Claim) -> tuple[Grant, ...]:
    """Everything that repairs entries, in the order in which it is to be tried."""
    return tuple(way.recipe for trouble in EntryTrouble for way in _ways(claim, trouble))


def _own(claim: Claim) -> _Way:
    bits = "rX" if claim.need is Need.READ else "rwX"
    return _Way(
        recipe=OwnerBits(name="chmod-entries", scope=Scope.BELOW, claim=claim),
        command=lambda _: f"chmod u+{bits}",
        title=f"Give their owner the missing bits: u+{bits}",
        why="the process is the owner; the owner's bits decide and refuse",
    )


def _acl(claim: Claim) -> _Way:
    uid = claim.cred.fsuid
    bits = "rX" if claim.need is Need.READ else "rwX"
    return _Way(
        recipe=UserEntry(name="acl-entries", scope=Scope.BELOW, claim=claim),
        command=lambda _: f"setfacl -m u:{uid}:{bits}",
        title=f"An ACL entry for uid {uid} on these entries alone",
        why="owners and modes stay as they are",
    )


def _chown(claim: Claim) -> _Way:
    """Only for what root left behind: a user's entries are not given away."""
    uid, gid = claim.cred.fsuid, claim.cred.fsgid
    stray = frozenset({0})
    recipe = Give(name="chown-entries", scope=Scope.BELOW, claim=claim, gid=gid, of=stray)

    def command(inode: Inode) -> str:
        return f"chown -h {uid}" if recipe.new_gid(inode) is None else f"chown -h {uid}:{gid}"

    def where(inode: Inode) -> str:
        if not inode.mode & (S_ISGID | 0o020):
            return ""
        return "! -gid 0 " if recipe.new_gid(inode) is None else "-gid 0 "

    return _Way(
        recipe=recipe,
        command=command,
        title=f"Give what root left behind to {uid}:{gid}",
        why="with the container stopped",
        where=where,
    )


def _remedy(
    host: bytes, way: _Way, classes: list[EntryClass], users: tuple[Neighbour, ...]
) -> Remedy | None:
    """``None`` where the recipe helps none of them."""
    changed: dict[EntryClass, None] = {}
    helps = set()
    harmed: Counter[str] = Counter()
    proven = True
    for i, c in enumerate(classes):
        parent = _after(way.recipe, c)
        new = way.recipe.change(parent, c.inode)
        left = way.recipe.trouble(parent, new or c.inode)
        proven = proven and left is None
        if new is not None:
            changed[c] = None
        elif left is None:
            changed[_directory(c)] = None
        else:
            continue
        losers = _losers(users, c.inode, new) if new is not None and i < _JUDGED else set()
        harmed.update(dict.fromkeys(losers, c.count))
        if not losers:
            helps.add(i)
    if not changed:
        return None
    asleep = isinstance(way.recipe, UserEntry) and any(held_back(c.inode) for c in changed)
    return Remedy(
        name=way.recipe.name,
        title=way.title,
        commands=tuple(_commands(host, list(changed), way)),
        why=way.why,
        why_not=_WAKES if asleep else "",
        proven=proven,
        impacts=tuple(
            Impact(who=who, before=f"may use {n:,} of them", after="may not", breaks=True)
            for who, n in harmed.items()
        ),
        recipes=(way.recipe,),
        helps=frozenset(helps),
    )


def _losers(users: tuple[Neighbour, ...], old: Inode, new: Inode) -> set[str]:
    if (old.uid, old.gid) == (new.uid, new.gid):
        return set()  # bits and entries are added: they take from nobody
    return {n.who for n in users if party_of(n).loses(old, new)}


def _after(recipe: Grant, c: EntryClass) -> Inode:
    """An entry's directory when the recipe was applied to it; a mount's root is not below it."""
    if b"/" not in c.samples[0]:
        return c.parent
    above = replace(c.parent, mode=0o777, acl=None)  # not known; its own class is judged by it
    return recipe.change(above, c.parent) or c.parent


def _directory(c: EntryClass) -> EntryClass:
    """The directories of entries with which nothing else is wrong."""
    samples = tuple(dict.fromkeys(s.rpartition(b"/")[0] for s in c.samples))
    count = len(samples) if c.count <= _NAMED else c.count
    return EntryClass(parent=c.parent, inode=c.parent, count=count, samples=samples)


def _commands(host: bytes, classes: list[EntryClass], way: _Way) -> Iterator[str]:
    if sum(c.count for c in classes) <= _NAMED:
        for line, group in groupby(classes, lambda c: way.command(c.inode)):
            yield f"{line} {' '.join(_paths(host, list(group)))}"
        return
    alike = {(c.inode.uid, c.inode.mode, c.inode.type, way.where(c.inode)): c for c in classes}
    for (uid, mode, type_, where), c in sorted(alike.items(), key=lambda item: str(item[0])):
        letter = "d" if type_ is FileType.DIRECTORY else "f"
        owner = f"-uid {uid} " if uid is not None else ""
        yield (
            f"find {path_argument(host)} -xdev -type {letter} {owner}{where}-perm {mode:04o} "
            f"-exec {way.command(c.inode)} {{}} +"
        )


def _paths(host: bytes, classes: list[EntryClass]) -> list[str]:
    return [path_argument(host.rstrip(b"/") + b"/" + s) for c in classes for s in c.samples][
        :_NAMED
    ]
