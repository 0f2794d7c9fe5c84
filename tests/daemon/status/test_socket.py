"""The status socket: how it is born and ends, and who is let in."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from permdoctor.daemon.listener import listen
from permdoctor.daemon.state import State
from permdoctor.daemon.status import StatusServer
from permdoctor.errors import CannotCheckError, PermdoctorError, UsageError
from tests.acceptance.test_rights import as_user
from tests.daemon.asking import ask, can_connect
from tests.daemon.status.served import FACTS, GROUP, USER, Serve, as_root, unexpected


@as_root
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_it_is_born_with_its_mode_and_group(place: Path, umask: int) -> None:
    path = place / "made" / "s"
    before = os.umask(umask)
    try:
        listener = listen(str(path), str(GROUP))
        assert os.umask(umask) == umask, "the process's own is not touched"
    finally:
        os.umask(before)
    status = path.lstat()
    listener.close()
    assert stat.S_ISSOCK(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o660, 0, GROUP)
    assert stat.S_IMODE((place / "made").stat().st_mode) == 0o755
    (place / "file").touch()
    assert (place / "file").stat().st_gid == os.getgid(), "nor its group for new files"


def test_one_that_nobody_listens_at_is_replaced(place: Path) -> None:
    path = str(place / "s")
    listen(path, "").close()
    assert not can_connect(path)
    with contextlib.closing(listen(path, "")):
        assert can_connect(path)


def test_one_that_somebody_listens_at_is_left_alone(serve: Serve, place: Path) -> None:
    serve()
    with pytest.raises(CannotCheckError, match=r"somebody listens at .*/s already"):
        listen(str(place / "s"), "")
    assert ask(place / "s", "/v1/status")[0] == 200


@pytest.mark.parametrize("kind", ["a file", "a link to a socket", "a dangling link", "a directory"])
def test_what_is_no_socket_is_left_as_it_is(place: Path, kind: str) -> None:
    path, target = place / "s", place / "target"
    match kind:
        case "a file":
            path.write_text("mine")
        case "a directory":
            path.mkdir()
        case "a dangling link":
            path.symlink_to(target)
        case _:
            listen(str(target), "").close()
            path.symlink_to(target)
    before = path.lstat()
    with pytest.raises(UsageError, match="is no socket; it is left as it is"):
        listen(str(path), "")
    assert path.lstat() == before
    assert target.exists() is (kind == "a link to a socket")


@pytest.mark.parametrize(
    ("path", "group", "message"),
    [
        pytest.param("s", "no-such-group", "there is no group no-such-group", id="group"),
        pytest.param("x" * 200, "", "is longer than 107 bytes", id="long"),
        pytest.param("open/s", "", "others than root may write in", id="open directory"),
        pytest.param("none/of/s", "", "cannot listen at .*: No such file", id="no directory"),
    ],
)
def test_where_it_cannot_be(place: Path, path: str, group: str, message: str) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with pytest.raises(PermdoctorError, match=message) as raised:
        listen(str(place / path), group)
    assert raised.value.hint
    assert sorted(os.listdir(place)) == ["open"]


@as_root
def test_a_group_that_we_may_not_give(place: Path) -> None:
    """Without CAP_SETGID; the service's own group goes without."""
    mine = place / "mine"
    mine.mkdir()
    os.chown(mine, USER, USER)

    def bind(group: int) -> int:
        with contextlib.closing(listen(str(mine / "s"), str(group))):
            return os.lstat(mine / "s").st_gid

    with pytest.raises(CannotCheckError, match="CAP_SETGID") as raised:
        as_user(USER, USER, lambda: bind(GROUP))
    assert "systemd drop-in --write" in (raised.value.hint or "")
    assert os.listdir(mine) == []
    assert as_user(USER, USER, lambda: bind(USER)) == USER


@as_root
def test_without_that_group_it_is_roots_alone(place: Path) -> None:
    """The service goes on, and says so."""
    mine = place / "mine"
    mine.mkdir()
    os.chown(mine, USER, USER)

    def served() -> tuple[str, int, int]:
        server = StatusServer(str(mine / "s"), str(GROUP), State, unexpected, lambda: FACTS)
        server.start()
        status = (mine / "s").lstat()
        server.close()
        return server.trouble, status.st_gid, stat.S_IMODE(status.st_mode)

    trouble, gid, mode = as_user(USER, USER, served)
    assert (gid, mode) == (USER, 0o660)
    assert "CAP_SETGID; root alone may ask (`permdoctor systemd drop-in --write`" in trouble


def test_it_is_removed_at_the_end_if_it_is_ours(serve: Serve, place: Path) -> None:
    server = serve()
    server.close()
    assert os.listdir(place) == []
    server = serve()
    (place / "s").unlink()
    with contextlib.closing(listen(str(place / "s"), "")):
        server.close()
        assert can_connect(str(place / "s"))


@as_root
@pytest.mark.parametrize(
    ("gid", "group", "let_in"),
    [
        pytest.param(GROUP, str(GROUP), True, id="in the group"),
        pytest.param(USER, str(GROUP), False, id="in another"),
        pytest.param(GROUP, "", False, id="no group is set"),
    ],
)
def test_who_is_let_in(serve: Serve, place: Path, gid: int, group: str, let_in: bool) -> None:
    serve(group=group)
    assert as_user(USER, gid, lambda: can_connect(str(place / "s"))) is let_in
