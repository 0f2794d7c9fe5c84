"""The catalogue of findings.  A code never changes its meaning; a page of text explains each.

PD1xx are errors (something needed is refused), PD2xx warnings (too much is allowed, or it will
go wrong later), PD3xx informations, PD4xx warnings of the service about its own work.  The pages
are ``pages/PDxxx.md``; reading them is ``cli/``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from permdoctor.diagnosis.report import Severity


class Code(Struct, frozen=True, kw_only=True):
    """``name`` is as stable as ``code``; ``title`` is one line for a list."""

    code: str
    name: str
    severity: Severity
    title: str


_SEVERITIES: Final = {
    "1": Severity.ERROR,
    "2": Severity.WARNING,
    "3": Severity.INFO,
    "4": Severity.WARNING,
}

_TABLE: Final = (
    ("PD101", "write-refused", "The root of a writable mount cannot be written"),
    ("PD102", "read-refused", "The root of a mount cannot be read or searched"),
    ("PD103", "parent-not-searchable", "A directory above the mount refuses search"),
    ("PD104", "acl-refuses", "An ACL entry, or the ACL's mask, refuses"),
    ("PD105", "owner-unmapped", "The owner has no place in the container's user namespace"),
    ("PD106", "mount-read-only", "Something must be written on a read-only mount"),
    ("PD107", "filesystem-read-only", "The filesystem itself is read-only"),
    ("PD108", "immutable", "The immutable or append-only attribute refuses"),
    ("PD109", "not-owner", "Only the owner may do this (chmod, chown), and it is another"),
    ("PD110", "device-refused", "A device or a socket cannot be opened"),
    ("PD111", "unreadable-below", "Entries below a mount cannot be read or searched"),
    ("PD112", "noexec", "The program lies on a mount with noexec"),
    ("PD113", "root-without-capability", "uid 0 without its capabilities is an ordinary user"),
    ("PD114", "source-missing", "The source of a bind mount does not exist"),
    ("PD115", "start-failed", "The container did not start"),
    ("PD116", "ids-unrepresentable", "The process's ids do not exist on this filesystem"),
    ("PD117", "fuse-shut", "A FUSE mount lets nobody in but the one who mounted it"),
    ("PD201", "unwritable-below", "Entries below a writable mount cannot be changed"),
    ("PD202", "undeletable-below", "Entries below a writable mount cannot be deleted"),
    ("PD203", "foreign-leftovers", "Entries that the tree's owner cannot change or delete"),
    ("PD204", "world-writable", "Everybody on the host may write here"),
    ("PD205", "host-control", "What is mounted makes the container root on the host"),
    ("PD206", "id-collision", "The container's number belongs to somebody else on the host"),
    ("PD207", "shared-path-conflict", "Two containers use one directory as different users"),
    ("PD208", "cache-unwritable", "A path that a variable points to cannot be written"),
    ("PD209", "source-deleted", "The source of a mount was deleted while it was in use"),
    ("PD210", "server-decides", "A server or another process has the last word: likely refused"),
    ("PD211", "lsm-may-refuse", "The mode bits allow it, SELinux or AppArmor may refuse"),
    ("PD213", "probe-disagrees", "The kernel answered a probe differently than predicted"),
    ("PD301", "home-cache", "HOME cannot be written; libraries keep their caches there"),
    ("PD302", "new-files-owner", "Whom the files that the container makes will belong to"),
    ("PD303", "overflow-id", "65534 here: nobody, or an id without a mapping"),
    ("PD304", "predicted", "Nothing runs: judged from configuration"),
    ("PD305", "tree-not-complete", "Not all of a tree was read"),
    ("PD306", "noexec-mount", "Nothing on this mount can be executed"),
    ("PD307", "server-decides-note", "Nothing looks refused, but a server has the last word"),
    ("PD401", "repair-in-vain", "The service repaired this, and it is still there"),
    ("PD402", "repairs-fight", "Two repairs undo each other; the service has stopped them"),
    ("PD403", "mount-unjudged", "A mount cannot be judged: its filesystem does not answer"),
    ("PD404", "engine-away", "An engine does not answer: nothing that it runs is judged"),
)

CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        code: Code(code=code, name=name, severity=_SEVERITIES[code[2]], title=title)
        for code, name, title in _TABLE
    }
)
"""Every code, in order."""
