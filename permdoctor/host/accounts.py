"""Accounts of the host: names for numbers, and what an account may do (getpwent(3), initgroups(3)).

Local files and whatever NSS adds for a number that is asked for; nothing is enumerated over the
network.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.facts import HostUsers
from permdoctor.kernel.caps import ALL, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Kgid, Kuid

_FIRST_PERSON, _LAST_PERSON = 1000, 59999
"""UID_MIN and UID_MAX of login.defs(5)."""


def host_users(uids: Iterable[int], gids: Iterable[int]) -> HostUsers:
    """The names of these host ids, and whoever is asking (or the first person of the host)."""
    users = {u: name for u in set(uids) if (name := user_name(u))}
    groups = {g: name for g in set(gids) if (name := group_name(g))}
    person = _person()
    logins = () if person is None else (account(person),)
    return HostUsers(
        users=tuple(sorted(users.items())), groups=tuple(sorted(groups.items())), logins=logins
    )


def user_name(uid: int) -> str:
    """The account's name, empty where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return ""


def account(uid: int) -> Subject:
    """What an account of the host can do when it logs in; a bare number where it has no name."""
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return _account(uid, uid, (), "")
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return _account(uid, entry.pw_gid, groups, entry.pw_name)


def _account(uid: int, gid: int, groups: Iterable[int], name: str) -> Subject:
    return Subject(
        cred=Cred(
            fsuid=Kuid(uid),
            fsgid=Kgid(gid),
            groups=frozenset(Kgid(g) for g in groups),
            effective=ALL if uid == 0 else Cap.NONE,
        ),
        basis=Basis.PREDICTED,
        host_user=name or f"uid {uid}",
        host_group=group_name(gid),
        umask=0o022,
    )


def _person() -> int | None:
    """Who asks: sudo's caller, or we ourselves; for root, the first person in passwd."""
    for asking in (os.environ.get("SUDO_UID", ""), str(os.getuid())):
        if asking.isascii() and asking.isdigit() and int(asking) != 0:
            return int(asking)
    people = sorted(e.pw_uid for e in pwd.getpwall() if _FIRST_PERSON <= e.pw_uid <= _LAST_PERSON)
    return people[0] if people else None
