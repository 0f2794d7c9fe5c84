"""The units as texts: what systemd says of them, what a configuration adds, who may write them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.app.rights import NEEDED
from permdoctor.app.systemd import dropin, executable, install
from permdoctor.app.systemd.units import (
    CHECK,
    SERVICE,
    UNITS,
    Found,
    quoted,
    sealed,
    state_of,
    unit,
)
from permdoctor.config import Config, Engines, Metrics, Repair, Service, Unasked, load
from permdoctor.errors import UsageError
from permdoctor.kernel.caps import names
from tests.cli.process import ROOT, permdoctor

ROOTS = Config(repair=Repair(roots=("/srv/models", "/srv/my data", "/srv/100%")))

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to own what is installed")


def analyze(directory: Path, *words: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{directory}:", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A directory with the units, for a program that exists."""
    for name in UNITS:
        (tmp_path / name).write_text(unit(name, "/bin/true"))
    return tmp_path


def add_drop_in(units: Path, config: Config) -> None:
    directory = units / f"{SERVICE}.d"
    directory.mkdir()
    (directory / dropin.NAME).write_text(dropin.drop_in(config))


# --- what systemd says ---


@needs_analyze
def test_systemd_has_nothing_to_say(units: Path) -> None:
    add_drop_in(units, ROOTS)
    told = analyze(units, "verify", *(str(units / name) for name in UNITS))
    assert [line for line in told.splitlines() if "permdoctor" in line] == []


@needs_analyze
@pytest.mark.parametrize(
    ("name", "config", "most", "said"),
    [
        pytest.param(SERVICE, None, 2.5, 0, id="observes"),
        pytest.param(SERVICE, ROOTS, 3.2, 1, id="repairs"),
        pytest.param("permdoctor-check.service", None, 2.0, 2, id="checks"),
    ],
)
def test_exposure(units: Path, name: str, config: Config | None, most: float, said: int) -> None:
    """And what the README says of it, where it is that systemd."""
    if config is not None:
        add_drop_in(units, config)
    told = analyze(units, "security", "--offline=yes", "--no-pager", name)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert level is not None, told
    assert float(level[1]) <= most
    text = (ROOT / "systemd" / "README.md").read_text("utf-8")
    words = r"says (\S+) for it, (\S+) with .*?, (\S+) for the.*?systemd (\d+)"
    sentence = re.search(words, text, re.DOTALL)
    assert sentence is not None
    version = analyze(units, "--version").split()[1]
    assert version != sentence[4] or level[1] == sentence[said + 1]


def test_what_lies_in_systemd_is_what_ships() -> None:
    for name in UNITS:
        shipped = (ROOT / "permdoctor" / "units" / name).read_text("utf-8")
        assert (ROOT / "systemd" / name).read_text("utf-8") == shipped


def test_both_services_are_hardened_alike() -> None:
    """But for the network, which only the one that tells people needs."""
    watches, checks = (_directives(n) for n in (SERVICE, "permdoctor-check.service"))
    own = {"PrivateNetwork", "IPAddressDeny", "RestrictAddressFamilies"}
    hardening = {k for k in watches if re.match("Protect|Private|Restrict|SystemCall|Cap|NoNew", k)}
    assert {k: watches[k] for k in hardening - own} == {k: checks[k] for k in hardening - own}


