"""The configuration file: what it accepts, and how it says what is wrong."""

from __future__ import annotations

import datetime
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permdoctor.app.configuration import concerns, refused
from permdoctor.config import (
    Alertmanager,
    Alerts,
    Check,
    Command,
    Config,
    Engines,
    Ignore,
    Metrics,
    NeedRule,
    Repair,
    Unasked,
    Webhook,
    from_toml,
    load,
    read,
)
from permdoctor.config.errors import ConfigError
from permdoctor.config.lines import Key, Lines
from permdoctor.config.merge import merged, origins
from permdoctor.config.schema import (
    EXAMPLE_FILE,
    SCHEMA_FILE,
    described,
    schema_text,
    shipped,
    uncommented,
)
from permdoctor.config.show import as_toml
from permdoctor.config.values import RemedyName, UnaskedRemedy
from permdoctor.container.needs import Need
from permdoctor.errors import UsageError
from tests.cli.process import ROOT, permdoctor
from tests.lab.patience import within

EXAMPLE = shipped(EXAMPLE_FILE)
WHOLE = "\n".join(uncommented(EXAMPLE))


def test_the_example_holds_the_defaults() -> None:
    assert from_toml(EXAMPLE, "example") == Config()


def test_the_example_at_the_top_is_the_one_that_ships() -> None:
    assert (ROOT / "config.example.toml").read_text("utf-8") == EXAMPLE


