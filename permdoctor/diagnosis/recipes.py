"""Recipes: what a remedy does to each entry of a tree, as pure functions of its inode.

A remedy's commands are for people; its recipe is the same thing for ``repair/``.  A recipe is
asked once for each *kind* of entry (owner, group, mode, ACLs alike), never for each entry, and
answers only for entries that are wrong: never a blanket -R.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import Inode


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
