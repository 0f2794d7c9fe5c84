"""The units as installed, beside Debian's docker.service: containers start, the service sees them.

The unit hides /tmp from the service and lets it write nowhere; neither may be seen in what it finds
and does.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from tests.lab.needs import MissingError
from tests.systemd.docker import Docker, docker
from tests.systemd.machine import Machine

pytestmark = pytest.mark.engine

UNIT = "permdoctor.service"
CONFIG = "/etc/permdoctor/conf.d/test.toml"
QUICK = "[service]\nsettle_seconds = 0.2\ndebounce_seconds = 0.1\ndamp_seconds = 1\n"
REPAIR = """
[repair]
roots = ["/srv/models"]
[[repair.unasked]]
container = "refused"
remedy = "acl-user"
roots = ["/srv/models"]
"""


@pytest.fixture(scope="module")
def engine(machine: Machine) -> Iterator[Docker]:
    try:
        manager = docker(machine)
        made = manager.__enter__()
    except MissingError as e:
        pytest.skip(str(e))
    yield made
    manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def service(machine: Machine, engine: Docker) -> Iterator[Machine]:
    """Started once; the tests below go on with what the one before them left."""
    machine.write(CONFIG, QUICK)
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("rm", "-rf", "/etc/permdoctor", f"/etc/systemd/system/{UNIT}.d")
    machine.run("systemctl", "daemon-reload")


def until(machine: Machine, what: Callable[[], bool], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, machine.journal(UNIT)
        time.sleep(0.1)


def ask(machine: Machine, path: str) -> Any:
    """The answer of the service; ``None`` while it gives none."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(f"/proc/{machine.pid}/root/run/permdoctor/status.sock")
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read()) if answer.status == HTTPStatus.OK else None
    except OSError:
        return None
    finally:
        connection.close()


def findings(machine: Machine) -> set[tuple[str, str, str]]:
    """(container, code, target) of what is more than worth knowing."""
    answer = ask(machine, "/v1/findings")
    rows = answer["findings"] if answer else []
    return {(r["container"], r["code"], r["target"]) for r in rows if r["severity"] != "info"}


def test_a_refused_mount_is_found(service: Machine, engine: Docker) -> None:
    service.run("install", "-d", "-m", "0755", "/srv/models")
    engine.run("refused", "-v", "/srv/models:/data")
    until(service, lambda: findings(service) == {("refused", "PD101", "/data")})
    said = service.permdoctor("findings", check=False)
    assert (said.returncode, "PD101" in said.stdout) == (1, True)


def test_what_is_dropped_into_a_tree_that_the_unit_hides(service: Machine, engine: Docker) -> None:
    """Only the watch can see it: everything was judged, and is not judged again for an hour."""
    service.run("install", "-d", "-o", "51001", "-g", "51001", "/tmp/models/below")
    service.run("chown", "51001:51001", "/tmp/models")
    engine.run("tmp", "-v", "/tmp/models:/data")

    def judged() -> bool:
        status = ask(service, "/v1/status")
        if status is None:
            return False
        return bool(status["containers"]["running"] == 2 and status["watch"]["roots"] == 2)

    until(service, judged)
    time.sleep(1)
    assert {f for f in findings(service) if f[0] == "tmp"} == set()
    service.run("sh", "-c", "umask 077; echo x > /tmp/models/below/foreign")
    until(service, lambda: any(f[0] == "tmp" for f in findings(service)))


def test_a_file_of_conf_d_is_noticed(service: Machine) -> None:
    other = CONFIG.replace("test", "other")
    service.write(other, "[service]\nworkers = 1\n")
    until(service, lambda: "the configuration has changed" in service.journal(UNIT))
    service.run("systemctl", "reload", UNIT)
    until(service, lambda: "configuration reloaded" in service.journal(UNIT))
    for line in ("has changed", "reloaded"):
        assert any(
            line in each and f"{other} (new)" in each for each in service.journal(UNIT).splitlines()
        )


def test_it_repairs_where_it_was_told_to(service: Machine) -> None:
    """And a restart does not forget that it did."""
    service.write(CONFIG, QUICK + REPAIR)
    service.permdoctor("systemd", "drop-in", "--write")
    service.run("systemctl", "restart", UNIT)
    acl = ("getfacl", "-cpn", "/srv/models")
    until(service, lambda: "user:51001:rwx" in service.run(*acl).stdout)
    until(service, lambda: not any(f[0] == "refused" for f in findings(service)))
    service.run("kill", "-9", service.show(UNIT, "MainPID")["MainPID"])
    service.wait(UNIT, 60, ActiveState="active", NRestarts="1")

    def remembered() -> bool:
        answer = ask(service, "/v1/status")
        return answer is not None and answer["repairs"] == 1

    until(service, remembered)
