"""``/proc/PID/status``, ``uid_map`` and ``gid_map`` as texts (proc_pid_status(5)).

The outside ids of the maps are host ids when the reader lives in the initial user namespace.
"""

from __future__ import annotations

import re

from msgspec import Struct

from permdoctor.kernel.caps import Cap, parse_caps
from permdoctor.kernel.ids import Extent, IdMap, Kgid, Kuid
from permdoctor.kernel.numbers import MAX_U32, number


class ProcStatus(Struct, frozen=True, kw_only=True):
    """What one status file says of a process.  All ids are host ids.

    ``nspid`` is the pid in each pid namespace, the host's first.  ``seccomp`` is 2 with a filter.
    """

    comm: bytes
    state: str
    ppid: int
    fsuid: Kuid
    fsgid: Kgid
    ruid: Kuid
    groups: frozenset[Kgid]
    effective: Cap
    bounding: Cap
    umask: int | None
    no_new_privs: bool
    seccomp: int
    nspid: tuple[int, ...]


def parse_status(text: bytes) -> ProcStatus:
    """Raises ``ValueError`` where a needed line is missing (the process was dying)."""
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(key, value.strip())
    try:
        uids, gids = fields[b"Uid"].split(), fields[b"Gid"].split()
        umask = fields.get(b"Umask")
        return ProcStatus(
            comm=_unescape_comm(fields[b"Name"]),
            state=_state(fields[b"State"]),
            ppid=number(fields[b"PPid"]),
            ruid=Kuid(number(uids[0])),
            fsuid=Kuid(number(uids[3])),
            fsgid=Kgid(number(gids[3])),
            groups=frozenset(Kgid(number(g)) for g in fields[b"Groups"].split()),
            effective=parse_caps(fields[b"CapEff"].decode("ascii")),
            bounding=parse_caps(fields[b"CapBnd"].decode("ascii")),
            umask=_octal(umask) if umask else None,
            no_new_privs=fields.get(b"NoNewPrivs") == b"1",
            seccomp=number(fields.get(b"Seccomp", b"0")),
            nspid=tuple(number(p) for p in fields.get(b"NSpid", b"").split()),
        )
    except (KeyError, IndexError, UnicodeDecodeError) as e:
        raise ValueError(f"incomplete status: {e}") from e


def _state(word: bytes) -> str:
    """The letter of ``task_state_array``."""
    if not word[:1].isalpha():
        raise ValueError(f"invalid state: {word[:40]!r}")
    return word[:1].decode("ascii")


def _octal(mask: bytes) -> int:
    if not re.fullmatch(b"[0-7]{1,5}", mask):
        raise ValueError(f"invalid umask: {mask[:40]!r}")
    return int(mask, 8) & 0o777


_ESCAPED = re.compile(rb"\\([n\\])")


def _unescape_comm(name: bytes) -> bytes:
    """``proc_task_name`` escapes newline and backslash, nothing else."""
    return _ESCAPED.sub(lambda m: b"\n" if m[1] == b"n" else b"\\", name)


def parse_id_map(text: bytes) -> IdMap:
    """The extents of a map file.  Raises ``ValueError`` on anything but lines of three numbers."""
    extents = []
    for line in text.splitlines():
        inside, outside, count = (number(n) for n in line.split())
        if max(inside, outside) + count > MAX_U32 + 1:
            raise ValueError(f"ids {inside} {outside} {count} end after the last one")
        extents.append(Extent(inside=inside, outside=outside, count=count))
    return IdMap(tuple(extents))
