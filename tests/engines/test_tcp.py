"""TCP endpoints on this machine: plain, TLS, and what goes wrong with them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from permdoctor.engines.docker import DockerEngine
from permdoctor.engines.endpoints import find_endpoints
from permdoctor.engines.events import EventStream, parse_event
from permdoctor.engines.transport import EngineError
from tests.lab.engine import Engine, start_docker
from tests.lab.lab import Lab
from tests.lab.needs import MissingError

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Tls:
    engine: Engine
    port: int
    keys: Path


def openssl(folder: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


def make_keys(folder: Path) -> None:
    """A CA, and one key pair that it signed for both sides."""
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch")
    openssl(folder, *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=lab")
    openssl(folder, *new, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=localhost")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    sign = (
        "x509",
        "-req",
        "-in",
        "csr.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
    )
    openssl(folder, *sign, "-extfile", "ext", "-out", "cert.pem")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def tls(lab: Lab) -> Iterator[Tls]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    keys, port = lab.directory(name="keys"), free_port()
    make_keys(keys)
    flags = (
        *("--tlsverify", f"--tlscacert={keys}/ca.pem", f"--tlscert={keys}/cert.pem"),
        *(f"--tlskey={keys}/key.pem", f"--host=tcp://127.0.0.1:{port}"),
    )
    try:
        engine = start_docker(lab.root / "tls", lab.image, *flags)
    except MissingError as e:
        pytest.skip(str(e))
    yield Tls(engine, port, keys)
    engine.stop()


def client(tls: Tls, **environ: str) -> DockerEngine:
    return DockerEngine(
        find_endpoints([f"tcp://127.0.0.1:{tls.port}"], {"HOME": "/", **environ})[0]
    )


def test_tls(tls: Tls) -> None:
    box = tls.engine.create("-u", "app", name="far")
    docker = client(tls, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(tls.keys))
    try:
        container = docker.find("far")
        assert (container.id, container.user) == (box.id, "app")
        assert docker.image_file(container, b"/etc/passwd", 4) == b"root"
        assert docker.peer is None
        assert [s.name for s in docker.list(every=True)] == ["far"]
    finally:
        docker.close()
        box.rm()


def test_pausing_through_tls(tls: Tls) -> None:
    box = tls.engine.run()
    docker = client(tls, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(tls.keys))
    try:
        assert docker.pause(box.id)
        assert not docker.pause(box.id)
        assert docker.unpause(box.id)
    finally:
        docker.close()
        box.rm()


def test_events_through_tls(tls: Tls) -> None:
    docker = client(tls, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(tls.keys))
    version = docker.api_version
    stream = EventStream(docker.endpoint, version, time.time(), seconds=10)
    box = tls.engine.run()
    try:
        lines = iter(partial(stream.next, 10.0), None)
        events = (parse_event(line) for line in lines if line is not None)
        assert any(e and (e.container, e.action) == (box.id, "start") for e in events)
    finally:
        stream.release()
        docker.close()
        box.rm()


def test_plain_http_to_a_tls_engine(tls: Tls) -> None:
    with pytest.raises(EngineError, match="wants TLS"):
        _ = client(tls).info


def test_keys_that_are_not_there(tls: Tls, tmp_path: Path) -> None:
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    with pytest.raises(EngineError, match="TLS") as e:
        _ = client(tls, **environ).info
    assert e.value.hint is not None
    assert "DOCKER_CERT_PATH" in e.value.hint


def test_nobody_listens(tls: Tls) -> None:
    nobody = Tls(tls.engine, free_port(), tls.keys)
    with pytest.raises(EngineError, match="refused"):
        _ = client(nobody).info
