"""A verdict and the steps that led to it.

Steps are the rules of ``permission()`` and of the operations, in the order in which Linux asks
them; the explanation a person reads is made from them and from nothing else.  They carry numbers;
``render/steps.py`` makes the sentences.
"""

from __future__ import annotations

import errno
from enum import IntEnum, IntFlag, StrEnum, auto

from msgspec import Struct

from permdoctor.kernel.caps import Cap


class Want(IntFlag):
    """The access asked for: ``MAY_READ``, ``MAY_WRITE``, ``MAY_EXEC`` (search, on a directory)."""

    NONE = 0
    X = 1
    W = 2
    R = 4

    def __str__(self) -> str:
        return "".join(
            c if b in self else "-" for c, b in (("r", Want.R), ("w", Want.W), ("x", Want.X))
        )


class Errno(IntEnum):
    """The errno values that the rules give."""

    EPERM = errno.EPERM
    ENOENT = errno.ENOENT
    EACCES = errno.EACCES
    EBUSY = errno.EBUSY
    EEXIST = errno.EEXIST
    EXDEV = errno.EXDEV
    ENOTDIR = errno.ENOTDIR
    EISDIR = errno.EISDIR
    EINVAL = errno.EINVAL
    EROFS = errno.EROFS
    ELOOP = errno.ELOOP
    EOVERFLOW = errno.EOVERFLOW
    EOPNOTSUPP = errno.EOPNOTSUPP


class Rule(StrEnum):
    """The rules.  Each value is a stable name (it stands in the JSON output)."""

    SB_READ_ONLY = "superblock-read-only"
    MOUNT_READ_ONLY = "mount-read-only"
    NOEXEC = "noexec"
    NODEV = "nodev"
    IMMUTABLE = "immutable"
    APPEND_ONLY = "append-only"
    UNMAPPED = "unmapped-id"
    UNREPRESENTABLE = "unrepresentable-id"
    OWNER_BITS = "owner-bits"
    ACL_SWITCHED_OFF = "acl-switched-off"
    ACL_USER = "acl-named-user"
    ACL_OWNING_GROUP = "acl-owning-group"
    ACL_GROUP = "acl-named-group"
    ACL_GROUP_CLASS = "acl-group-class"
    ACL_OTHER = "acl-other"
    GROUP_BITS = "group-bits"
    OTHER_BITS = "other-bits"
    CAPABILITY = "capability"
    NO_X_BIT = "no-execute-bit"
    STICKY = "sticky-directory"
    NOT_OWNER = "not-owner"
    OWNER = "owner"
    PROTECTED_SYMLINKS = "protected-symlinks"
    PROTECTED_HARDLINKS = "protected-hardlinks"
    PROTECTED_CREATE = "protected-regular-fifos"
    TOO_MANY_LINKS = "too-many-symlinks"
    CROSS_MOUNT = "cross-mount"
    WRONG_TYPE = "wrong-file-type"
    EXISTS = "exists"
    MISSING = "missing"
    MOUNTPOINT = "mountpoint"
    NOT_IN_NAMESPACE = "id-not-in-namespace"
    NO_ACL_SUPPORT = "no-acl-support"


class Outcome(StrEnum):
    GRANTS = auto()
    """The rule decides: allowed."""
    REFUSES = auto()
    """The rule decides: refused."""
    PASSES = auto()
    """The rule was asked and did not decide; the next one is asked."""


class Step(Struct, frozen=True, kw_only=True):
    """One rule, asked once.  ``want``/``has`` are the bits compared; ``id`` the host id, ``cap``
    the capability the rule turned on; ``mask`` an ACL's mask; ``why`` tells apart the ways in
    which a capability does not count.  ``about`` names the inode among those of the operation.
    """

    rule: Rule
    outcome: Outcome
    about: str = ""
    want: Want = Want.NONE
    has: Want | None = None
    mask: Want | None = None
    id: int | None = None
    cap: Cap = Cap.NONE
    why: str = ""


class Verdict(Struct, frozen=True, kw_only=True):
    """Allowed or refused, the errno the process would get, and every step on the way."""

    errno: Errno | None
    steps: tuple[Step, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.errno is None

    @property
    def deciding(self) -> Step | None:
        """The step that refused, or the last one that granted."""
        return next(
            (s for s in reversed(self.steps) if s.outcome is not Outcome.PASSES),
            self.steps[-1] if self.steps else None,
        )
