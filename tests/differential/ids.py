"""Small pools of ids, so that matches happen, and the shapes of id maps that people have.

An extent is (inside, outside, count); for a mount's map inside is what the disk stores and
outside what the mount shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

Extents = tuple[tuple[int, int, int], ...]

HOST = (0, 1, 2, 33, 999, 1000, 1001, 65534, 65535, 65536, 100000, 100001, 101000, 0xFFFFFFFE)
"""Host ids of the little world: root, daemons, people, nobody, subordinate ids, the last id."""

NO_ID = 0xFFFFFFFF

IDENTITY: Extents = ((0, 0, 0xFFFFFFFF),)

_SHAPES: tuple[Extents, ...] = (
    ((0, 100000, 65536),),
    ((0, 1000, 1), (1, 100000, 65536)),
    ((0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)),
    ((0, 100000, 1000), (1000, 200000, 64536)),
    ((1000, 1000, 1),),
    ((0, 0, 1001),),
    ((0, 1000, 2), (1000, 0, 2)),
    ((0, 0, 1), (1000, 1001, 1), (1001, 1000, 1), (65534, 65534, 1)),
    IDENTITY,
)


def draw_extents(rng: Random) -> Extents:
    """A map people have, or single ids in any order with holes between them."""
    if rng.random() < 0.5:
        return rng.choice(_SHAPES)
    n = rng.choice((1, 2, 3, 4, 5, 6, 8, 10))
    return tuple(
        (inside, outside, 1)
        for inside, outside in zip(rng.sample(HOST, n), rng.sample(HOST, n), strict=True)
    )


def draw_pair(rng: Random) -> tuple[Extents, Extents]:
    """A uid and a gid map, mostly the same."""
    uids = draw_extents(rng)
    return uids, uids if rng.random() < 0.6 else draw_extents(rng)


def outside(extents: Extents, inside: int) -> int | None:
    return next((o + inside - i for i, o, n in extents if i <= inside < i + n), None)


def inside(extents: Extents, outside: int) -> int | None:
    return next((i + outside - o for i, o, n in extents if o <= outside < o + n), None)


def mapped(extents: Extents) -> list[int]:
    """Inside ids worth trying: the ends of each extent, and whatever maps to or from the pool."""
    found: set[int] = set()
    for first, out, count in extents:
        found |= {first, first + min(1, count - 1), first + count - 1}
        found |= {i for i in HOST if first <= i < first + count}
        found |= {first + o - out for o in HOST if out <= o < out + count}
    return sorted(found)


def beneath(parent: Extents, rng: Random) -> Extents:
    """A child's map in terms of its parent's *inside* ids: single ids, a whole extent at times."""
    if rng.random() < 0.3:
        first, _, count = rng.choice(parent)
        return ((0, first, count),)
    there = mapped(parent)
    n = min(len(there), rng.randint(1, 7))
    return tuple((i, o, 1) for i, o in zip(rng.sample(HOST, n), rng.sample(there, n), strict=True))


def compose(child: Extents, parent: Extents) -> Extents:
    """A child's map in host ids."""
    composed = []
    for i, o, n in child:
        host = outside(parent, o)
        assert host is not None
        composed.append((i, host, n))
    return tuple(composed)


def text(extents: Iterable[tuple[int, int, int]]) -> bytes:
    return b"".join(b"%d %d %d\n" % e for e in extents)
