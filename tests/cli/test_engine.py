"""The commands on real processes and on a real engine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from permdoctor.render.json import schema
from tests.cli.process import CONTROL, permdoctor, python
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def refused(lab: Lab, dockerd: Engine) -> Iterator[Box]:
    """Scenario S4."""
    model = lab.directory(0, 0, 0o755)
    box = dockerd.run("-u", "1001:1001", "-v", f"{model}:/app/model", name="refused")
    yield box
    box.rm()


@pytest.fixture(scope="module")
def healthy(lab: Lab, dockerd: Engine) -> Iterator[Box]:
    model = lab.directory(0, 0, 0o755)
    box = dockerd.run("-u", "1001:1001", "-v", f"{model}:/model:ro", name="healthy")
    yield box
    box.rm()


def test_refused(dockerd: Engine, refused: Box) -> None:
    done = permdoctor("check", "refused", "--host", dockerd.host)
    assert (done.returncode, done.stderr) == (1, "")
    assert "error PD101" in done.stdout
    assert "    class other applies: r-x, asked for wx: refused\n" in done.stdout
    assert not refused.sh("touch /app/model/x").ok


def test_healthy_is_one_line(dockerd: Engine, healthy: Box) -> None:
    done = permdoctor("check", "healthy", "-H", dockerd.host)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("healthy: ok, 1 mount, as 1001:1001 (model)")
    assert len(done.stdout.splitlines()) == 1
    assert healthy.sh("ls /model").ok


@pytest.mark.usefixtures("refused", "healthy")
def test_all(dockerd: Engine) -> None:
    done = permdoctor("check", "--all", DOCKER_HOST=dockerd.host)
    assert done.returncode == 1
    assert "\nhealthy: ok" in f"\n{done.stdout}"
    assert "\nrefused: 1 error" in f"\n{done.stdout}"


def test_the_need_decides(dockerd: Engine, refused: Box) -> None:
    need = ("--need", "/app/model=read")
    assert permdoctor("check", refused.id[:12], "-H", dockerd.host, *need).returncode == 0


def test_fail_on_decides_the_exit_status(dockerd: Engine) -> None:
    box = dockerd.run("-u", "1001:1001", "-e", "HF_HOME=/cache", name="warned")
    try:
        statuses = [
            permdoctor("check", "warned", "-H", dockerd.host, *more).returncode
            for more in ((), ("--fail-on", "error"), ("--fail-on", "warning"))
        ]
    finally:
        box.rm()
    assert statuses == [0, 0, 1]


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ('code = "PD101"', 0),
        ('container = "ref*"\npath = "/app/*"\nexpires = 2999-01-01', 0),
        ('code = "PD102"', 1),
        ('path = "/srv/*"', 1),
        ('label = "team=ml"', 1),
        ('code = "PD101"\nexpires = 2020-01-01', 1),
    ],
)
def test_what_is_ignored_does_not_count(
    dockerd: Engine, tmp_path: Path, rule: str, status: int
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[[ignore]]\nreason = "known"\n{rule}\n')
    args = ("check", "refused", "-H", dockerd.host, "--config", str(config), "--format", "json")
    done = permdoctor(*args)
    first = json.loads(done.stdout)["reports"][0]["findings"][0]
    assert (done.returncode, first["code"]) == (status, "PD101")
    assert first["ignored"] == ("" if status else "known")


@pytest.mark.usefixtures("refused")
def test_json(dockerd: Engine) -> None:
    done = permdoctor("check", "refused", "-H", dockerd.host, "--format", "json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema())
    assert document["reports"][0]["findings"][0]["code"] == "PD101"
    assert done.returncode == 1


@pytest.mark.usefixtures("refused")
def test_explain(dockerd: Engine) -> None:
    where = ("explain", "refused", "/app/model")
    done = permdoctor(*where, "--want", "read", "--want", "create", "-H", dockerd.host)
    assert done.returncode == 1
    read, create = done.stdout.splitlines()[-2:]
    assert read.split()[:2] == ["read", "allowed"]
    assert create.split()[:2] == ["create", "EACCES"]
    answer = permdoctor(*where, "-H", dockerd.host, "--format", "json")
    jsonschema.validate(json.loads(answer.stdout), schema())


@pytest.mark.usefixtures("refused")
def test_one_unknown_among_several_stops_nobody(dockerd: Engine) -> None:
    names = ("refusd", "refused")
    done = permdoctor("check", *names, "-H", dockerd.host, "--need", "/app/model=none")
    assert done.returncode == 3
    assert done.stdout.startswith("refused: ok")
    assert "no container is called refusd" in done.stderr
    assert "refused" in done.stderr.splitlines()[1]


@pytest.mark.usefixtures("refused", "healthy")
def test_names_are_completed(dockerd: Engine) -> None:
    done = permdoctor(
        _PERMDOCTOR_COMPLETE="bash_complete",
        COMP_WORDS="permdoctor check he",
        COMP_CWORD="2",
        DOCKER_HOST=dockerd.host,
    )
    assert done.stdout.split() == ["plain,healthy"]


def test_hostile_names_of_a_real_container(lab: Lab, dockerd: Engine) -> None:
    """What the engine and the kernel let through: paths, comm, labels, environment."""
    evil = os.fsdecode(b"\x1b[31m\xe2\x80\xae\n\xff")
    source = lab.directory(0, 0, 0o700)
    inside = source / evil
    inside.write_bytes(b"")
    inside.chmod(0o600)
    source.chmod(0o755)
    readable = "\x1b]0;owned\x07\u202e"
    options = ("-u", "1001:1001", "-v", f"{source}:/data/{readable}:ro", "-e", f"HF_HOME=/{evil}")
    box = dockerd.run(
        *options, command=("sh", "-c", f"exec -a '{readable}' sleep 600"), name="evil"
    )
    try:
        for form in ("table", "explain", "json"):
            done = permdoctor("check", "evil", "-v", "-H", dockerd.host, "--format", form)
            assert done.returncode == 1
            assert "PD111" in done.stdout
            assert CONTROL.search(done.stdout + done.stderr) is None
    finally:
        box.rm()


def test_a_process_needs_no_engine(refused: Box) -> None:
    """And is judged alike."""
    done = permdoctor("check", "--pid", str(refused.pid()), DOCKER_HOST="unix:///nonexistent")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"pid {refused.pid()}: 1 error")
    assert "error PD101" in done.stdout


@pytest.mark.parametrize("form", ["table", "json", "explain"])
def test_what_costs_is_not_imported(refused: Box, form: str) -> None:
    """Neither rich nor docker-py nor structlog for a check in a pipe; msgspec for what uses it."""
    done = python(
        "from permdoctor.cli import main\n"
        f"main(['check', '--pid', '{refused.pid()}', '--format', '{form}'])\n"
        "heavy = {'rich', 'docker', 'structlog', 'requests', 'jsonschema', 'watchdog'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    assert done.stderr == "[]\n"


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    done = permdoctor("check", "--pid", str(process.pid))
    assert done.returncode == 2
    assert f"{process.pid}" in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2
