"""Endpoints are found as the docker CLI finds them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from permdoctor.engines.endpoints import DEFAULT, Endpoint, TlsFiles, find_endpoints
from permdoctor.errors import UsageError


def context(config: Path, name: str, meta: object, *, tls: tuple[str, ...] = ()) -> None:
    digest = sha256(name.encode()).hexdigest()
    folder = config / "contexts" / "meta" / digest
    folder.mkdir(parents=True)
    text = meta if isinstance(meta, str) else json.dumps(meta)
    (folder / "meta.json").write_text(text)
    for file in tls:
        keys = config / "contexts" / "tls" / digest / "docker"
        keys.mkdir(parents=True, exist_ok=True)
        (keys / file).write_text("pem")


def docker_host(host: str) -> dict[str, object]:
    return {"Name": "x", "Endpoints": {"docker": {"Host": host}}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A HOME whose config.json chooses the context ``lab`` over others."""
    config = tmp_path / ".docker"
    config.mkdir()
    (config / "config.json").write_text('{"currentContext": "lab"}')
    context(config, "lab", docker_host("unix:///lab.sock"))
    context(config, "other", docker_host("unix:///other.sock"))
    context(config, "far", docker_host("ssh://root@far"))
    context(config, "torn", '{"Endpoints": {')
    context(config, "empty", {"Name": "empty", "Endpoints": {}})
    context(config, "odd", {"Endpoints": {"docker": {"Host": 7}}})
    context(config, "list", [])
    context(
        config, "secure", docker_host("tcp://127.0.0.1:2376"), tls=("ca.pem", "cert.pem", "key.pem")
    )
    return tmp_path


@pytest.mark.parametrize(
    ("hosts", "environ", "urls", "origin"),
    [
        pytest.param([], {}, ["unix:///lab.sock"], "lab", id="currentContext"),
        pytest.param([], {"DOCKER_CONTEXT": "other"}, ["unix:///other.sock"], "other", id="env"),
        pytest.param([], {"DOCKER_CONTEXT": "default"}, [DEFAULT], "default", id="default"),
        pytest.param(
            [], {"DOCKER_HOST": "unix:///env.sock", "DOCKER_CONTEXT": "other"},
            ["unix:///env.sock"], "DOCKER_HOST", id="DOCKER_HOST wins over the context",
        ),
        pytest.param(
            ["unix:///a", "/b", "unix:///a"], {"DOCKER_HOST": "unix:///env.sock"},
            ["unix:///a", "unix:///b"], "--host", id="--host wins, several, each once",
        ),
        pytest.param(["unix://"], {}, [DEFAULT], "--host", id="unix:// alone"),
        pytest.param(["127.0.0.1:99"], {}, ["tcp://127.0.0.1:99"], "--host", id="bare address"),
        pytest.param([":99"], {}, ["tcp://localhost:99"], "--host", id="bare port"),
        pytest.param(["tcp://[::1]:99"], {}, ["tcp://[::1]:99"], "--host", id="IPv6"),
        pytest.param(["tcp://localhost"], {}, ["tcp://localhost:2375"], "--host", id="no port"),
    ],
)  # fmt: skip
def test_precedence(
    home: Path, hosts: list[str], environ: dict[str, str], urls: list[str], origin: str
) -> None:
    found = find_endpoints(hosts, {"HOME": str(home), **environ})
    assert [e.url for e in found] == urls
    assert origin in found[0].origin


def test_nothing_set_is_the_default_socket(tmp_path: Path) -> None:
    found = find_endpoints([], {"HOME": str(tmp_path)})
    assert found == (Endpoint(url=DEFAULT, origin="the default"),)
    assert found[0].socket_path == "/var/run/docker.sock"


