"""Recipes: what a remedy does to each entry of a tree, as pure functions of its inode.

A remedy's commands are for people; its recipe is the same thing for ``repair/``, and its proof is
made with the recipe, so the three cannot disagree.  A recipe is asked once for each *kind* of
entry (owner, group, mode, ACLs alike), never for each entry, and answers only for entries that are
wrong, by the rules that refused (``judge.py``), and only where its change makes them right: never
a blanket -R.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.needs import Need
from permdoctor.diagnosis import edits
from permdoctor.diagnosis.judge import EntryTrouble, Phase, ask, judge_entry, operations_for, rights
from permdoctor.kernel.acl import Tag
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import S_ISGID, FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import is_owner


class Scope(StrEnum):
    """Which entries a recipe is asked about: the job's path itself, what lies below it, both."""

    ROOT = "root"
    BELOW = "below"
    ALL = "all"


class Recipe(Struct, frozen=True, kw_only=True):
    """Base of all recipes.  ``name`` is the remedy's."""

    name: str
    scope: Scope

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        """The inode as it should be; ``None`` where nothing is wrong with it, or where this
        recipe does not help.

        ``parent`` is its directory *as it will be after the repair* (``None`` for the job's root).
        Only uid, gid, mode, acl and default_acl may differ from ``inode``.
        """
        raise NotImplementedError


class ToOwner(Recipe, frozen=True, kw_only=True):
    """Everything that belongs to somebody else is given to host ids ``uid`` and ``gid``
    (``None``: that one is left as it is).  ``fix --path DIR --to UID:GID``.
    """

    uid: int | None
    gid: int | None

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        uid = inode.uid if self.uid is None else Kuid(self.uid)
        gid = inode.gid if self.gid is None else Kgid(self.gid)
        if (uid, gid) == (inode.uid, inode.gid):
            return None
        return replace(inode, uid=uid, gid=gid)


class Party(Struct, frozen=True, kw_only=True):
    """Somebody who uses a tree: credentials, the mount through which they see it, what they need
    of it.
    """

    cred: Cred
    mount: Mount
    need: Need

    def loses(self, old: Inode, new: Inode) -> bool:
        """Whether a right that counts for this need is gone: its own choice to chmod does not."""
        counts = operations_for(self.need, old)
        before = rights(self.cred, old, self.mount)
        return bool(before.intersection(counts) - rights(self.cred, new, self.mount))


class Claim(Party, frozen=True, kw_only=True):
    """A party that is refused what it needs.

    ``phases`` is what is asked of the job's root (empty: what the need asks of it); ``about`` are
    the troubles with entries that are meant (empty: all).  ``spare`` are those who should not lose
    by it.
    """

    phases: tuple[Phase, ...] = ()
    about: frozenset[EntryTrouble] = frozenset()
    spare: tuple[Party, ...] = ()


class Grant(Recipe, frozen=True, kw_only=True):
    """Base of the recipes by which somebody gets what it needs and is refused.

    ``careful``: what would take a right from one whom the claim spares is not done.
    """

    claim: Claim
    careful: bool = False

    def edit(self, inode: Inode) -> Inode | None:
        """The change itself, whether it is needed or not; ``None`` where it is not for this one."""
        raise NotImplementedError

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        trouble = self.trouble(parent, inode)
        if trouble is None or (self.claim.about and trouble not in self.claim.about):
            return None
        new = self.edit(inode)
        if new is None or new == inode:
            return None
        left = self.trouble(parent, new)
        if left is not None and (left is trouble or left is not EntryTrouble.UNDELETABLE):
            return None  # whether an entry can be deleted is up to its directory
        return None if self.takes(inode, new) else new

    def takes(self, old: Inode, new: Inode) -> bool:
        """Whether it is to be careful, and would not be."""
        return self.careful and any(p.loses(old, new) for p in self.claim.spare)

    def trouble(self, parent: Inode | None, inode: Inode) -> EntryTrouble | None:
        """What the claimant cannot do; a flag (chattr) that forbids it is nothing to a recipe."""
        claim, inode = self.claim, _unflagged(inode)
        if parent is not None:
            found = judge_entry(claim.cred, _unflagged(parent), inode, claim.mount, claim.need)
            return None if found is None else found[0]
        for phase in claim.phases or operations_for(claim.need, inode):
            if not ask(claim.cred, inode, claim.mount, phase).allowed:
                reads = phase in (Phase.WALK, Phase.READ)
                return EntryTrouble.UNREADABLE if reads else EntryTrouble.UNWRITABLE
        return None

    def bits(self, inode: Inode) -> int:
        """The rwx bits that the need asks of this inode, x as the capital X of setfacl(1)."""
        phases = self.claim.phases
        if phases == (Phase.WALK,):
            return 1
        x = inode.is_dir or (not phases and inode.any_x)
        reads = phases == (Phase.READ,) if phases else self.claim.need is Need.READ
        return (4 if reads else 6) | x


def _unflagged(inode: Inode) -> Inode:
    if not (inode.immutable or inode.append_only):
        return inode
    return replace(inode, immutable=False, append_only=False)


class OwnerBits(Grant, frozen=True, kw_only=True):
    """chmod u+: the claimant is the owner, and the owner's own bits refuse."""

    def edit(self, inode: Inode) -> Inode | None:
        if not is_owner(self.claim.cred, inode):
            return None
        return edits.chmod(inode, add=self.bits(inode) << 6)


