"""Predicted id maps: userns-remap, rootless, Podman's keep-id."""

from __future__ import annotations

import pytest

from permdoctor.container.container import EngineInfo
from permdoctor.container.userns import SubIds, parse_subids, predicted_userns
from permdoctor.container.users import PredictionError
from permdoctor.kernel.ids import INITIAL, IdMap, Kuid, Uid

DOCKER = EngineInfo(endpoint="unix:///x")
SEVERAL = "dockremap:200000:1000\nother:500000:65536\ndockremap:300000:64536\n"
DESCENDING = "dockremap:300000:64536\ndockremap:200000:1000\n"


def remapped(root: int) -> EngineInfo:
    return EngineInfo(endpoint="unix:///x", remapped_root=(root, root))


def rootless(uid: int | None = 1000) -> EngineInfo:
    return EngineInfo(endpoint="unix:///x", rootless=True, rootless_uid=uid)


def subids(text: str, name: str = "alice") -> SubIds:
    ranges = parse_subids(text.encode())
    return SubIds(uids=ranges, gids=ranges, name=name)


def lines(ids: IdMap) -> list[tuple[int, int, int]]:
    return [(e.inside, e.outside, e.count) for e in ids.extents]


@pytest.mark.parametrize(
    ("engine", "mode", "text", "expected"),
    [
        pytest.param(
            remapped(165536), "", "dockremap:165536:65536\n", [(0, 165536, 65536)], id="one range"
        ),
        pytest.param(
            remapped(200000), "", SEVERAL, [(0, 200000, 1000), (1000, 300000, 64536)], id="several"
        ),
        pytest.param(
            remapped(300000), "", DESCENDING, [(0, 300000, 64536), (64536, 200000, 1000)],
            id="in the order of the file",
        ),
        pytest.param(
            remapped(200000), "", DESCENDING, [(0, 200000, 1000), (1000, 300000, 64536)],
            id="an old engine sorts",
        ),
        pytest.param(
            remapped(231072), "", "4242:231072:70000\n", [(0, 231072, 70000)], id="keyed by number"
        ),
        pytest.param(
            remapped(165536), "", "# nothing\n", [(0, 165536, 65536)], id="file does not know it"
        ),
        pytest.param(
            rootless(), "", "alice:100000:65536\n", [(0, 1000, 1), (1, 100000, 65536)],
            id="rootless",
        ),
        pytest.param(
            rootless(), "host", "1000:100000:5\nbob:1:1\nalice:200000:9\n",
            [(0, 1000, 1), (1, 100000, 5), (6, 200000, 9)], id="rootless, both keys",
        ),
        pytest.param(rootless(), "", "", [(0, 1000, 1)], id="rootless without ranges"),
        pytest.param(
            rootless(), "keep-id", "alice:100000:65536\n",
            [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)], id="keep-id",
        ),
    ],
)  # fmt: skip
def test_maps(
    engine: EngineInfo, mode: str, text: str, expected: list[tuple[int, int, int]]
) -> None:
    ns = predicted_userns(engine, mode, subids(text))
    assert lines(ns.uids) == lines(ns.gids) == expected
    assert not ns.is_initial


@pytest.mark.parametrize(
    ("engine", "mode"), [(DOCKER, ""), (DOCKER, "host"), (remapped(165536), "host")]
)
def test_initial(engine: EngineInfo, mode: str) -> None:
    assert predicted_userns(engine, mode) is INITIAL


@pytest.mark.parametrize(
    ("engine", "mode"),
    [(DOCKER, "auto"), (DOCKER, "keep-id"), (rootless(), "auto"), (rootless(None), "")],
)
def test_says_what_it_cannot_know(engine: EngineInfo, mode: str) -> None:
    with pytest.raises(PredictionError):
        predicted_userns(engine, mode, subids("alice:100000:65536\n"))


def test_rootless_is_off_by_one() -> None:
    ns = predicted_userns(rootless(), "", subids("alice:100000:65536\n"))
    assert [ns.kuid(Uid(n)) for n in (0, 1, 70, 1000)] == [1000, 100000, 100069, 100999]
    assert ns.owner == Kuid(1000)


def test_uids_and_gids_may_differ() -> None:
    engine = EngineInfo(endpoint="x", remapped_root=(100000, 200000))
    ids = SubIds(uids=parse_subids(b"u:100000:10\n"), gids=parse_subids(b"u:200000:20\n"))
    ns = predicted_userns(engine, "", ids)
    assert (lines(ns.uids), lines(ns.gids)) == ([(0, 100000, 10)], [(0, 200000, 20)])


@pytest.mark.parametrize(
    "line",
    ["", "# a:1:2", "a", "a:1", "a:b:c", "a:1:0", ":1:2", "a:-1:5", "a:1:2:3", "a:4294967295:2",
     "a:99999999999:1", "a:1_0:2", "a:\u0661:2"],
)  # fmt: skip
def test_garbage_lines_are_left_out(line: str) -> None:
    assert [r.owner for r in parse_subids(f"{line}\nok:5:6\n".encode())] == ["ok"]