@pytest.mark.parametrize(
    ("hosts", "environ", "phrase"),
    [
        pytest.param(["ssh://root@far"], {}, "another machine", id="ssh"),
        pytest.param(["tcp://10.0.0.5:2375"], {}, "another machine", id="remote tcp"),
        pytest.param(["tcp://127.0.0.1.evil:1"], {}, "another machine", id="not loopback"),
        pytest.param([], {"DOCKER_HOST": "tcp://docker.example:2375"}, "another machine", id="env"),
        pytest.param([], {"DOCKER_CONTEXT": "far"}, "another machine", id="remote context"),
        pytest.param(["npipe:////./pipe/x"], {}, "cannot talk npipe", id="npipe"),
        pytest.param(["unix://relative"], {}, "not an absolute path", id="relative"),
        pytest.param(["tcp://127.0.0.1:x"], {}, "--host", id="no port number"),
        pytest.param(["[::1]:1" + "\udced" * 9999], {}, "--host", id="an endless port"),
        pytest.param([], {"DOCKER_CONTEXT": "nosuch"}, "no such context", id="no such context"),
        pytest.param([], {"DOCKER_CONTEXT": "torn"}, "broken: ", id="torn JSON"),
        pytest.param([], {"DOCKER_CONTEXT": "empty"}, "names no docker endpoint", id="empty"),
        pytest.param([], {"DOCKER_CONTEXT": "odd"}, "its Host is no printable text", id="odd host"),
        pytest.param([], {"DOCKER_CONTEXT": "list"}, "names no docker endpoint", id="a list"),
        pytest.param([], {"DOCKER_CONTEXT": "\x1b[2J"}, "no such context", id="control bytes"),
    ],
)
def test_refused_with_one_clear_line(
    home: Path, hosts: list[str], environ: dict[str, str], phrase: str
) -> None:
    with pytest.raises(UsageError) as e:
        find_endpoints(hosts, {"HOME": str(home), **environ})
    assert phrase in e.value.message
    assert e.value.message.isprintable()
    assert len(e.value.message) < 2000
    assert e.value.hint


@pytest.mark.parametrize("text", ["{", "\0", "\x80"])
def test_broken_config_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="no JSON"):
        find_endpoints([], {"HOME": "/", "DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("text", ["{}", "[]", '{"currentContext": 7}', '{"currentContext": ""}'])
def test_config_without_a_context(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert find_endpoints([], {"DOCKER_CONFIG": str(tmp_path)})[0].url == DEFAULT


def test_tls_of_a_context(home: Path) -> None:
    (found,) = find_endpoints([], {"HOME": str(home), "DOCKER_CONTEXT": "secure"})
    assert found.tls is not None
    assert found.tls.verify
    assert [Path(p).name for p in (found.tls.ca, found.tls.cert, found.tls.key)] == [
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]


@pytest.mark.parametrize(
    ("environ", "verify"),
    [({"DOCKER_TLS_VERIFY": "1"}, True), ({"DOCKER_TLS": "1"}, False), ({}, None)],
)
def test_tls_of_the_environment(
    tmp_path: Path, environ: dict[str, str], verify: bool | None
) -> None:
    (tmp_path / "ca.pem").write_text("pem")
    env = {"DOCKER_CERT_PATH": str(tmp_path), "HOME": "/", **environ}
    (found,) = find_endpoints(["tcp://127.0.0.1:2376"], env)
    expected = None if verify is None else TlsFiles(ca=f"{tmp_path}/ca.pem", verify=verify)
    assert found.tls == expected


def test_agrees_with_the_docker_cli(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("needs docker: apt-get install docker.io")
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "DOCKER_CONFIG": str(tmp_path)}
    for args in (
        ("create", "lab.one", "--docker", "host=unix:///cli.sock"),
        ("use", "lab.one"),
    ):
        subprocess.run([docker, "context", *args], env=env, check=True, capture_output=True)
    assert find_endpoints([], env)[0].url == "unix:///cli.sock"


def test_each_socket_once(tmp_path: Path) -> None:
    """Whatever names it has; the first counts.  What is not there is known by where it would be."""
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run/docker.sock"))
        os.link(tmp_path / "run/docker.sock", tmp_path / "hard.sock")
        names = [
            f"unix://{tmp_path}/run/docker.sock",
            f"{tmp_path}/run/docker.sock",
            f"unix://{tmp_path}/var/run/docker.sock",
            f"unix://{tmp_path}/run/../run/docker.sock",
            f"unix://{tmp_path}/hard.sock",
        ]
        other, absent = f"unix://{tmp_path}/other.sock", f"unix://{tmp_path}/run/none.sock"
        (tmp_path / "other.sock").touch()
        found = find_endpoints(
            [*names, other, absent, f"unix://{tmp_path}/var/run/none.sock"], {"HOME": "/"}
        )
    assert [e.url for e in found] == [names[0], other, absent]
    assert found[0].also == tuple(names[1:])
    assert [len(e.also) for e in found] == [4, 0, 1]
