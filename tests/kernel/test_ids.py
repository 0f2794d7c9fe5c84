"""Id maps: extents, gaps, and both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permdoctor.kernel.ids import ID_MAX, IDENTITY, INITIAL, Extent, Gid, IdMap, Kgid, Kuid, Uid
from tests.kernel.build import id_map, userns

REMAP = id_map((0, 100000, 65536))
ROOTLESS = id_map((0, 1000, 1), (1, 100000, 65536))
KEEP_ID = id_map((0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536))
HOLES = id_map((0, 5000, 10), (1000, 6000, 1))


@pytest.mark.parametrize(
    ("map_", "inside", "outside"),
    [
        pytest.param(REMAP, 0, 100000, id="remap: root"),
        pytest.param(REMAP, 1000, 101000, id="remap: 1000"),
        pytest.param(REMAP, 65535, 165535, id="remap: the last"),
        pytest.param(REMAP, 65536, None, id="remap: one too many"),
        pytest.param(ROOTLESS, 0, 1000, id="rootless: root is the user"),
        pytest.param(ROOTLESS, 1, 100000, id="rootless: off by one"),
        pytest.param(ROOTLESS, 70, 100069, id="rootless: 70"),
        pytest.param(ROOTLESS, 1000, 100999, id="rootless: 1000"),
        pytest.param(KEEP_ID, 1000, 1000, id="keep-id: oneself"),
        pytest.param(KEEP_ID, 999, 100999, id="keep-id: below"),
        pytest.param(KEEP_ID, 1001, 101000, id="keep-id: above"),
        pytest.param(HOLES, 10, None, id="hole: after the first extent"),
        pytest.param(HOLES, 999, None, id="hole: before the second"),
        pytest.param(HOLES, 1000, 6000, id="hole: the second"),
        pytest.param(IDENTITY, ID_MAX, ID_MAX, id="identity: the last valid id"),
        pytest.param(IDENTITY, ID_MAX + 1, None, id="identity: INVALID_UID"),
        pytest.param(id_map(), 0, None, id="no map written yet"),
    ],
)
def test_outside(map_: IdMap, inside: int, outside: int | None) -> None:
    assert map_.outside(inside) == outside
    if outside is not None:
        assert map_.inside(outside) == inside


@pytest.mark.parametrize("outside", [999, 1001, 99999, 165536])
def test_an_outside_id_without_an_inside(outside: int) -> None:
    assert ROOTLESS.inside(outside) is None


@st.composite
def id_maps(draw: st.DrawFn) -> IdMap:
    """Extents that overlap on neither side, in any order."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=8))
    inside = outside = 0
    extents = []
    for gap, count in sizes:
        inside, outside = inside + gap, outside + draw(st.integers(0, 9))
        extents.append(Extent(inside=inside, outside=outside, count=count))
        inside, outside = inside + count, outside + count
    return IdMap(tuple(draw(st.permutations(extents))))


@given(id_maps(), st.integers(0, 200))
def test_there_and_back(map_: IdMap, id_: int) -> None:
    outside, inside = map_.outside(id_), map_.inside(id_)
    assert outside is None or map_.inside(outside) == id_
    assert inside is None or map_.outside(inside) == id_
    covered = any(e.inside <= id_ < e.inside + e.count for e in map_.extents)
    assert (outside is not None) == covered


def test_uids_and_gids_have_maps_of_their_own() -> None:
    ns = userns((0, 1000, 1), gids=((0, 2000, 1),))
    assert (ns.kuid(Uid(0)), ns.kgid(Gid(0))) == (1000, 2000)
    assert (ns.uid(Kuid(1000)), ns.gid(Kgid(1000))) == (0, None)
    assert not ns.has_uid(Kuid(2000))
    assert ns.has_gid(Kgid(2000))


def test_an_invalid_id_is_in_no_namespace() -> None:
    assert INITIAL.uid(None) is None
    assert not INITIAL.has_uid(None)
    assert not INITIAL.has_gid(None)


def test_only_the_initial_namespace_has_no_parent() -> None:
    assert INITIAL.is_initial
    assert not userns((0, 0, 0xFFFFFFFF)).is_initial
