"""``Config.User`` and ``group_add`` against the image's own passwd and group.

Mirrors ``GetExecUser`` and ``GetAdditionalGroups`` of moby/sys/user (runc's and Docker's resolver),
oddities included: a number that passwd does not know gets gid 0; a malformed number in passwd
counts as 0; an explicit group turns the image's supplementary groups off.  All ids are inside
ids.  The texts come from the image and are not trusted.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct, field

from permdoctor.errors import CannotCheckError
from permdoctor.kernel.ids import Gid, Uid
from permdoctor.kernel.text import printable

MAX_ID: Final = (1 << 31) - 1
"""``maxID`` of moby/sys/user."""

MAX_BYTES: Final = 1 << 20
"""How much of a passwd or group is looked at."""

_SHOWN: Final = 100
"""Bytes of a name that is not found."""

_INTEGER = re.compile(rb"[+-]?[0-9]+\Z")
_MAX_INT: Final = (1 << 63) - 1


class PredictionError(CannotCheckError):
    """Who a container would be cannot be told: the engine would refuse to start it, or a fact
    that decides it is not known.
    """


class PasswdEntry(Struct, frozen=True, kw_only=True):
    """A line of passwd(5); what is missing or malformed is empty or 0, as moby reads it."""

    name: bytes
    uid: int
    gid: int
    home: bytes = b""


class GroupEntry(Struct, frozen=True, kw_only=True):
    """A line of group(5)."""

    name: bytes
    gid: int
    members: tuple[bytes, ...] = ()


class ExecUser(Struct, frozen=True, kw_only=True):
    """Who the first process will be.  ``groups`` has the primary gid too (Docker >= 20.10.18)."""

    uid: Uid
    gid: Gid
    groups: frozenset[Gid] = field(default_factory=frozenset)
    home: bytes = b"/"


def parse_passwd(text: bytes) -> tuple[PasswdEntry, ...]:
    """Every line that is not blank, in order (``ParsePasswdFilter``)."""
    entries = []
    for line in _lines(text):
        f = line.split(b":")
        f += [b""] * (6 - len(f))
        entries.append(PasswdEntry(name=f[0], uid=_int(f[2]), gid=_int(f[3]), home=f[5]))
    return tuple(entries)


def parse_group(text: bytes) -> tuple[GroupEntry, ...]:
    """Every line that is not blank, in order (``ParseGroupFilter``)."""
    entries = []
    for line in _lines(text):
        f = line.split(b":")
        f += [b""] * (4 - len(f))
        members = tuple(f[3].split(b",")) if f[3] else ()
        entries.append(GroupEntry(name=f[0], gid=_int(f[2]), members=members))
    return tuple(entries)


def resolve_user(
    spec: str, group_add: tuple[str, ...], passwd: bytes | None, group: bytes | None
) -> ExecUser:
    """Who ``Config.User`` and ``HostConfig.GroupAdd`` mean; ``None`` is a file the image lacks.

    Raises :class:`PredictionError` with the engine's own words where it would not start.
    """
    users, groups = parse_passwd(passwd or b""), parse_group(group or b"")
    user_arg, group_arg, *_ = (*spec.encode("utf-8", "replace").split(b":"), b"")
    matched = _match_user(user_arg, users)
    uid = Uid(_valid(matched.uid))
    gid, supplementary = Gid(matched.gid), frozenset[Gid]()
    if group_arg:
        gid = _match_group(group_arg, groups)
    elif matched.name:
        supplementary = frozenset(Gid(g.gid) for g in groups if matched.name in g.members)
    added = frozenset(_added_group(g, groups) for g in group_add)
    return ExecUser(
        uid=uid,
        gid=Gid(_valid(gid)),
        groups=frozenset({gid}) | supplementary | added,
        home=matched.home or b"/",
    )


def user_name(passwd: bytes | None, uid: int) -> str:
    """The first name of an inside uid, escaped; empty if there is none."""
    return next((printable(u.name) for u in parse_passwd(passwd or b"") if u.uid == uid), "")


def group_name(group: bytes | None, gid: int) -> str:
    """The first name of an inside gid, escaped; empty if there is none."""
    return next((printable(g.name) for g in parse_group(group or b"") if g.gid == gid), "")


def _match_user(arg: bytes, users: tuple[PasswdEntry, ...]) -> PasswdEntry:
    number = 0 if not arg else _number(arg)
    for u in users:
        if (u.name == arg) if number is None else (u.uid == number):
            return u
    if number is None:
        raise PredictionError(
            f"unable to find user {_shown(arg)}: no matching entries in passwd file",
            hint="the name is looked up in the image's /etc/passwd, not the host's; give a number",
        )
    return PasswdEntry(name=b"", uid=number, gid=0)


def _match_group(arg: bytes, groups: tuple[GroupEntry, ...]) -> Gid:
    number = _number(arg)
    for g in groups:
        if (g.name == arg) if number is None else (g.gid == number):
            return Gid(g.gid)
    if number is None:
        raise _no_group("unable", arg)
    return Gid(_valid(number))


def _added_group(arg: str, groups: tuple[GroupEntry, ...]) -> Gid:
    wanted = arg.encode("utf-8", "replace")
    for g in groups:
        if wanted in (g.name, b"%d" % g.gid):
            return Gid(g.gid)
    number = _number(wanted)
    if number is None:
        raise _no_group("Unable", wanted)
    return Gid(_valid(number))


def _no_group(verb: str, arg: bytes) -> PredictionError:
    return PredictionError(
        f"{verb} to find group {_shown(arg)}: no matching entries in group file",
        hint="the name is looked up in the image's /etc/group, not the host's; give a number",
    )


def _shown(arg: bytes) -> str:
    return printable(arg if len(arg) <= _SHOWN else arg[:_SHOWN] + b"...")


def _lines(text: bytes) -> list[bytes]:
    return [s for s in (line.strip() for line in text[:MAX_BYTES].split(b"\n")) if s]


def _number(arg: bytes) -> int | None:
    """``strconv.Atoi``: no blanks, no underscores; ``None`` for what does not fit, too."""
    found = _int(arg)
    return found if _INTEGER.match(arg) and abs(found) < _MAX_INT else None


def _int(field_: bytes) -> int:
    """What Atoi gives beside its error: the nearest one for what does not fit, 0 for no number."""
    if not _INTEGER.match(field_):
        return 0
    size = min(int(field_.lstrip(b"+-0")[:20] or b"0"), _MAX_INT)
    return -size if field_.startswith(b"-") else size


def _valid(number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise PredictionError("uids and gids must be in range 0-2147483647")
    return number
