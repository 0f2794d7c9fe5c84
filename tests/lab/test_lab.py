"""The lab itself: what the other tests stand on does what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab import filesystems
from tests.lab.engine import Engine
from tests.lab.idmap import idmapped_bind
from tests.lab.lab import Lab
from tests.lab.needs import MissingError


@pytest.mark.parametrize("kind", filesystems.KINDS)
def test_filesystem_is_what_it_says_and_goes(kind: str) -> None:
    try:
        with filesystems.mounted_fs(kind) as path:
            mounts = Path("/proc/self/mountinfo").read_text()
            assert f"{path} " in mounts
            assert any(f" - {kind} " in line for line in mounts.splitlines() if path in line)
    except MissingError as e:
        pytest.skip(str(e))
    assert path not in Path("/proc/self/mountinfo").read_text()


def test_idmapped_bind_shows_other_ids(lab: Lab) -> None:
    source, target = lab.fs("ext4"), lab.directory()
    os.chown(source, 5, 6)
    try:
        with idmapped_bind(str(source), str(target), [(0, 100000, 10)]):
            st = target.stat()
            assert (st.st_uid, st.st_gid) == (100005, 100006)
    except MissingError as e:
        pytest.skip(str(e))
    assert target.stat().st_uid == 0


@pytest.mark.engine
@pytest.mark.parametrize(
    ("fixture", "uid_map"),
    [
        ("dockerd", ["0 0 4294967295"]),
        ("dockerd_remap", ["0 165536 65536"]),
        ("dockerd_remap2", ["0 200000 1000", "1000 300000 64536"]),
        ("dockerd_rootless", ["0 1000 1", "1 100000 65536"]),
        ("podman", ["0 0 4294967295"]),
    ],
)
def test_engine_maps_ids(
    fixture: str, uid_map: list[str], lab: Lab, request: pytest.FixtureRequest
) -> None:
    engine: Engine = request.getfixturevalue(fixture)
    data = lab.directory(mode=0o777)
    box = engine.run("-u", "0", "-v", f"{data}:/data")
    try:
        lines = Path(f"/proc/{box.pid()}/uid_map").read_text().splitlines()
        assert [" ".join(line.split()) for line in lines] == uid_map
        assert box.sh("echo hello > /data/x").ok
        assert (data / "x").stat().st_uid == int(uid_map[0].split()[1])
    finally:
        box.rm()


def test_what_the_workers_share_out_is_there() -> None:
    pytest.importorskip("xdist")
    from tests.lab import spread

    names = (*spread.LONGEST, *spread.TOGETHER)
    assert [n for n in names if not (Path(__file__).parents[2] / n).exists()] == []
