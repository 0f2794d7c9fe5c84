"""Who a container is: what is predicted before it starts is what /proc says afterwards."""

from __future__ import annotations

import os

import pytest

from permdoctor.container.container import State
from permdoctor.container.users import PredictionError
from permdoctor.engines.docker import DockerEngine
from permdoctor.kernel.caps import ALL, Cap
from tests.engines.conftest import UNKNOWN_TO_OLD_ENGINES, client, predicted, truth
from tests.lab import image
from tests.lab.engine import Box, DockerError, Engine

pytestmark = pytest.mark.engine

SUBIDS = {
    "dockerd_remap": "dockremap:165536:65536\n",
    "dockerd_remap2": "dockremap:200000:1000\ndockremap:300000:64536\n",
    "dockerd_rootless": "alice:100000:65536\n",
}


def check(engine: Engine, options: tuple[str, ...], changes: tuple[str, ...], ids: str) -> None:
    docker = client(engine)
    box = engine.create(*options, image=engine.image(*changes))
    try:
        subject, expected = predicted(docker, docker.find(box.name), ids)
        engine.docker("start", box.id)
        assert truth(box.pid()) == expected
        assert docker.inspect(box.id).pid == box.pid()
        assert not subject.processes
    finally:
        box.rm()


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        pytest.param((), (), id="root"),
        pytest.param(("-u", "app"), (), id="name"),
        pytest.param(("-u", "1000"), (), id="number"),
        pytest.param(("-u", "app:www-data"), (), id="explicit group"),
        pytest.param(("-u", "4242"), (), id="number without an entry"),
        pytest.param(("-u", "4242:4343"), (), id="numbers without entries"),
        pytest.param(("-u", ":1000"), (), id="group only"),
        pytest.param((), ("USER grafana",), id="image USER"),
        pytest.param(("-u", "0"), ("USER grafana",), id="image USER overridden"),
        pytest.param(("-u", "app", "--group-add", "987", "--group-add", "video"), (), id="added"),
        pytest.param(("--cap-drop", "ALL"), (), id="cap-drop ALL"),
        pytest.param(("--cap-drop", "ALL", "--cap-add", "chown"), (), id="drop all, add one"),
        pytest.param(("--cap-drop", "CAP_DAC_OVERRIDE"), (), id="drop one"),
        pytest.param(("-u", "app", "--cap-add", "DAC_OVERRIDE"), (), id="add for non-root"),
        pytest.param(
            ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"), (), id="add ALL but one"
        ),
        pytest.param(("--init", "-u", "app"), (), id="init"),
    ],
)  # fmt: skip
def test_plain(dockerd: Engine, options: tuple[str, ...], changes: tuple[str, ...]) -> None:
    if "ALL" in options and "SYS_RESOURCE" in options:
        everything = ALL & ~UNKNOWN_TO_OLD_ENGINES
        if truth(os.getpid()).effective | Cap.SYS_RESOURCE != everything:
            pytest.skip("this machine's root lacks more capabilities than CAP_SYS_RESOURCE")
    check(dockerd, options, changes, "")


@pytest.mark.parametrize("fixture", ["dockerd_remap", "dockerd_remap2", "dockerd_rootless"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="root"),
        pytest.param(("-u", "app"), id="app"),
        pytest.param(("-u", "70:999", "--group-add", "2000"), id="numbers"),
        pytest.param(("--userns", "host", "-u", "app"), id="userns=host"),
    ],
)
def test_namespaces(fixture: str, options: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(fixture)
    check(engine, options, (), SUBIDS[fixture])


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        pytest.param(("-u", "nosuch"), "no matching entries in passwd file", id="user"),
        pytest.param(("-u", "app:nosuch"), "no matching entries in group file", id="group"),
        pytest.param(
            ("--group-add", "nosuch"), "no matching entries in group file", id="group_add"
        ),
    ],
)
def test_what_cannot_start_is_predicted(
    dockerd: Engine, docker: DockerEngine, options: tuple[str, ...], phrase: str
) -> None:
    box = dockerd.create(*options)
    try:
        with pytest.raises(PredictionError, match=phrase):
            predicted(docker, docker.find(box.name))
        with pytest.raises(DockerError, match=phrase):
            dockerd.docker("start", box.id)
        after = docker.find(box.name)
        assert phrase in after.error
        assert after.state is State.CREATED
    finally:
        box.rm()


def test_an_unmapped_uid_is_predicted(dockerd_remap: Engine) -> None:
    docker, box = client(dockerd_remap), dockerd_remap.create("-u", "70000:70000")
    try:
        with pytest.raises(PredictionError, match="unmapped"):
            predicted(docker, docker.find(box.name), SUBIDS["dockerd_remap"])
        with pytest.raises(DockerError):
            dockerd_remap.docker("start", box.id)
    finally:
        box.rm()


def test_distroless_has_no_files(dockerd: Engine, docker: DockerEngine) -> None:
    tarball = image.build(dockerd.base / "distroless.tar", passwd=None, group=None)
    box = dockerd.create("-u", "1000", image=dockerd.image(tarball=tarball))
    try:
        subject, expected = predicted(docker, docker.find(box.name))
        dockerd.docker("start", box.id)
        assert truth(box.pid()) == expected
        assert (subject.inside_user, subject.gid) == ("", 0)
    finally:
        box.rm()


def test_exec_sessions(dockerd: Engine, docker: DockerEngine, boxes: list[Box]) -> None:
    box = dockerd.run()
    boxes.append(box)
    assert docker.find(box.name).exec_pids == ()
    box.exec_background("sleep", "600", user="model")
    found = docker.find(box.name)
    assert [truth(p).uid for p in found.exec_pids] == [1001]


def test_rootless_engine_is_known_by_its_socket(dockerd_rootless: Engine) -> None:
    docker = client(dockerd_rootless)
    assert docker.info.rootless
    assert docker.info.rootless_uid == 1000
    assert docker.peer is not None
    box = dockerd_rootless.run()
    try:
        assert truth(docker.peer.pid).uids == truth(box.pid()).uids
    finally:
        box.rm()


def test_userns_remap_is_known(dockerd_remap: Engine, dockerd: Engine) -> None:
    assert client(dockerd_remap).info.remapped_root == (165536, 165536)
    assert not client(dockerd).info.userns_remap