def _keys(table: type[msgspec.Struct], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key that there is, with its default (``NODEFAULT``: required)."""
    for field in msgspec.structs.fields(table):
        at = (*key, field.encode_name)
        below = next((t for t in (field.type, *get_args(field.type)) if _is_struct(t)), None)
        if below is None:
            yield at, field.default
        else:
            yield from _keys(below, at)


def _is_struct(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, msgspec.Struct)


KEYS = dict(_keys(Config))


def test_the_example_names_every_key_once_below_what_it_means() -> None:
    named = list(described(EXAMPLE))
    assert sorted(key for key, _ in named) == sorted(KEYS)
    assert [key for key, text in named if not text] == []


@pytest.mark.parametrize("key", [".".join(map(str, k)) for k in KEYS if k[-1].endswith("seconds")])
def test_a_time_has_its_unit(key: str) -> None:
    text = dict(described(EXAMPLE))[tuple(key.split("."))]
    assert "second" in text.lower()


def test_the_example_with_everything_uncommented_has_the_defaults() -> None:
    """What is required, or is one of two that are, has an example instead."""
    samples = {
        *("code", "container", "expires", "url_file", "routing_key_file", "argv"),
        *(k[-1] for k, default in KEYS.items() if default is msgspec.NODEFAULT),
    }
    document = merged([tomllib.loads(WHOLE)])
    for key, default in KEYS.items():
        value: Any = document
        for part in key:
            value = value[part]
            value = value[0] if isinstance(value, list) and value and _table(value) else value
        if key[-1] not in samples:
            assert value == (list(default) if isinstance(default, tuple) else default), key
    assert from_toml(WHOLE, "example") != Config()


def _table(value: list[Any]) -> bool:
    return isinstance(value[0], dict)


def test_the_schema_that_ships_is_that_of_the_types_and_the_example() -> None:
    """Regenerate with ``python -m tests.cli.test_config``."""
    assert shipped(SCHEMA_FILE) == schema_text()


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(shipped(SCHEMA_FILE))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_knows_every_key_with_its_meaning(
    validator: jsonschema.Draft202012Validator,
) -> None:
    properties = [d["properties"] for d in validator.schema["$defs"].values() if "properties" in d]
    leaves = [p for table in properties for p in table.values() if "$ref" not in json.dumps(p)]
    assert len(leaves) == len(KEYS) - 1  # need.need refers to the enumeration
    assert [p for p in leaves if not p.get("description")] == []


@pytest.mark.parametrize(
    ("text", "right"),
    [
        pytest.param(EXAMPLE, True, id="the example"),
        pytest.param(WHOLE, True, id="the whole example"),
        pytest.param("[check]\nworkers = 3", False, id="range"),
        pytest.param("[check]\nworker = 1", False, id="unknown key"),
        pytest.param("[alerts]\nmin_severity = 'bad'", False, id="choice"),
        pytest.param("[[need]]\npath = 'a'\nneed = 'own'", False, id="pattern"),
        pytest.param("[[ignore]]\ncode = 'PD101'", False, id="missing"),
    ],
)
def test_the_schema_says_what_the_types_say(
    validator: jsonschema.Draft202012Validator, text: str, right: bool
) -> None:
    document = json.loads(json.dumps(tomllib.loads(text), default=str))
    assert validator.is_valid(document) == right
    if right:
        from_toml(text, "f")
        return
    with pytest.raises(UsageError):
        from_toml(text, "f")


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
            "did you mean error?",
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
            "did you mean own?",
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
            "[[repair.unasked]]\ncontainer = '*'\nremedy = 'chown-directry'\nroots = ['/']",
            f"f:3: repair.unasked[1].remedy: expected one of {', '.join(get_args(UnaskedRemedy))}",
            "did you mean chown-directory?",
            id="unasked by an unknown remedy",
        ),
        pytest.param(
            "[repair]\nremedies = ['acl-user', 'chmod-777']",
            f"f:2: repair.remedies[2]: expected one of {', '.join(get_args(RemedyName))}",
            "did you mean chmod-owner?",
            id="an unknown remedy",
        ),
        pytest.param(
            "[[repair.unasked]]\ncontainer = '*'\nremedy = 'acl-user'\nroots = []",
            "f:4: repair.unasked[1].roots: expected array of length >= 1",
            None,
            id="unasked nowhere",
        ),
        pytest.param(
            "[[repair.unasked]]\ncontainer = '*'\nremedy = 'acl-user'\nroots = ['/']\n"
            "window = '2-5'",
            "f:5: repair.unasked[1].window: expected HH:MM-HH:MM",
            None,
            id="window",
        ),
        pytest.param(
            "[[repair.unasked]]\ncontainer = '*'\nremedy = 'acl-user'\nroots = ['/']\n"
            "window = '02:00-02:00'",
            "f:1: repair.unasked[1]: window has no length: its end is its beginning",
            None,
            id="empty window",
        ),
        pytest.param(
            "[service]\nsweep_seconds = nan",
            "f:2: service.sweep_seconds: expected float >= 1.0",
            None,
            id="not a number",
        ),
        pytest.param(
            "[service]\nsweep_seconds = inf",
            "f:2: service.sweep_seconds: expected float <= 604800.0",
            None,
            id="never",
        ),
        pytest.param(
            "[metrics]\nlisten = '9477'",
            "f:2: metrics.listen: expected HOST:PORT, or nothing",
            None,
            id="no host",
        ),
        pytest.param(
            "[metrics]\nlisten = '[::1]:70000'",
            "f:1: metrics: listen: 70000 is no port",
            None,
            id="no port",
        ),
        pytest.param(
            "[[alerts.webhook]]\nurl = 'https://user:secret@example.com/'",
            "f:2: alerts.webhook[1].url: expected an http or https URL without a user in it",
            None,
            id="password in a URL",
        ),
        pytest.param(
            "[[alerts.webhook]]\nulr = 'https://example.com/'",
            "f:2: alerts.webhook[1].ulr: no such key",
            "did you mean url?",
            id="a required key misspelt",
        ),
        pytest.param(
            "[[alerts.pagerduty]]\nname = 'p'",
            "f:1: alerts.pagerduty[1]: give one of routing_key_file and routing_key_env",
            None,
            id="no secret",
        ),
        pytest.param(
            "[[alerts.apprise]]\nurl_env = 'A'\nurl_file = '/a'",
            "f:1: alerts.apprise[1]: give one of url_file and url_env",
            None,
            id="two secrets",
        ),
        pytest.param(
            "[[alerts.command]]\nargv = ['notify']",
            "f:1: alerts.command[1]: argv begins with the absolute path of a program",
            None,
            id="program by name",
        ),
        pytest.param(
            "[[alerts.journald]]\n[[alerts.journald]]\n",
            "f:1: alerts: 2 sinks are called journald: give each its own name",
            None,
            id="two of a name",
        ),
        pytest.param(
            '[[alerts.alertmanager]]\nurls = ["http://a"]\nlabels = ["host=x"]',
            "f:1: alerts.alertmanager[1]: the label host is set by each alert itself",
            None,
            id="own label",
        ),
        pytest.param(
            '[[alerts.alertmanager]]\nurls = ["http://a"]\nlabels = ["a=x", "a=y"]',
            "f:1: alerts.alertmanager[1]: the label a is given 2 times",
            None,
            id="label twice",
        ),
        pytest.param(
            '[[alerts.alertmanager]]\nurls = ["http://a"]\nlabels = ["a-b=x"]',
            "f:3: alerts.alertmanager[1].labels[1]: expected NAME=VALUE, as in team=ml",
            None,
            id="no label",
        ),
        pytest.param(
            "[[ignore]]\nreason = 'x'",
            "f:1: ignore[1]: it would ignore everything: give code, container, label or path",
            None,
            id="ignore everything",
        ),
        pytest.param(
            "[[ignore]]\ncode = 'PD1'\nreason = 'x'\nexpires = 3",
            "f:4: ignore[1].expires: expected datetime | null, got int",
            None,
            id="no date",
        ),
        pytest.param("check = 3", "f:1: check: expected a table, got int", None, id="no table"),
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


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("2030-01-31", datetime.datetime(2030, 2, 1)),
        ("2030-01-31T12:00:00", datetime.datetime(2030, 1, 31, 12)),
        ("2030-01-31T12:00:00Z", datetime.datetime(2030, 1, 31, 12, tzinfo=datetime.UTC)),
    ],
)
def test_a_date_holds_to_its_end(text: str, expires: datetime.datetime) -> None:
    [rule] = from_toml(f"[[ignore]]\nreason='x'\ncode='PD1'\nexpires={text}", "f").ignore
    assert rule.expires == expires
    assert rule.until == expires.timestamp()


@pytest.mark.parametrize(
    ("window", "minutes"), [("", None), ("00:00-23:59", (0, 1439)), ("22:30-05:00", (1350, 300))]
)
def test_a_window_in_minutes(window: str, minutes: tuple[int, int] | None) -> None:
    assert Unasked(container="*", remedy="x", roots=("/",), window=window).minutes == minutes


@pytest.mark.parametrize(
    ("listen", "address"),
    [("", None), ("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:9477", ("::1", 9477))],
)
def test_an_address(listen: str, address: tuple[str, int] | None) -> None:
    assert Metrics(listen=listen).address == address


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x = " + "1" * 5000, id="digits"),
        pytest.param("[[ignore]]\nexpires = 9999-12-31", id="no day after"),
    ],
)
def test_what_python_cannot_hold(text: str) -> None:
    with pytest.raises(UsageError, match="a number or a date is out of range"):
        from_toml(text, "f")


@given(st.text() | st.lists(st.sampled_from(WHOLE.splitlines())).map("\n".join))
@settings(max_examples=300, deadline=None)
def test_whatever_stands_there_is_a_configuration_or_an_error(text: str) -> None:
    try:
        shown = as_toml(config := from_toml(text, "f"))
    except UsageError as e:
        wrong = e.lines
    else:
        assert as_toml(from_toml(shown, "f")) == as_toml(config)
        return
    assert all(message.startswith("f") for message, _ in wrong)


@pytest.mark.parametrize("text", ["a = ", "[check\n", "x = 1\nx = 2", "[" * 100_000])
def test_what_is_not_toml(text: str) -> None:
    with pytest.raises(UsageError, match=r"^f(:\d+: not TOML|: nested)"):
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
    monkeypatch.setattr("permdoctor.config.files.DEFAULT_DIR", str(tmp_path / "none"))
    assert load(None, {}) == Config()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to own the file, and to give it away")
@pytest.mark.parametrize(("owner", "accepted"), [(0, True), (65534, False)])
def test_the_default_file_must_be_roots(
    file: Path, monkeypatch: pytest.MonkeyPatch, owner: int, accepted: bool
) -> None:
    monkeypatch.setattr("permdoctor.config.files.DEFAULT_DIR", str(file.parent))
    file = file.rename(file.parent / "config.toml")
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


@pytest.mark.parametrize(
    ("mode", "owner", "said"),
    [
        (0o755, 0, ""),
        (0o1777, 0, ""),
        (0o775, 0, "directory .* may be written by others .mode 0775"),
        (0o755, 65534, "directory .* belongs to uid 65534, not to root"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to give a directory away")
def test_a_file_that_others_can_replace_is_refused(
    file: Path, mode: int, owner: int, said: str
) -> None:
    directory = file.parent / "d"
    directory.mkdir()
    file = file.rename(directory / "c.toml")
    os.chown(directory, owner, 0)
    directory.chmod(mode)
    link = directory.parent / "link.toml"
    link.symlink_to(file)
    for named in (file, link):
        if not said:
            assert load(str(named), {}).check.budget_entries == 3
            continue
        with pytest.raises(UsageError, match=said):
            load(str(named), {})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to give a file away")
def test_a_named_file_that_is_somebody_elses_is_refused(file: Path) -> None:
    os.chown(file, 65534, 0)
    with pytest.raises(UsageError, match=r"belongs to uid 65534, not to root$"):
        load(str(file), {})


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
        (_directory, r"neither config.toml nor conf.d/\*.toml is there"),
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


# --- several files ---


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One with an empty conf.d."""
    tmp_path.chmod(0o755)
    (tmp_path / "conf.d").mkdir(mode=0o755)
    return tmp_path


def write(directory: Path, name: str, text: str) -> Path:
    file = directory / name
    file.write_text(text)
    file.chmod(0o644)
    return file


def test_tables_merge_arrays_of_tables_append_and_the_last_value_wins(directory: Path) -> None:
    write(directory, "conf.d/20.toml", "[check]\nworkers = 1\n[engines]\nhosts = ['unix:///b']")
    write(directory, "conf.d/10.toml", "[check]\nworkers = 2\n[[need]]\npath='/b'\nneed='own'")
    write(
        directory,
        "config.toml",
        "[check]\nbudget_entries = 5\n[engines]\nhosts = ['unix:///a']\n"
        "[[need]]\npath='/a'\nneed='own'",
    )
    for name in ("conf.d/.30.toml", "conf.d/30.toml~", "conf.d/README"):
        write(directory, name, "this is not read")
    loaded = read(str(directory), {})
    assert [Path(s.file).name for s in loaded.sources] == ["config.toml", "10.toml", "20.toml"]
    assert loaded.config == Config(
        engines=Engines(hosts=("unix:///b",)),
        check=Check(budget_entries=5, workers=1),
        need=(NeedRule(path="/a", need=Need.OWN), NeedRule(path="/b", need=Need.OWN)),
    )
    found = {k: [f"{Path(o.file).name}:{o.line}" for o in v] for k, v in _origins(loaded).items()}
    assert found == {
        ("check", "budget_entries"): ["config.toml:2"],
        ("check", "workers"): ["10.toml:2", "20.toml:2"],
        ("engines", "hosts"): ["config.toml:4", "20.toml:4"],
        ("need", 0, "path"): ["config.toml:6"],
        ("need", 0, "need"): ["config.toml:7"],
        ("need", 1, "path"): ["10.toml:4"],
        ("need", 1, "need"): ["10.toml:5"],
    }


def _origins(loaded: Any) -> Any:
    return origins(loaded.sources)


def test_a_named_file_is_the_whole_configuration(directory: Path) -> None:
    file = write(directory, "config.toml", "[check]\nworkers = 1")
    write(directory, "conf.d/10.toml", "[check]\nbudget_entries = 3")
    assert load(str(file), {}) == Config(check=Check(workers=1))
    assert load(str(directory), {}) == Config(check=Check(workers=1, budget_entries=3))


def test_conf_d_needs_no_main_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: the default directory must be root's")
    monkeypatch.setattr("permdoctor.config.files.DEFAULT_DIR", str(directory))
    write(directory, "conf.d/10.toml", "[check]\nworkers = 1")
    assert load(None, {}) == Config(check=Check(workers=1))


def test_all_mistakes_of_all_files_at_once(directory: Path) -> None:
    write(directory, "config.toml", "[check]\nworker = 1\nfail_on = 'x'\n[repiar]")
    write(directory, "conf.d/10.toml", "[log]\nx = y")
    write(directory, "conf.d/20.toml", "[repair]\nroots = ['a', 'b']")
    with pytest.raises(ConfigError) as e:
        load(str(directory), {})
    assert [(m.removeprefix(f"{directory}/"), h) for m, h in e.value.lines] == [
        ("config.toml:2: check.worker: no such key", "did you mean workers?"),
        ("config.toml:3: check.fail_on: expected one of error, warning, info", None),
        ("config.toml:4: repiar: no such key", "did you mean repair?"),
        ("conf.d/10.toml:2: not TOML: Invalid value", "see https://toml.io/en/v1.0.0"),
        ("conf.d/20.toml:2: repair.roots[1]: expected an absolute path", None),
        ("conf.d/20.toml:2: repair.roots[2]: expected an absolute path", None),
    ]
    assert "\n" not in e.value.message


def test_there_is_an_end_to_the_mistakes() -> None:
    with pytest.raises(ConfigError) as e:
        from_toml("\n".join(f"x{i} = 1" for i in range(100)), "f")
    assert len(e.value.lines) == 51
    assert e.value.lines[-1] == ("and 50 more mistakes", None)


def test_a_mistake_that_takes_two_files(directory: Path) -> None:
    write(directory, "config.toml", "[[alerts.journald]]")
    write(directory, "conf.d/10.toml", "[[alerts.journald]]")
    with pytest.raises(UsageError, match=r"2 sinks are called journald.*config.toml.*10.toml"):
        load(str(directory), {})


@pytest.mark.parametrize("name", [".", "conf.d", "conf.d/10.toml"])
def test_what_others_can_write_is_refused(directory: Path, name: str) -> None:
    write(directory, "conf.d/10.toml", "[check]\nworkers = 1")
    (directory / name).chmod(0o775)
    with pytest.raises(UsageError, match="may be written by others"):
        load(str(directory), {})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to give files away")
@pytest.mark.parametrize("name", [".", "conf.d", "conf.d/10.toml"])
def test_the_default_directory_must_be_roots(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("permdoctor.config.files.DEFAULT_DIR", str(directory))
    write(directory, "conf.d/10.toml", "[check]\nworkers = 1")
    os.chown(directory / name, 65534, 0)
    with pytest.raises(UsageError, match="belongs to uid 65534, not to root"):
        load(None, {})


def test_too_many_files(directory: Path) -> None:
    for number in range(257):
        write(directory, f"conf.d/{number}.toml", "")
    with pytest.raises(UsageError, match="more than 256 files"):
        load(str(directory), {})


# --- shown ---


@pytest.mark.parametrize(
    ("alerts", "secret"),
    [
        (Alerts(webhook=(Webhook(url="https://h.example/services/T0/S3CRET"),)), "S3CRET"),
        (Alerts(webhook=(Webhook(url="https://h.example?token=S3CRET"),)), "S3CRET"),
        (Alerts(alertmanager=(Alertmanager(urls=("http://h.example/S3CRET",)),)), "S3CRET"),
        (Alerts(command=(Command(argv=("/bin/x", "--token", "S3CRET")),)), "S3CRET"),
    ],
)
def test_secrets_are_not_shown(alerts: Alerts, secret: str) -> None:
    shown = as_toml(Config(alerts=alerts), {})
    assert secret not in shown
    assert "***" in shown
    assert "h.example" in shown or "/bin/x" in shown


def test_what_is_shown_is_a_configuration() -> None:
    config = from_toml(WHOLE, "f")
    shown = as_toml(config, {})
    again = from_toml(shown.replace("***", "permdoctor"), "f")
    assert again == config


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\x1b[31m", "\u202e", "\x7f", "\U000e0001", "ä"])
def test_any_text_comes_back(text: str) -> None:
    config = Config(ignore=(Ignore(reason=text, code="PD1"),))
    shown = as_toml(config)
    assert from_toml(shown, "f") == config
    assert "\x1b" not in shown


# --- the commands ---


def test_check(directory: Path) -> None:
    write(directory, "config.toml", "[check]\nworkers = 1")
    done = permdoctor("config", "check", "--config", str(directory))
    assert (done.returncode, done.stdout) == (0, f"ok: {directory}/config.toml\n")
    write(directory, "conf.d/10.toml", "[check]\nworker = 1\n[log]\nlevel = 'loud'")
    done = permdoctor("config", "check", "--config", str(directory))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"permdoctor: {directory}/conf.d/10.toml:2: check.worker: no such key\n"
        "  hint: did you mean workers?\n"
        f"permdoctor: {directory}/conf.d/10.toml:4: log.level: "
        "expected one of debug, info, warning, error\n"
    )


def test_check_says_what_will_not_work(directory: Path) -> None:
    (directory / "link").symlink_to("conf.d")
    write(directory, "key", "secret")
    write(
        directory,
        "config.toml",
        f"""
        [repair]
        roots = ["{directory}/link", "{directory}/none", "/srv/../etc/ssl"]
        remedies = ["acl-user"]
        [[repair.unasked]]
        container = "*"
        engine = "unix:///b"
        remedy = "chown-directory"
        roots = ["/srv"]
        [engines]
        hosts = ["unix:///a"]
        [[ignore]]
        reason = "old"
        code = "PD101"
        expires = 2020-01-01
        [service]
        socket_group = "nobody-has-this"
        socket = "{directory}/none/status.sock"
        [metrics]
        listen = "[::]:9477"
        [[alerts.webhook]]
        url = "http://127.0.0.1/"
        secret_file = "{directory}/key"
        [[alerts.webhook]]
        name = "metadata"
        url = "http://2852039166/latest"
        [[alerts.command]]
        argv = ["/no/such/program"]
        [[alerts.pagerduty]]
        routing_key_file = "{directory}/absent"
        [[ignore]]
        reason = "a slip"
        code = "PD1O1"
        """,
    )
    done = permdoctor("config", "check", "--config", str(directory))
    assert done.returncode == 2, "the service would refuse a secret that it cannot read"
    unseen = "the service as a unit of systemd does not see it"
    warnings = done.stderr.replace("permdoctor: warning: ", "").splitlines()
    assert warnings == [
        f"repair.roots: {directory}/link allows nothing: its real path is {directory}/conf.d",
        f"repair.roots: {directory}/none is no directory",
        "repair.roots: /srv/../etc/ssl allows nothing: it is the host's own",
        "repair.unasked[1]: no engine is called unix:///b; there are: unix:///a",
        "repair.unasked[1]: repair.roots does not allow /srv",
        "repair.unasked[1]: chown-directory is not among repair.remedies",
        f"alerts: secret_file of webhook: {directory}/key: {unseen}",
        f"alerts: routing_key_file of pagerduty: {directory}/absent: {unseen}",
        "alerts: url of metadata: 2852039166 is a cloud's metadata service",
        "alerts: argv of command: /no/such/program is no program",
        "ignore[1] has expired",
        "ignore[2]: no code is PD1O1: permdoctor codes",
        f"service.socket: {directory}/none is no directory",
        "metrics.listen: :: is not loopback, and /metrics asks for no password",
        "service.socket_group: there is no group nobody-has-this",
        f"permdoctor: alerts.webhook webhook: {directory}/key may be read or written by others "
        "(mode 0644)",
        f"  hint: chmod 0600 {directory}/key; and if it was like that for long, make a new secret",
        f"permdoctor: alerts.pagerduty pagerduty: cannot read {directory}/absent: "
        "No such file or directory",
    ]


def test_check_leaves_to_the_service_what_only_the_service_has(directory: Path) -> None:
    """Its environment; and says of a program that root would run, whose it is."""
    hook = directory / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o777)
    write(
        directory,
        "config.toml",
        f"""
        [[alerts.webhook]]
        url = "http://127.0.0.1/"
        secret_env = "NOT_SET_HERE"
        [[alerts.command]]
        argv = ["{hook}"]
        """,
    )
    done = permdoctor("config", "check", "--config", str(directory))
    if os.geteuid() == 0:
        assert done.returncode == 2
        assert f"{hook} would be run as root, and {hook} may be written by others" in done.stderr
    hook.chmod(0o755)
    assert permdoctor("config", "check", "--config", str(directory)).returncode == 0


def test_show_says_where_each_value_comes_from(directory: Path) -> None:
    write(directory, "config.toml", "[check]\nworkers = 2")
    write(directory, "conf.d/10.toml", "[check]\nworkers = 1")
    done = permdoctor("config", "show", "--origin", "--config", str(directory))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert f"workers = 1  # {directory}/conf.d/10.toml:2, not {directory}/config.toml:2" in lines
    assert 'fail_on = "error"  # default' in lines


def test_schema() -> None:
    assert permdoctor("config", "schema").stdout == shipped(SCHEMA_FILE)


def test_init_never_writes_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "config.toml"
    done = permdoctor("config", "init", str(file))
    assert (done.returncode, done.stderr) == (0, f"permdoctor: wrote {file}\n")
    assert file.read_text() == EXAMPLE
    assert load(str(file.parent), {}) == Config()
    file.write_text("mine")
    done = permdoctor("config", "init", str(file))
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_who_cannot_read_a_secret_is_told_so_and_no_more(tmp_path: Path) -> None:
    """A right configuration is right for whoever asks."""
    (tmp_path / "key").write_text("s3cr3t")
    (tmp_path / "key").chmod(0o600)
    hook = Webhook(url="http://127.0.0.1", secret_file=f"{tmp_path}/key")
    config = Config(alerts=Alerts(webhook=(hook,)))
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o111)
    assert not list(refused(config, {}))
    os.seteuid(65534)
    try:
        mistakes, warnings = list(refused(config, {})), list(concerns(config))
    finally:
        os.seteuid(0)
    assert not mistakes
    assert warnings[0].endswith("/key: only root can say whether it holds a secret")


