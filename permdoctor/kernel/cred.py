"""Credentials: what ``struct cred`` holds of a process, as far as file permissions ask for it."""

from __future__ import annotations

from msgspec import Struct

from permdoctor.kernel.caps import Cap
from permdoctor.kernel.ids import INITIAL, Kgid, Kuid, UserNs


class Cred(Struct, frozen=True, kw_only=True):
    """File-system credentials (credentials(7)); every id is a host id.

    ``effective`` counts in ``userns``.  Real and saved ids are left out: Linux asks for the
    fs ids (setfsuid(2)), which follow the effective ones.  ``euid`` is needed only of a process
    where it does not (``None``: the fsuid).
    """

    fsuid: Kuid
    fsgid: Kgid
    groups: frozenset[Kgid] = frozenset()
    effective: Cap = Cap.NONE
    userns: UserNs = INITIAL
    euid: Kuid | None = None

    def in_group(self, gid: Kgid | None) -> bool:
        """``in_group_p``: never for an invalid gid."""
        return gid is not None and (gid == self.fsgid or gid in self.groups)

    def has(self, cap: Cap) -> bool:
        """``ns_capable(current_user_ns(), cap)``."""
        return cap in self.effective

    def capable_in(self, ns: UserNs, cap: Cap) -> bool:
        """``ns_capable(ns, cap)``, as ``cap_capable`` (``security/commoncap.c``) decides it.

        The own effective set counts in the own namespace and everything below it; the owner of a
        namespace (by its *effective* uid), living in its parent, has every capability over it.
        """
        euid = self.fsuid if self.euid is None else self.euid
        at: UserNs | None = ns
        while at is not None:
            if at.inum == self.userns.inum:
                return cap in self.effective
            if at.parent is not None and at.parent.inum == self.userns.inum and at.owner == euid:
                return True
            at = at.parent
        return False