def _directives(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit(name, "/bin/true").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


# --- what a configuration adds ---


def lines_of(config: Config) -> list[str]:
    return [x for x in dropin.drop_in(config).splitlines() if x and not x.startswith("#")]


REPAIR_LINES = [
    "CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_DAC_OVERRIDE CAP_SETFCAP",
    "SystemCallFilter=@chown",
]


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        pytest.param(Config(), [], id="nothing"),
        pytest.param(
            ROOTS,
            [
                *REPAIR_LINES,
                "ReadWritePaths=-/srv/models",
                'ReadWritePaths="-/srv/my data"',
                "ReadWritePaths=-/srv/100%%",
            ],
            id="roots",
        ),
        pytest.param(
            Config(repair=Repair(roots=("/a", "/a/", "/b/../a"))),
            [*REPAIR_LINES, "ReadWritePaths=-/a"],
            id="each once",
        ),
        pytest.param(
            Config(
                repair=Repair(unasked=(Unasked(container="*", remedy="acl-user", roots=("/a",)),))
            ),
            [],
            id="unasked alone allows nothing",
        ),
        pytest.param(
            Config(engines=Engines(hosts=("unix:///run/user/1000/docker.sock",))),
            ["CapabilityBoundingSet=CAP_DAC_OVERRIDE"],
            id="rootless engine",
        ),
        pytest.param(
            Config(
                repair=Repair(state="/data/state"),
                service=Service(socket="/run/pd.sock"),
                metrics=Metrics(textfile="/var/lib/node_exporter/pd.prom"),
            ),
            [
                "ReadWritePaths=-/data/state",
                "ReadWritePaths=-/run",
                "ReadWritePaths=-/var/lib/node_exporter",
            ],
            id="places elsewhere",
        ),
        pytest.param(Config(service=Service(socket_group="ops")), ["Group=ops"], id="group"),
    ],
)
def test_what_a_configuration_adds(config: Config, lines: list[str]) -> None:
    assert lines_of(config) == (["[Service]", *lines] if lines else [])
    assert dropin.is_needed(config) == bool(lines)


@pytest.mark.parametrize(
    ("hosts", "lines"),
    [
        pytest.param(("unix:///run/docker.sock",), [], id="root's own"),
        pytest.param(
            ("unix:///run/user/1000/docker.sock",),
            ["CapabilityBoundingSet=CAP_DAC_OVERRIDE"],
            id="rootless",
        ),
        pytest.param(
            ("tcp://127.0.0.1:2375",),
            [
                "PrivateNetwork=no",
                "IPAddressAllow=localhost",
                "RestrictAddressFamilies=AF_INET AF_INET6",
            ],
            id="a port",
        ),
    ],
)
def test_what_the_timers_check_needs(units: Path, hosts: tuple[str, ...], lines: list[str]) -> None:
    config = Config(engines=Engines(hosts=hosts))
    text = dropin.drop_in_of_check(config)
    given = [x for x in text.splitlines() if x and not x.startswith("#")]
    assert given == (["[Service]", *lines] if lines else [])
    assert dropin.is_needed_for_check(config) == bool(lines)
    install.write_drop_ins(config, root=str(units))
    there = units / IN / f"{CHECK}.d" / dropin.NAME
    assert there.exists() is bool(lines)
    assert install.look(config, root=str(units)).drop_ins[1].is_right
    install.write_drop_ins(Config(), root=str(units))
    assert not there.exists()


def test_repair_gets_what_it_asks_for() -> None:
    assert set(dropin.REPAIR_CAPS) == set(names(NEEDED))


@pytest.mark.parametrize("path", ["/a\nUser=x", "/a\x1b", "relative"])
def test_a_path_that_cannot_stand_there(path: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a unit"):
        quoted(path)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/usr/bin/x", "/usr/bin/x"),
        ("/a b", '"/a b"'),
        ('/a"b', '"/a\\"b"'),
        ("/a\\b", '"/a\\\\b"'),
        ("/a%b", "/a%%b"),
        ("/ä", '"/ä"'),
    ],
)
def test_a_path_as_a_word(path: str, word: str) -> None:
    assert quoted(path) == word


# --- what was written ---


def test_a_seal() -> None:
    text = sealed("[Unit]\n")
    assert state_of(None, text) is Found.MISSING
    assert state_of(text, text) is Found.CURRENT
    assert state_of(sealed("[Other]\n"), text) is Found.OLD
    assert state_of(text + "# mine\n", text) is Found.EDITED
    assert state_of("[Unit]\n", text) is Found.FOREIGN
    assert state_of("", None) is Found.FOREIGN
    assert state_of(text, None) is Found.OLD


def installed(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir()}


IN = "etc/systemd/system"
WRITTEN = {f"{IN}/{n}" for n in UNITS}


