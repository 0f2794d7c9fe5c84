"""Capabilities, HOME and the whole Subject of a container that does not run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from permdoctor.container.caps import PODMAN_DEFAULT, predicted_effective
from permdoctor.container.container import Container, EngineInfo
from permdoctor.container.predicted import predicted_home, predicted_subject
from permdoctor.container.subject import Basis
from permdoctor.container.userns import predicted_userns
from permdoctor.container.users import PredictionError
from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, Cap
from permdoctor.kernel.ids import INITIAL, Uid
from tests.lab.image import GROUP, PASSWD

ENGINE = EngineInfo(endpoint="unix:///x")
BOX = Container(engine=ENGINE, id="1", name="box")
PODMAN = replace(BOX, engine=replace(ENGINE, product="podman"))


@pytest.mark.parametrize(
    ("container", "uid", "expected"),
    [
        pytest.param(BOX, 0, DOCKER_DEFAULT, id="default"),
        pytest.param(BOX, 1000, Cap.NONE, id="non-root"),
        pytest.param(replace(BOX, privileged=True), 0, ALL, id="privileged"),
        pytest.param(replace(BOX, privileged=True), 1000, Cap.NONE, id="privileged non-root"),
        pytest.param(replace(BOX, caps_dropped=("ALL",)), 0, Cap.NONE, id="drop ALL"),
        pytest.param(
            replace(BOX, caps_dropped=("ALL",), caps_added=("CHOWN",)), 0, Cap.CHOWN, id="then add"
        ),
        pytest.param(replace(BOX, caps_added=("ALL",)), 0, ALL, id="add ALL"),
        pytest.param(
            replace(BOX, caps_added=("ALL",), caps_dropped=("SYS_ADMIN",)), 0,
            ALL & ~Cap.SYS_ADMIN, id="add ALL but one",
        ),
        pytest.param(
            replace(BOX, caps_added=("ALL",), caps_dropped=("ALL",)), 0, ALL, id="add ALL wins"
        ),
        pytest.param(
            replace(BOX, caps_dropped=("DAC_OVERRIDE",), caps_added=("SYS_TIME", "FUTURE")), 0,
            DOCKER_DEFAULT & ~Cap.DAC_OVERRIDE | Cap.SYS_TIME, id="both",
        ),
        pytest.param(
            replace(BOX, caps_added=("DAC_OVERRIDE",)), 1000, Cap.NONE, id="add is not for non-root"
        ),
        pytest.param(PODMAN, 0, PODMAN_DEFAULT, id="podman"),
        pytest.param(
            replace(PODMAN, caps_added=("CHOWN",)), 1000, Cap.CHOWN, id="podman's is ambient"
        ),
    ],
)  # fmt: skip
def test_effective(container: Container, uid: int, expected: Cap) -> None:
    assert predicted_effective(container, Uid(uid)) == expected


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        pytest.param(BOX, b"/root", id="passwd"),
        pytest.param(replace(BOX, user="4242"), b"/", id="no entry"),
        pytest.param(replace(BOX, user="app"), b"/home/app", id="app"),
        pytest.param(replace(BOX, env=(("HOME", "/h"),), user="app"), b"/h", id="environment"),
        pytest.param(replace(BOX, env=(("HOME", ""),), user="app"), b"/home/app", id="empty"),
    ],
)
def test_home(container: Container, expected: bytes) -> None:
    assert predicted_home(container, PASSWD, GROUP) == expected


def test_subject_has_host_ids_and_names() -> None:
    engine = replace(ENGINE, remapped_root=(165536, 165536))
    ns = predicted_userns(engine)
    subject = predicted_subject(replace(BOX, user="app", engine=engine), PASSWD, GROUP, ns)
    assert (subject.cred.fsuid, subject.cred.fsgid) == (166536, 166536)
    assert subject.host_groups == (165569, 166536, 167036)
    assert (subject.uid, subject.gid, subject.inside_groups) == (1000, 1000, (33, 1000, 1500))
    assert (subject.inside_user, subject.inside_group) == ("app", "app")
    assert subject.basis is Basis.PREDICTED
    assert not subject.processes


@pytest.mark.parametrize(("user", "kind"), [("70000", "uid"), ("0:70000", "gid")])
def test_unmapped_ids_are_refused(user: str, kind: str) -> None:
    ns = predicted_userns(replace(ENGINE, remapped_root=(165536, 165536)))
    with pytest.raises(PredictionError, match=f"cannot set {kind} to unmapped"):
        predicted_subject(replace(BOX, user=user), PASSWD, GROUP, ns)
    assert predicted_subject(replace(BOX, user=user), PASSWD, GROUP, INITIAL)
