"""Whose credentials: ids that a namespace maps, groups, and the capability sets Docker gives."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, FILE_CAPS, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Kgid, Kuid
from tests.differential import ids
from tests.differential.executor import Credentials
from tests.differential.spaces import Space

_CAPS = (
    Cap.NONE,
    Cap.NONE,
    Cap.NONE,
    DOCKER_DEFAULT,
    DOCKER_DEFAULT,
    ALL,
    ALL & ~Cap.DAC_OVERRIDE,
    DOCKER_DEFAULT & ~Cap.DAC_OVERRIDE,
    DOCKER_DEFAULT & ~Cap.FOWNER,
    DOCKER_DEFAULT & ~Cap.FSETID,
    DOCKER_DEFAULT & ~Cap.CHOWN,
    Cap.CHOWN,
    Cap.DAC_OVERRIDE,
    Cap.DAC_READ_SEARCH,
    Cap.FOWNER,
    Cap.FSETID,
    Cap.LINUX_IMMUTABLE,
    Cap.CHOWN | Cap.FOWNER,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """``credentials`` are what the executor takes, in inside ids; ``cred`` is what the model is
    told, in host ids.  ``ruid`` is the real uid as a host id: no rule asks for it.
    """

    credentials: Credentials
    cred: Cred
    ruid: Kuid


def draw(rng: Random, space: Space, uids: list[int], gids: list[int], permitted: int) -> Subject:
    """A subject with ids among ``uids`` and ``gids`` (inside ids that the namespace maps)."""
    ruid, euid = rng.choice(uids), rng.choice(uids)
    rgid, egid = rng.choice(gids), rng.choice(gids)
    fsuid, fsgid = euid, egid
    if rng.random() < 0.2:
        fsuid, fsgid = rng.choice(uids), rng.choice(gids)
    groups = tuple(rng.sample(gids, min(len(gids), rng.choice((0, 0, 1, 1, 2, 4)))))
    effective = _draw_caps(rng) & permitted
    return Subject(
        credentials=(ruid, euid, fsuid, rgid, egid, fsgid, groups, int(effective)),
        cred=Cred(
            fsuid=Kuid(_host(space.uids, fsuid)),
            fsgid=Kgid(_host(space.gids, fsgid)),
            groups=frozenset(Kgid(_host(space.gids, g)) for g in groups),
            effective=effective,
            userns=space.userns,
            euid=Kuid(_host(space.uids, euid)),
        ),
        ruid=Kuid(_host(space.uids, ruid)),
    )


def _draw_caps(rng: Random) -> Cap:
    if rng.random() < 0.8:
        return rng.choice(_CAPS)
    some = Cap.NONE
    for cap in FILE_CAPS:
        if rng.random() < 0.5:
            some |= cap
    return some


def _host(extents: ids.Extents, inside: int) -> int:
    host = ids.outside(extents, inside)
    assert host is not None
    return host