def test_install_and_uninstall_into_an_image(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path))
    before = permdoctor("systemd", "status", *root)
    assert (before.returncode, before.stdout.count("missing")) == (1, 3)
    shown = permdoctor("systemd", "install", "--dry-run", *root)
    assert (shown.returncode, installed(tmp_path)) == (0, set())
    assert "ExecStart=" in shown.stdout
    assert permdoctor("systemd", "install", *root).stdout.count("wrote: ") == 3
    assert installed(tmp_path) == WRITTEN
    assert permdoctor("systemd", "install", *root).stdout.count("unchanged: ") == 3
    assert permdoctor("systemd", "status", *root).returncode == 0
    (tmp_path / IN / "other.service").write_text("[Unit]\n")
    permdoctor("systemd", "uninstall", "--dry-run", *root)
    assert installed(tmp_path) == WRITTEN | {f"{IN}/other.service"}
    assert permdoctor("systemd", "uninstall", *root).stdout.count("removed: ") == 3
    assert installed(tmp_path) == {f"{IN}/other.service"}
    assert permdoctor("systemd", "uninstall", *root).stdout == "nothing of it is there\n"


def test_a_unit_of_an_older_version_is_replaced(tmp_path: Path) -> None:
    install.install(Config(), root=str(tmp_path))
    old = tmp_path / IN / SERVICE
    old.write_text(sealed("[Unit]\nDescription=old\n"))
    assert install.look(Config(), root=str(tmp_path)).units[0].found is Found.OLD
    install.install(Config(), root=str(tmp_path))
    assert "ExecStart=" in old.read_text()


@pytest.mark.parametrize("text", [None, "[Unit]\n", "mask"])
def test_what_a_person_made_is_left_alone(tmp_path: Path, text: str | None) -> None:
    """Nothing at all is written or removed."""
    root = str(tmp_path)
    install.install(Config(), root=root)
    mine = tmp_path / IN / "permdoctor-check.timer"
    mine.write_text(mine.read_text() + "# mine\n" if text is None else text)
    if text == "mask":
        mine.unlink()
        mine.symlink_to("/dev/null")
    (tmp_path / IN / SERVICE).write_text(sealed("old"))
    for act in (lambda: install.install(Config(), root=root), lambda: install.uninstall(root=root)):
        with pytest.raises(UsageError, match=r"permdoctor-check\.timer was"):
            act()
        assert installed(tmp_path) == WRITTEN
        assert (tmp_path / IN / SERVICE).read_text() == sealed("old")


