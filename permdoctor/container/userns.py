"""The user namespace that a container will get, from the engine's mode and subuid(5), subgid(5).

Inspect never shows the map, so this predicts it for a container that does not run; of a running
one ``/proc/PID/uid_map`` is read.  Mirrors moby ``idtools`` (``createIDMap``: the ranges of one
owner, laid end to end from inside id 0) and rootlesskit (0 is the user, then the ranges).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from permdoctor.container.container import EngineInfo
from permdoctor.container.users import PredictionError
from permdoctor.kernel.ids import INITIAL, Extent, IdMap, Kuid, UserNs
from permdoctor.kernel.text import printable

PREDICTED_INUM: Final = 0
"""``UserNs.inum`` of a namespace that does not exist yet."""

_DEFAULT_COUNT: Final = 65536


class SubIdRange(Struct, frozen=True, kw_only=True):
    """One line of subuid(5) or subgid(5): host ids ``start`` to ``start + count - 1``."""

    owner: str
    start: int
    count: int


class SubIds(Struct, frozen=True, kw_only=True):
    """Both files.  ``name`` and ``gid`` are of the user whose rootless engine it is (not needed
    under userns-remap): lines may be keyed by this name or by the engine's ``rootless_uid``, and
    the gid, the uid's number unless given, is what inside gid 0 becomes.
    """

    uids: tuple[SubIdRange, ...] = ()
    gids: tuple[SubIdRange, ...] = ()
    name: str = ""
    gid: int | None = None


def parse_subids(text: bytes) -> tuple[SubIdRange, ...]:
    """The lines that make sense, in order; comments and garbage are left out."""
    ranges = []
    for line in text.decode("utf-8", "replace").splitlines():
        owner, *numbers = line.strip().split(":")
        if not owner or owner.startswith("#") or len(numbers) != 2:
            continue
        if not all(n.isascii() and n.isdigit() and len(n) <= 10 for n in numbers):
            continue
        start, count = (int(n) for n in numbers)
        if count and start + count <= 1 << 32:
            ranges.append(SubIdRange(owner=owner, start=start, count=count))
    return tuple(ranges)


def predicted_userns(
    engine: EngineInfo, userns_mode: str = "", subids: SubIds | None = None
) -> UserNs:
    """The namespace of a container with this HostConfig.UsernsMode.  Maps are into host ids.

    Raises :class:`PredictionError` where the facts do not tell.
    """
    subids = subids or SubIds()
    if engine.rootless:
        return _rootless(engine, userns_mode, subids)
    if userns_mode == "host" or (engine.remapped_root is None and userns_mode == ""):
        return INITIAL
    if engine.remapped_root is None or userns_mode not in ("", "private"):
        raise PredictionError(
            f"the id map of --userns={printable(userns_mode[:100])} is not known before it runs",
            hint="start it and check again",
        )
    uid, gid = engine.remapped_root
    return _namespace(
        _end_to_end(_of_root(subids.uids, uid), 0),
        _end_to_end(_of_root(subids.gids, gid), 0),
        owner=0,
    )


def _of_root(ranges: tuple[SubIdRange, ...], root: int) -> tuple[SubIdRange, ...]:
    """The ranges of whoever owns the one that starts at the remapped root, as they are laid out.

    Docker lays them end to end in the order of the file; old versions sorted them first.  Both
    name the data root after the first, which tells the two apart.
    """
    owner = next((r.owner for r in ranges if r.start == root), None)
    if owner is None:
        return (SubIdRange(owner="", start=root, count=_DEFAULT_COUNT),)
    own = tuple(r for r in ranges if r.owner == owner)
    return own if own[0].start == root else tuple(sorted(own, key=lambda r: r.start))


def _rootless(engine: EngineInfo, mode: str, subids: SubIds) -> UserNs:
    uid = engine.rootless_uid
    if uid is None:
        raise PredictionError(
            "the user of the rootless engine is not known", hint="run permdoctor as that user"
        )
    gid = uid if subids.gid is None else subids.gid
    own_uids = _owned(subids.uids, subids.name, uid)
    own_gids = _owned(subids.gids, subids.name, uid)
    if mode in ("", "host", "private"):
        return _namespace(
            (Extent(inside=0, outside=uid, count=1), *_end_to_end(own_uids, 1)),
            (Extent(inside=0, outside=gid, count=1), *_end_to_end(own_gids, 1)),
            owner=uid,
        )
    if mode == "keep-id":
        return _namespace(_keep_id(own_uids, uid), _keep_id(own_gids, gid), owner=uid)
    raise PredictionError(
        f"the id map of --userns={printable(mode[:100])} is not known before it runs",
        hint="start it and check again",
    )


def _owned(ranges: tuple[SubIdRange, ...], name: str, uid: int) -> tuple[SubIdRange, ...]:
    keys = {str(uid), name} - {""}
    return tuple(r for r in ranges if r.owner in keys)


def _end_to_end(ranges: tuple[SubIdRange, ...], first: int) -> tuple[Extent, ...]:
    extents = []
    for r in ranges:
        extents.append(Extent(inside=first, outside=r.start, count=r.count))
        first += r.count
    return tuple(extents)


def _keep_id(ranges: tuple[SubIdRange, ...], id_: int) -> tuple[Extent, ...]:
    """Podman's keep-id: the user's id is itself, the ranges fill the places around it."""
    extents, inside = [], 0
    for r in ranges:
        start, left = r.start, r.count
        if inside < id_:
            below = min(left, id_ - inside)
            extents.append(Extent(inside=inside, outside=start, count=below))
            inside, start, left = inside + below, start + below, left - below
        if inside == id_:
            inside += 1
        if left:
            extents.append(Extent(inside=inside, outside=start, count=left))
            inside += left
    extents.append(Extent(inside=id_, outside=id_, count=1))
    return tuple(sorted(extents, key=lambda e: e.inside))


def _namespace(uids: tuple[Extent, ...], gids: tuple[Extent, ...], *, owner: int) -> UserNs:
    return UserNs(
        inum=PREDICTED_INUM,
        uids=IdMap(uids),
        gids=IdMap(gids),
        parent=INITIAL,
        owner=Kuid(owner),
    )
