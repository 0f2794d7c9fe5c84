"""Ids as a person reads them: the number inside, the name inside, and the number on the host.

Everything given in is a host id; what the reader sees first is the id inside the container,
because that is what ``ls`` and ``id`` show there.  Where the two differ both are named.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, field

from permdoctor.container.subject import Subject
from permdoctor.kernel.ids import INITIAL, Kgid, Kuid, UserNs
from permdoctor.kernel.text import printable

Pairs = tuple[tuple[int, str], ...]
Kind = Literal["uid", "gid"]


class Names(Struct, frozen=True, kw_only=True):
    """Names for ids as one user namespace sees them.

    ``users`` and ``groups`` are by inside id, ``host_users`` and ``host_groups`` by host id;
    they are escaped already.
    """

    userns: UserNs = INITIAL
    users: Pairs = ((0, "root"),)
    groups: Pairs = ((0, "root"),)
    host_users: Pairs = field(default=((0, "root"),))
    host_groups: Pairs = field(default=((0, "root"),))

    def user(self, kuid: int | None) -> str:
        """``1001 (model) = host 101001``, ``1001 (model)``, ``host 0 (root), unmapped here``."""
        return self._sentence("uid", kuid)

    def group(self, kgid: int | None) -> str:
        """As :meth:`user`, for a group."""
        return self._sentence("gid", kgid)

    def user_column(self, kuid: int | None) -> str:
        """``model(1001)``, ``model(1001)=101001``, ``host:0`` for an unmapped id."""
        return self._column("uid", kuid)

    def group_column(self, kgid: int | None) -> str:
        return self._column("gid", kgid)

    def _sentence(self, kind: Kind, host: int | None) -> str:
        if host is None:
            return "an id without mapping"
        inside = self._inside(kind, host)
        if inside is None:
            return f"host {_with_name(host, self._host_name(kind, host))}, unmapped here"
        shown = _with_name(inside, self._name(kind, inside))
        return shown if inside == host else f"{shown} = host {host}"

    def _column(self, kind: Kind, host: int | None) -> str:
        if host is None:
            return "unmapped"
        inside = self._inside(kind, host)
        if inside is None:
            return f"host:{host}"
        name = self._name(kind, inside)
        shown = f"{name}({inside})" if name else str(inside)
        return shown if inside == host else f"{shown}={host}"

    def _inside(self, kind: Kind, host: int) -> int | None:
        return self.userns.uid(Kuid(host)) if kind == "uid" else self.userns.gid(Kgid(host))

    def _name(self, kind: Kind, inside: int) -> str:
        return dict(self.users if kind == "uid" else self.groups).get(inside, "")

    def _host_name(self, kind: Kind, host: int) -> str:
        return dict(self.host_users if kind == "uid" else self.host_groups).get(host, "")


def names_of(subject: Subject | None, subjects: Iterable[Subject]) -> Names:
    """What is known of names from the subjects of a container, seen by one of them."""
    everybody = tuple(subjects)
    userns = subject.cred.userns if subject is not None else INITIAL
    if subject is None and everybody:
        userns = everybody[0].cred.userns
    same = [s for s in everybody if s.cred.userns == userns]
    root = [(0, "root")]
    return Names(
        userns=userns,
        users=_pairs(root, ((s.uid, s.inside_user) for s in same)),
        groups=_pairs(root, ((s.gid, s.inside_group) for s in same)),
        host_users=_pairs(root, ((s.cred.fsuid, s.host_user) for s in everybody)),
        host_groups=_pairs(root, ((s.cred.fsgid, s.host_group) for s in everybody)),
    )


def who(subject: Subject) -> str:
    """``1001:1001 (model)``, and the host's numbers where they differ."""
    shown = _ids(subject.uid, subject.gid)
    if subject.inside_user:
        shown += f" ({printable(subject.inside_user)})"
    host = _ids(subject.cred.fsuid, subject.cred.fsgid)
    return shown if host == _ids(subject.uid, subject.gid) else f"{shown} = host {host}"


def who_in_full(subject: Subject) -> str:
    """As :func:`who`, but the host's numbers and names always, and the groups."""
    shown = _ids(subject.uid, subject.gid)
    if subject.inside_user:
        shown += f" ({printable(subject.inside_user)})"
    shown += f" = host {_ids(subject.cred.fsuid, subject.cred.fsgid)}"
    if subject.host_user:
        shown += f" ({printable(subject.host_user)})"
    extra = [g for g in subject.inside_groups if g != subject.gid]
    return shown + (f", groups {' '.join(str(g) for g in extra)}" if extra else "")


def _ids(uid: int | None, gid: int | None) -> str:
    return ":".join("unmapped" if i is None else str(i) for i in (uid, gid))


def _with_name(number: int, name: str) -> str:
    return f"{number} ({name})" if name else str(number)


def _pairs(first: list[tuple[int, str]], more: Iterable[tuple[int | None, str]]) -> Pairs:
    known = dict(first)
    for number, name in more:
        if number is not None and name:
            known[number] = printable(name)
    return tuple(known.items())
