"""Who ``Config.User`` and group_add mean: the table of moby's ``GetExecUser``."""

from __future__ import annotations

import pytest

from permdoctor.container.users import (
    ExecUser,
    PredictionError,
    group_name,
    parse_group,
    parse_passwd,
    resolve_user,
    user_name,
)
from permdoctor.kernel.ids import Gid, Uid
from tests.lab.image import GROUP, PASSWD


def who(uid: int, gid: int, groups: set[int], home: bytes) -> ExecUser:
    return ExecUser(uid=Uid(uid), gid=Gid(gid), groups=frozenset(Gid(g) for g in groups), home=home)


@pytest.mark.parametrize(
    ("spec", "group_add", "expected"),
    [
        pytest.param("", (), who(0, 0, {0}, b"/root"), id="nothing is root"),
        pytest.param("app", (), who(1000, 1000, {33, 1000, 1500}, b"/home/app"), id="name"),
        pytest.param("1000", (), who(1000, 1000, {33, 1000, 1500}, b"/home/app"), id="its number"),
        pytest.param("app:www-data", (), who(1000, 33, {33}, b"/home/app"), id="explicit group"),
        pytest.param("app:1500", (), who(1000, 1500, {1500}, b"/home/app"), id="group by number"),
        pytest.param("1000:1000", (), who(1000, 1000, {1000}, b"/home/app"), id="both by number"),
        pytest.param("4242", (), who(4242, 0, {0}, b"/"), id="unknown number has gid 0"),
        pytest.param("4242:4343", (), who(4242, 4343, {4343}, b"/"), id="unknown numbers"),
        pytest.param(":1000", (), who(0, 1000, {1000}, b"/root"), id="group only is root"),
        pytest.param("app:", (), who(1000, 1000, {33, 1000, 1500}, b"/home/app"), id="empty group"),
        pytest.param("app:33:9", (), who(1000, 33, {33}, b"/home/app"), id="third field ignored"),
        pytest.param("jovyan", (), who(1002, 100, {100}, b"/home/jovyan"), id="own primary group"),
        pytest.param("4242", ("44",), who(4242, 0, {0, 44}, b"/"), id="group_add by number"),
        pytest.param("4242", ("video",), who(4242, 0, {0, 44}, b"/"), id="group_add by name"),
        pytest.param("4242", ("987",), who(4242, 0, {0, 987}, b"/"), id="group_add unknown number"),
        pytest.param(
            "app:www-data", ("video",), who(1000, 33, {33, 44}, b"/home/app"), id="both kinds"
        ),
    ],
)
def test_resolves(spec: str, group_add: tuple[str, ...], expected: ExecUser) -> None:
    assert resolve_user(spec, group_add, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("spec", "group_add", "message"),
    [
        ("nosuch", (), "unable to find user nosuch: no matching entries in passwd file"),
        ("app:nosuch", (), "unable to find group nosuch: no matching entries in group file"),
        ("app", ("nosuch",), "Unable to find group nosuch: no matching entries in group file"),
        ("-5", (), "uids and gids must be in range 0-2147483647"),
        ("2147483648", (), "uids and gids must be in range 0-2147483647"),
        ("0:2147483648", (), "uids and gids must be in range 0-2147483647"),
        ("1_000", (), "unable to find user 1_000: no matching entries in passwd file"),
        ("\x1b[31m", (), "unable to find user \\x1b[31m: no matching entries in passwd file"),
    ],
)
def test_refuses_in_the_words_of_the_engine(
    spec: str, group_add: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PredictionError) as e:
        resolve_user(spec, group_add, PASSWD, GROUP)
    assert e.value.message == message


@pytest.mark.parametrize(
    ("passwd", "group", "spec", "expected"),
    [
        pytest.param(None, None, "1000", who(1000, 0, {0}, b"/"), id="no files (distroless)"),
        pytest.param(None, None, "", who(0, 0, {0}, b"/"), id="no files, root"),
        pytest.param(b"root:x:0:5\n", None, "", who(0, 5, {5}, b"/"), id="short line"),
        pytest.param(b"x:x:7z:8::/h:", None, "x", who(0, 8, {8}, b"/h"), id="bad number is 0"),
        pytest.param(b"a:x:1:2::/a:\na:x:3:4::/b:", None, "a", who(1, 2, {2}, b"/a"), id="first"),
        pytest.param(b"1000:x:5:6::/n:", None, "1000", who(1000, 0, {0}, b"/"), id="number wins"),
        pytest.param(b" a:x:1:2::/a: \r\n\n", None, "a", who(1, 2, {2}, b"/a"), id="blanks"),
        pytest.param(
            b"a:x:1:2::/:",
            b"g:x:9:a\nh:x:8:b,a\ni:x:7:ab",
            "1",
            who(1, 2, {2, 8, 9}, b"/"),
            id="members are by name",
        ),
        pytest.param(b"a\xff:x:1:2::/h\xff:", b"", "1", who(1, 2, {2}, b"/h\xff"), id="odd bytes"),
    ],
)
def test_odd_files(
    passwd: bytes | None, group: bytes | None, spec: str, expected: ExecUser
) -> None:
    assert resolve_user(spec, (), passwd, group) == expected


def test_reading_is_bounded() -> None:
    huge = b"x:x:1:1::/" + b"h" * 1000 + b":\n"
    huge = huge * 2000 + b"late:x:5:5::/:\n"
    assert len(parse_passwd(huge)) < 1100
    with pytest.raises(PredictionError):
        resolve_user("late", (), huge, b"")
    assert parse_group(b"g:x:1:" + b"m," * 1_000_000)[0].gid == 1


def test_names_are_escaped() -> None:
    assert user_name(b"a\x1b[2J:x:5:5::/:", 5) == "a\\x1b[2J"
    assert group_name(b"g\n:x:\n", 0) == "g"
    assert user_name(PASSWD, 1001) == "model"
    assert user_name(None, 1001) == group_name(None, 0) == ""