@pytest.mark.parametrize("command", [("config", "check"), ("serve",), ("check", "x")])
def test_an_engine_elsewhere(command: tuple[str, ...], tmp_path: Path) -> None:
    """It is the configuration that names it."""
    file = tmp_path / "config.toml"
    file.write_text('[engines]\nhosts = ["ssh://gpu-2"]\n')
    done = permdoctor(*command, "--config", str(file))
    assert done.returncode == 2
    assert done.stderr.startswith("permdoctor: engines.hosts: ssh://gpu-2: ")


WINDING = r'''a = """
b = 1
[x]
c = \""" still
""""
[t]
k = [ "[", # ]
  { path = "x" },
  { path = "]" }, { path = 'y' },
]
b = 2
s = '\'
d = {x = 1}
e = """
q = 1"""
[[need]]
z = ""
w = 1
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("a",), 1), (("b",), 1), (("x",), 1), (("t",), 6), (("t", "k"), 7), (("t", "k", 0), 8),
        (("t", "k", 1, "path"), 9), (("t", "k", 2), 9), (("t", "b"), 11), (("t", "s"), 12),
        (("t", "d", "x"), 13), (("t", "e"), 14), (("t", "q"), 6), (("need", 0), 16),
        (("need", 0, "w"), 18),
    ],
)  # fmt: skip
def test_the_line_of_a_key(key: Key, line: int) -> None:
    """Not one that only stands in a string; of what has no line, that of what it is in."""
    tomllib.loads(WINDING)
    assert Lines(WINDING).of(key) == line


def test_a_long_line_is_read_at_once() -> None:
    """However its spaces could be shared out."""
    spaces = " " * 200_000
    with within(20, "a search that goes back and forth takes minutes"):
        assert Lines(f"[a{spaces}]\nb{spaces}= 1").of(("a", "b")) == 2
        Lines(f"a{spaces}\n[a{spaces}")


if __name__ == "__main__":
    target = ROOT / "permdoctor" / "config" / SCHEMA_FILE
    target.write_text(schema_text(), "utf-8")
