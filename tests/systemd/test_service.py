"""The life of the service under a really booted systemd: READY, reload, watchdog, stop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine

UNIT = "permdoctor.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
CONFIG = "/etc/permdoctor/config.toml"
SOCKET = "/run/permdoctor/status.sock"
HURRY = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n"


@pytest.fixture(scope="module")
def service(machine: Machine) -> Iterator[Machine]:
    """Started once, with a watchdog that is quick; the tests below are its life, in order."""
    machine.write(f"{DROP_INS}/90-test.conf", HURRY)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("rm", "-rf", DROP_INS, CONFIG)
    machine.run("systemctl", "daemon-reload")


def pid_of(machine: Machine) -> str:
    return machine.show(UNIT, "MainPID")["MainPID"]


def restarts_of(machine: Machine) -> int:
    return int(machine.show(UNIT, "NRestarts")["NRestarts"])


def said_later(machine: Machine, text: str, seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while text not in machine.journal(UNIT):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def test_start(service: Machine) -> None:
    """systemctl start came back, so READY was said: no engine has to be there."""
    shown = service.show(UNIT, "ActiveState", "SubState", "NRestarts")
    assert shown == {"ActiveState": "active", "SubState": "running", "NRestarts": "0"}
    assert service.show(UNIT, "StatusText")["StatusText"]
    assert service.run("stat", "-c", "%a %U:%G", SOCKET).stdout == "660 root:root\n"


def test_reload(service: Machine) -> None:
    """A right configuration is taken; a wrong one is not, and is told of, also to who reloads.  The
    service stays, also for longer than its watchdog would wait for one that hangs.
    """
    pid, begun = pid_of(service), time.monotonic()
    service.write(CONFIG, "[service]\nsettle_seconds = 1\n")
    service.run("systemctl", "reload", UNIT)
    assert said_later(service, "configuration reloaded")
    service.write(CONFIG, "[service]\nsetle_seconds = 2\n")
    assert service.run("systemctl", "reload", UNIT, check=False).returncode == 1
    journal = f'why="{CONFIG}:2: service.setle_seconds: no such key'
    assert said_later(service, journal), "the service itself says so"
    assert service.show(UNIT, "ReloadResult")["ReloadResult"] == "exit-code"
    service.run("rm", CONFIG)
    time.sleep(max(0.0, begun + 2.5 - time.monotonic()))
    service.wait(UNIT, ActiveState="active", SubState="running", MainPID=pid, NRestarts="0")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        pytest.param("KILL", "code=killed, status=9/KILL", id="killed"),
        pytest.param("STOP", "Watchdog timeout", id="hanging"),
    ],
)
def test_it_is_started_again(service: Machine, number: str, said: str) -> None:
    pid, again = pid_of(service), str(restarts_of(service) + 1)
    service.run("kill", f"-{number}", pid)
    service.wait(UNIT, 20, ActiveState="active", SubState="running", NRestarts=again)
    assert pid_of(service) != pid
    assert said in service.journal(UNIT)


def test_the_unit_goes_on_when_a_worker_is_killed_for_memory(service: Machine) -> None:
    assert service.show(UNIT, "OOMPolicy")["OOMPolicy"] == "continue"


def test_stop(service: Machine) -> None:
    begun = time.monotonic()
    service.run("systemctl", "stop", UNIT)
    assert time.monotonic() - begun < 45, "TimeoutStopSec is 60"
    shown = service.show(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert service.run("test", "-e", "/run/permdoctor", check=False).returncode == 1
    assert service.run("stat", "-c", "%a", "/var/lib/permdoctor").stdout == "700\n"


def test_a_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    machine.write(CONFIG, "[service]\nsetle_seconds = 2\n")
    try:
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        machine.wait(UNIT, ActiveState="failed", ExecMainStatus="2", NRestarts="0")
        assert f"{CONFIG}:2: service.setle_seconds: no such key" in machine.journal(UNIT)
    finally:
        machine.run("systemctl", "stop", UNIT)
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