class GroupBits(Grant, frozen=True, kw_only=True):
    """chmod g+: the claimant is in the group.  Not where the mask would wake others' entries."""

    def edit(self, inode: Inode) -> Inode | None:
        cred = self.claim.cred
        if is_owner(cred, inode) or not cred.in_group(inode.gid):
            return None
        bits = self.bits(inode)
        if edits.held_back(inode, (Tag.GROUP_OBJ, None)):
            return None
        return edits.chmod(inode, add=bits << 3)


class Give(Grant, frozen=True, kw_only=True):
    """chown to the claimant (``gid`` is its group), and u+ what it needs if ``bits_too``.

    ``of`` are the host uids whose entries may be given away (``None``: anybody's).  A group that
    may write, that may do what others may not, or that new files inherit, is somebody's: it stays
    where ``keeps_group``.
    """

    gid: int
    of: frozenset[int] | None = None
    bits_too: bool = False
    keeps_group: bool = True

    def edit(self, inode: Inode) -> Inode | None:
        if self.of is not None and inode.uid not in self.of:
            return None
        given = edits.give(inode, self.claim.cred.fsuid, self.new_gid(inode))
        return edits.chmod(given, add=self.bits(inode) << 6) if self.bits_too else given

    def new_gid(self, inode: Inode) -> int | None:
        """``None``: the group stays."""
        theirs = inode.mode & (S_ISGID | 0o020) or inode.mode >> 3 & ~inode.mode & 0o7
        return None if self.keeps_group and inode.gid and theirs else self.gid


class UserEntry(Grant, frozen=True, kw_only=True):
    """An ACL entry for the claimant's uid.  Never less than it had."""

    def edit(self, inode: Inode) -> Inode | None:
        if not self.claim.mount.sb.acls:
            return None
        uid = self.claim.cred.fsuid
        had = edits.entry_of(inode.acl, Tag.USER, uid)
        return edits.set_entry(inode, Tag.USER, uid, self.bits(inode) | had)


def object_recipes(claim: Claim) -> tuple[Grant, ...]:
    """Everything that repairs one object, in the order in which it is to be tried; what is a
    user's is not given away.
    """
    return (
        OwnerBits(name="chmod-owner", scope=Scope.ROOT, claim=claim),
        GroupBits(name="chmod-group", scope=Scope.ROOT, claim=claim),
        Give(
            name="chown-directory",
            scope=Scope.ROOT,
            claim=claim,
            gid=claim.cred.fsgid,
            of=frozenset({0}),
            bits_too=True,
        ),
        UserEntry(name="acl-user", scope=Scope.ROOT, claim=claim),
    )


class SharedGroup(Grant, frozen=True, kw_only=True):
    """One group for all who write into a directory, inherited by what they make.

    The claimant's credentials are those it will have with the group added.
    """

    gid: int

    def edit(self, inode: Inode) -> Inode | None:
        shared = edits.give(inode, None, self.gid)
        if inode.acl is None:
            shared = edits.chmod(shared, add=S_ISGID | 0o070)
        else:
            shared = edits.set_entry(edits.chmod(shared, add=S_ISGID), Tag.GROUP_OBJ, None, 7)
        acls = self.claim.mount.sb.acls
        return edits.set_default(shared, Tag.GROUP_OBJ, None, 7) if acls else shared

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        """Asked of one directory: wrong is all that has not got this form yet."""
        new = self.edit(inode) if inode.is_dir else None
        if new is None or new == inode or self.trouble(parent, new) is not None:
            return None
        return None if self.takes(inode, new) else new


class DefaultEntry(Grant, frozen=True, kw_only=True):
    """An entry for the claimant, and a default entry: for what will be made there, too."""

    def edit(self, inode: Inode) -> Inode | None:
        if not self.claim.mount.sb.acls:
            return None
        uid = self.claim.cred.fsuid
        inherited = edits.set_default(inode, Tag.USER, uid, 7)
        return edits.set_entry(inherited, Tag.USER, uid, 7)

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        new = self.edit(inode) if inode.is_dir else None
        return None if new == inode else new


class CloseOthers(Recipe, frozen=True, kw_only=True):
    """o-w, after an ACL entry for each of ``parties`` that lives on that bit."""

    parties: tuple[Party, ...] = ()

    def change(self, parent: Inode | None, inode: Inode) -> Inode | None:
        if not is_open(inode):
            return None
        new = edits.chmod(inode, drop=0o002)
        for p in self.dependants(inode):
            perm = 6 | (inode.is_dir or inode.any_x)
            perm |= edits.entry_of(inode.acl, Tag.USER, p.cred.fsuid)
            new = edits.set_entry(new, Tag.USER, p.cred.fsuid, perm)
        return None if any(p.loses(inode, new) for p in self.parties) else new

    def dependants(self, inode: Inode) -> tuple[Party, ...]:
        """The parties that could not use it any more without the bit for others."""
        closed = edits.chmod(inode, drop=0o002)
        return tuple(p for p in self.parties if p.loses(inode, closed))


def is_open(inode: Inode) -> bool:
    """Writable by everybody.  A sticky directory (/tmp) is meant so."""
    return (
        bool(inode.mode & 0o002)
        and inode.type in (FileType.DIRECTORY, FileType.REGULAR)
        and not (inode.is_dir and inode.sticky)
    )