def test_the_drop_in_is_written_and_removed(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[repair]\nroots = ["/srv/models"]\n')
    config.chmod(0o644)
    options = ("--root", str(tmp_path), "--config", str(config))
    permdoctor("systemd", "install", *options)
    assert permdoctor("systemd", "status", *options).returncode == 1
    printed = permdoctor("systemd", "drop-in", "--config", str(config))
    assert "the service repairs nothing" in printed.stderr
    permdoctor("systemd", "drop-in", "--write", *options)
    written = tmp_path / IN / f"{SERVICE}.d" / dropin.NAME
    assert written.read_text() == printed.stdout == dropin.drop_in(load(str(config), {}))
    assert permdoctor("systemd", "status", *options).returncode == 0
    config.write_text('[repair]\nroots = ["/srv/others"]\n')
    shown = permdoctor("systemd", "status", *options)
    assert (shown.returncode, "outdated" in shown.stdout) == (1, True)
    permdoctor("systemd", "uninstall", "--root", str(tmp_path))
    assert installed(tmp_path) == {"config.toml"}
    assert not written.parent.exists()


def test_rights_that_are_not_needed_any_more_are_taken_back(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    options = ("--root", str(tmp_path), "--config", str(config))

    def configure(text: str) -> None:
        config.write_text(text)
        config.chmod(0o644)

    configure('[repair]\nroots = ["/srv/models"]\nstate = "/srv/state"\n')
    permdoctor("systemd", "install", *options)
    permdoctor("systemd", "drop-in", "--write", *options)
    assert stat.S_IMODE((tmp_path / "srv/state").stat().st_mode) == 0o700
    configure("")
    status = permdoctor("systemd", "status", *options)
    assert (status.returncode, "too much" in status.stdout) == (1, True)
    again = permdoctor("systemd", "install", *options)
    assert "no drop-in any more: permdoctor systemd drop-in --write" in again.stderr
    removed = permdoctor("systemd", "drop-in", "--write", *options)
    assert removed.stdout.count("removed: ") == 1
    assert installed(tmp_path) == {*WRITTEN, "config.toml"}
    assert permdoctor("systemd", "status", *options).returncode == 0
    assert permdoctor("systemd", "drop-in", "--write", *options).stdout.count("not needed: ") == 2


# --- who can change the program ---


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation that is root's alone, where the service sees it."""
    base = Path("/opt") / tmp_path.name
    (base / "venv/bin").mkdir(parents=True)
    program = base / "venv/bin/permdoctor"
    program.write_text("#!/usr/bin/python3\n")
    program.chmod(0o755)
    (base / "bin").mkdir()
    (base / "bin/permdoctor").symlink_to("../venv/bin/permdoctor")
    monkeypatch.setattr(executable, "_imported_from", lambda: iter(()))
    monkeypatch.setattr(sys, "executable", "/usr/bin/env")
    yield base
    shutil.rmtree(base)


@needs_root
@pytest.mark.parametrize(
    ("spoilt", "mode", "owner", "message"),
    [
        pytest.param("venv/bin/permdoctor", 0o755, 1000, "belongs to uid 1000", id="the program"),
        pytest.param("venv/bin/permdoctor", 0o775, 0, "may be written by others", id="its group"),
        pytest.param("venv", 0o777, 0, "may be written by others", id="a directory above"),
        pytest.param("bin", 0o755, 1000, "belongs to uid 1000", id="above the link"),
        pytest.param("bin/permdoctor", None, 1000, "belongs to uid 1000", id="the link"),
        pytest.param(".", 0o755, 0, None, id="all is well"),
    ],
)
def test_who_can_change_the_program(
    tree: Path, spoilt: str, mode: int | None, owner: int, message: str | None
) -> None:
    if mode is not None:
        os.chmod(tree / spoilt, mode)
    os.lchown(tree / spoilt, owner, 0)
    if message is None:
        executable.need_trust(str(tree / "bin/permdoctor"))
        return
    with pytest.raises(UsageError, match=f"{message}.* by it"):
        executable.need_trust(str(tree / "bin/permdoctor"))


@needs_root
@pytest.mark.parametrize(
    ("spoilt", "mode", "owner", "message"),
    [
        pytest.param("deep/mod.py", 0o644, 1000, "belongs to uid 1000", id="a module"),
        pytest.param("deep/mod.py", 0o666, 0, "may be written by others", id="its mode"),
        pytest.param("deep", 0o777, 0, "may be written by others", id="its directory"),
        pytest.param("elsewhere/mod.py", 0o644, 1000, "belongs to uid 1000", id="behind a link"),
        pytest.param("elsewhere/in/mod.py", 0o666, 0, "may be written", id="deep behind a link"),
        pytest.param("deep", 0o755, 0, None, id="all is well"),
    ],
)
def test_who_can_change_what_is_imported(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoilt: str,
    mode: int,
    owner: int,
    message: str | None,
) -> None:
    for name in ("site/pkg/deep", "elsewhere/in"):
        (tree / name).mkdir(parents=True)
        (tree / name / "mod.py").write_text("")
    (tree / "elsewhere/mod.py").write_text("")
    (tree / "site/linked").symlink_to("../elsewhere/mod.py")
    (tree / "site/folder").symlink_to("../elsewhere/in")
    (tree / "elsewhere/in/back").symlink_to("../../site")
    (tree / "site/dangling").symlink_to("nowhere")
    monkeypatch.setattr(executable, "_imported_from", lambda: iter((str(tree / "site"),)))
    at = tree / spoilt if "elsewhere" in spoilt else tree / "site/pkg" / spoilt
    at.chmod(mode)
    os.chown(at, owner, 0)
    if message is None:
        executable.need_trust(str(tree / "bin/permdoctor"))
        return
    with pytest.raises(UsageError, match=f"{at} {message}"):
        executable.need_trust(str(tree / "bin/permdoctor"))


@needs_root
def test_a_program_that_the_service_would_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executable, "_imported_from", lambda: iter(()))
    with pytest.raises(UsageError, match="would not see"):
        executable.need_trust("/tmp/permdoctor")


def test_what_is_imported_counts() -> None:
    places = set(executable._imported_from())
    assert str(ROOT / "permdoctor") in places
    assert any(p.endswith("site-packages") for p in places)
