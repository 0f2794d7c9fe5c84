"""The configuration file: what it accepts, and how it says what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from permdoctor.config import (
    Check,
    Config,
    Engines,
    NeedRule,
    Repair,
    Unasked,
    from_toml,
    load,
)
from permdoctor.container.needs import Need
from permdoctor.errors import UsageError

EXAMPLE = Path(__file__).parent.parent.parent / "config.example.toml"


def test_the_example_holds_the_defaults() -> None:
    assert from_toml(EXAMPLE.read_text("utf-8"), "example") == Config()


def test_the_example_names_every_key() -> None:
    """Commented ones count."""
    shown = EXAMPLE.read_text("utf-8")
    tables = (Engines, Check, NeedRule, Repair, Unasked)
    keys = [k for t in tables for k in t.__struct_fields__ if k != "unasked"]
    assert [k for k in keys if f"\n{k} = " not in shown and f"\n# {k} = " not in shown] == []


def test_the_example_with_everything_uncommented() -> None:
    """Every commented table, from its header to the next line without a comment."""
    table, lines = False, []
    for line in EXAMPLE.read_text("utf-8").splitlines():
        table = line.startswith("# [[") or (table and line.startswith("# "))
        lines.append(line.removeprefix("# ") if table else line)
    shown = from_toml("\n".join(lines), "example")
    need = NeedRule(container="postgres-*", path="/var/lib/postgresql/data", need=Need.OWN)
    unasked = Unasked(container="trainer-*", remedy="chown-directory", roots=("/srv/models",))
    assert shown == Config(need=(need,), repair=Repair(unasked=(unasked,)))


def test_everything() -> None:
    text = """
        [engines]
        hosts = ["unix:///a", "unix:///b"]
        [check]
        fail_on = "info"
        budget_entries = 1
        budget_seconds = 2
        deadline_seconds = 0.5
        workers = 1
        [[need]]
        path = "/a"
        need = "none"
        [repair]
        roots = ["/r"]
        deny = ["/r/d"]
        max_entries = 5
        max_seconds = 6
        remedies = ["acl-user"]
        live = true
        state = "/s"
        [[repair.unasked]]
        container = "c*"
        remedy = "acl-user"
        roots = ["/r/u"]
        max_entries = 7
    """
    assert from_toml(text, "f") == Config(
        engines=Engines(hosts=("unix:///a", "unix:///b")),
        check=Check(
            fail_on="info", budget_entries=1, budget_seconds=2, deadline_seconds=0.5, workers=1
        ),
        need=(NeedRule(container="*", path="/a", need=Need.NONE),),
        repair=Repair(
            roots=("/r",),
            deny=("/r/d",),
            max_entries=5,
            max_seconds=6,
            remedies=("acl-user",),
            live=True,
            state="/s",
            unasked=(Unasked(container="c*", remedy="acl-user", roots=("/r/u",), max_entries=7),),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param(
            "[check]\nworkers = 1\nbudget_entrys = 3",
            "f:3: check.budget_entrys: no such key",
            "did you mean budget_entries?",
            id="unknown key",
        ),
        pytest.param(
            "chekc = 3",
            "f:1: chekc: no such key",
            "did you mean check?",
            id="unknown table",
        ),
        pytest.param(
            "[check]\nx = 3",
            "f:2: check.x: no such key",
            "known here: fail_on, budget_entries, budget_seconds, deadline_seconds, workers",
            id="nothing near",
        ),
        pytest.param(
            "[check]\n\nworkers = 'a'",
            "f:3: check.workers: expected int, got str",
            None,
            id="type",
        ),
        pytest.param(
            "check.workers = 0", "f:1: check.workers: expected int >= 1", None, id="range, dotted"
        ),
        pytest.param(
            "check = { workers = 3 }",
            "f:1: check.workers: expected int <= 2",
            None,
            id="inline table",
        ),
        pytest.param(
            "[check]\nfail_on = 'eror'",
            "f:2: check.fail_on: expected one of error, warning, info",
            None,
            id="choice",
        ),
        pytest.param(
            "[[need]]\npath = '/a'\nneed = 'own'\n\n[[need]]\nneed = 'own'\npath = 'a'",
            "f:7: need[2].path: expected an absolute path",
            None,
            id="second table of an array",
        ),
        pytest.param(
            "[[need]]\nneed = 'owm'\npath = '/a'",
            "f:2: need[1].need: expected one of none, read, write, own",
            None,
            id="enumeration",
        ),
        pytest.param(
            "\n[[need]]\nneed = 'own'", "f:2: need[1]: path is missing", None, id="missing"
        ),
        pytest.param(
            "[repair]\nroots = ['/a', 'b']",
            "f:2: repair.roots[2]: expected an absolute path",
            None,
            id="relative root",
        ),
        pytest.param(
            "[repair]\nlive = 'yes'", "f:2: repair.live: expected bool, got str", None, id="no bool"
        ),
        pytest.param(
            "[repair]\nroot = ['/a']",
            "f:2: repair.root: no such key",
            "did you mean roots?",
            id="repair, unknown key",
        ),
        pytest.param(
            "[[repair.unasked]]\ncontainer = '*'\nremedy = 'x'\nroots = []",
            "f:4: repair.unasked[1].roots: expected array of length >= 1",
            None,
            id="unasked nowhere",
        ),
        pytest.param("check = 3", "f:1: check: expected object, got int", None, id="no table"),
        pytest.param(
            '"\\u001b[31m" = 1', "f:1: \\x1b[31m: no such key", "known here: ", id="hostile key"
        ),
    ],
)
def test_a_wrong_value_is_named(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as e:
        from_toml(text, "f")
    assert e.value.message == message
    assert (e.value.hint or "").startswith(hint or "")
    assert bool(e.value.hint) == bool(hint)


@pytest.mark.parametrize("text", ["a = ", "[check\n", "x = 1\nx = 2", "[" * 100_000])
def test_what_is_not_toml(text: str) -> None:
    with pytest.raises(UsageError, match=r"^f: (not TOML|nested)"):
        from_toml(text, "f")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text("check.budget_entries = 3\n")
    path.chmod(0o644)
    return path


def test_the_option_wins_over_the_variable(file: Path) -> None:
    other = file.with_name("other.toml")
    other.write_text("check.budget_entries = 4\n")
    other.chmod(0o600)
    environ = {"PERMDOCTOR_CONFIG": str(file)}
    assert load(None, environ).check.budget_entries == 3
    assert load(str(other), environ).check.budget_entries == 4


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("permdoctor.config.files.DEFAULT_FILE", str(tmp_path / "none"))
    assert load(None, {}) == Config()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to own the file, and to give it away")
@pytest.mark.parametrize(("owner", "accepted"), [(0, True), (65534, False)])
def test_the_default_file_must_be_roots(
    file: Path, monkeypatch: pytest.MonkeyPatch, owner: int, accepted: bool
) -> None:
    monkeypatch.setattr("permdoctor.config.files.DEFAULT_FILE", str(file))
    os.chown(file, owner, 0)
    if accepted:
        assert load(None, {}).check.budget_entries == 3
        return
    with pytest.raises(UsageError, match="belongs to uid 65534, not to root"):
        load(None, {})


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o644, True), (0o400, True), (0o664, False), (0o646, False)]
)
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int, accepted: bool) -> None:
    file.chmod(mode)
    if accepted:
        assert load(str(file), {}).check.budget_entries == 3
        return
    with pytest.raises(UsageError, match=f"may be written by others .mode {mode:04o}") as e:
        load(str(file), {})
    assert e.value.hint == f"chmod go-w {file}"


def _missing(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _huge(path: Path) -> None:
    path.write_bytes(b"#" * (1 << 20 | 1))


def _latin1(path: Path) -> None:
    path.write_bytes(b"# \xe4")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_missing, "No such file"),
        (_directory, "not a regular file|Is a directory"),
        (_fifo, "not a regular file"),
        (_huge, "larger than"),
        (_latin1, "not UTF-8"),
    ],
)
def test_a_named_file_that_cannot_be_read(file: Path, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(file)
    with pytest.raises(UsageError, match=message):
        load(str(file), {})
