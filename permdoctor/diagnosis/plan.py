"""What a repair is about to change, and what came of it: the types that are shown to people.

A :class:`Job` says where and by which recipes; surveying it gives a :class:`Summary`; applying the
plan gives an :class:`Outcome`.  The plan itself, entry by entry, is never in memory: it may have
millions of entries and lies in the journal (``repair/``).
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from permdoctor.diagnosis.recipes import Recipe
from permdoctor.kernel.inode import Inode

SAMPLES = 3


class Job(Struct, frozen=True, kw_only=True):
    """One tree, or one object, to be repaired.

    ``path`` is its resolved absolute path on the host.  ``dev`` and ``ino`` are what the container
    sees there (0: nobody looked); a plan is refused if the host's path leads elsewhere.
    ``recipes`` are asked in order, each on what the one before made of an entry.
    """

    path: bytes
    recipes: tuple[Recipe, ...]
    dev: int = 0
    ino: int = 0


class Reason(StrEnum):
    """Why an entry is left alone.  The values are stable: they are in the JSON."""

    HARD_LINKS = "hard-links"
    SET_ID = "set-id"
    FILE_CAPS = "file-capabilities"
    SPECIAL = "special-file"
    SYMLINK = "symlink"
    FLAGS = "immutable"
    OTHER_MOUNT = "other-mount"
    LOST_FOUND = "lost+found"
    FRESH = "being-changed"
    UNREADABLE = "unreadable"
    TOO_LARGE = "acl-too-large"
    CHANGED = "changed-since"
    GONE = "gone"
    RACED = "changed-while-repaired"
    FAILED = "failed"
    NOT_REACHED = "not-reached"
    UNKNOWN = "unknown"


class Change(Struct, frozen=True, kw_only=True):
    """Entries that are changed in the same way.

    ``before`` and ``after`` differ in owner, mode or ACL.  ``drops`` names what else is lost
    ("setuid", "setgid", "file capabilities"): only ever with the user's word.  ``samples`` are up
    to three paths relative to the job's path; the root itself is ``b"."``.
    """

    before: Inode
    after: Inode
    count: int
    samples: tuple[bytes, ...]
    drops: tuple[str, ...] = ()


class Left(Struct, frozen=True, kw_only=True):
    """Entries that are left alone, and why.  ``detail`` is an errno's name and call, or empty."""

    reason: Reason
    count: int
    samples: tuple[bytes, ...]
    detail: str = ""


class TreePlan(Struct, frozen=True, kw_only=True):
    """What the plan does at one job's path."""

    path: bytes
    entries: int
    """Looked at, the root included."""
    changes: tuple[Change, ...]
    left: tuple[Left, ...] = ()

    @property
    def count(self) -> int:
        return sum(c.count for c in self.changes)


class Summary(Struct, frozen=True, kw_only=True):
    """A plan as a whole.  ``stopped`` says why it is not complete (empty: it is); an incomplete
    plan is never applied.
    """

    trees: tuple[TreePlan, ...]
    stopped: str = ""

    @property
    def count(self) -> int:
        return sum(t.count for t in self.trees)


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of applying a plan.

    ``applied`` entries were changed and read again.  ``already`` were found in the wanted state.
    ``stopped`` says why the rest was not tried (empty: everything was).
    """

    planned: int
    applied: int
    already: int = 0
    left: tuple[Left, ...] = ()
    stopped: str = ""

    @property
    def complete(self) -> bool:
        return not self.stopped and not self.left
