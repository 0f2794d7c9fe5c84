"""The life of the service under a really booted systemd: READY, reload, watchdog, stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine

UNIT = "permdoctor.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
CONFIG = "/etc/permdoctor/config.toml"
SOCKET = "/run/permdoctor/status.sock"
HURRY = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n"


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """Started, with a watchdog that is quick; everything of it is gone afterwards."""
    machine.write(f"{DROP_INS}/90-test.conf", HURRY)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("rm", "-rf", DROP_INS, CONFIG)
    machine.run("systemctl", "daemon-reload")


def pid_of(machine: Machine) -> str:
    return machine.show(UNIT, "MainPID")["MainPID"]


def said_later(machine: Machine, text: str, seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while text not in machine.journal(UNIT):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def test_from_start_to_stop(service: Machine) -> None:
    """systemctl start came back, so READY was said: no engine has to be there."""
    shown = service.show(UNIT, "ActiveState", "SubState", "NRestarts")
    assert shown == {"ActiveState": "active", "SubState": "running", "NRestarts": "0"}
    assert service.show(UNIT, "StatusText")["StatusText"]
    service.wait(UNIT, StatusText=service.show(UNIT, "StatusText")["StatusText"])
    assert service.run("stat", "-c", "%a %U:%G", SOCKET).stdout == "660 root:root\n"
    begun = time.monotonic()
    service.run("systemctl", "stop", UNIT)
    assert time.monotonic() - begun < 10
    shown = service.show(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert service.run("test", "-e", "/run/permdoctor", check=False).returncode == 1
    assert service.run("stat", "-c", "%a", "/var/lib/permdoctor").stdout == "700\n"


def test_reload(service: Machine) -> None:
    """A right configuration is taken; a wrong one is not, and is told of, and the service stays."""
    pid = pid_of(service)
    service.write(CONFIG, "[service]\nsettle_seconds = 1\n")
    service.run("systemctl", "reload", UNIT)
    assert said_later(service, "configuration reloaded")
    service.write(CONFIG, "[service]\nsetle_seconds = 2\n")
    service.run("systemctl", "reload", UNIT)
    assert said_later(service, f"{CONFIG}:2: service.setle_seconds: no such key")
    service.wait(UNIT, ActiveState="active", SubState="running", MainPID=pid, NRestarts="0")


def test_a_service_that_hangs_is_started_again(service: Machine) -> None:
    pid = pid_of(service)
    service.run("kill", "-STOP", pid)
    service.wait(UNIT, 15, ActiveState="active", SubState="running", NRestarts="1")
    assert pid_of(service) != pid
    assert "Watchdog timeout" in service.journal(UNIT)


def test_a_service_that_works_is_let_live(service: Machine) -> None:
    """Longer than its watchdog would wait."""
    pid = pid_of(service)
    time.sleep(3)
    service.wait(UNIT, ActiveState="active", SubState="running", MainPID=pid, NRestarts="0")


def test_a_service_that_is_killed_is_started_again(service: Machine) -> None:
    service.run("kill", f"-{signal.SIGKILL}", pid_of(service))
    service.wait(UNIT, 15, ActiveState="active", SubState="running", NRestarts="1")


def test_a_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    machine.write(CONFIG, "[service]\nsetle_seconds = 2\n")
    try:
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        machine.wait(UNIT, ActiveState="failed", ExecMainStatus="2", NRestarts="0")
        assert f"{CONFIG}:2: service.setle_seconds: no such key" in machine.journal(UNIT)
    finally:
        machine.run("rm", CONFIG)
        machine.run("systemctl", "reset-failed", UNIT)


def test_who_is_in_the_group_may_ask(machine: Machine) -> None:
    machine.write(CONFIG, '[service]\nsocket_group = "adm"\n')
    machine.permdoctor("systemd", "drop-in", "--write")
    machine.run("systemctl", "start", UNIT)
    try:
        assert machine.run("stat", "-c", "%a %U:%G", SOCKET).stdout == "660 root:adm\n"
        ask = ("python3", "-c", f"import socket as s; s.socket(s.AF_UNIX).connect('{SOCKET}')")
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534")
        assert machine.run(*nobody, "--groups", "adm", *ask, check=False).returncode == 0
        assert machine.run(*nobody, "--clear-groups", *ask, check=False).returncode == 1
    finally:
        machine.run("systemctl", "stop", UNIT)
        machine.run("rm", "-rf", DROP_INS, CONFIG)
        machine.run("systemctl", "daemon-reload")
