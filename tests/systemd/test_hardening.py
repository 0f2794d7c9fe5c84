"""The hardened units do their work, and can do no more.  On a really booted systemd."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from permdoctor.kernel.caps import Cap
from tests.systemd.machine import PROGRAM, Machine

ONCE = """\
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
StandardOutput=truncate:/run/out
StandardError=truncate:/run/err
ExecStart=
ExecStart={command}
"""
TEST = "/etc/systemd/system/permdoctor.service.d/90-test.conf"
OBSERVER = Cap.SYS_PTRACE | Cap.DAC_READ_SEARCH
REPAIRER = OBSERVER | Cap.CHOWN | Cap.FOWNER | Cap.FSETID | Cap.DAC_OVERRIDE | Cap.SETFCAP


def run_in_unit(machine: Machine, command: str) -> tuple[int, str, str]:
    """The command in the place of the service: with its rights, mounts and filters."""
    machine.write(TEST, ONCE.format(command=command))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", "permdoctor.service", check=False)
    machine.run("systemctl", "start", "permdoctor.service", check=False)
    status = machine.show("permdoctor.service", "ExecMainStatus")["ExecMainStatus"]
    out, err = (machine.run("cat", f"/run/{n}").stdout for n in ("out", "err"))
    machine.run("rm", TEST)
    return int(status), out, err


@contextlib.contextmanager
def container(machine: Machine, source: str, uid: int) -> Iterator[int]:
    """A process in a mount namespace of its own, with ``source`` mounted at /mnt.  Its pid within
    the machine.
    """
    script = (
        f"mount --bind {source} /mnt && "
        f"exec setpriv --reuid {uid} --regid {uid} --clear-groups sleep 600"
    )
    machine.run(
        *("systemd-run", "--unit=box", "-p", "ProtectProc=default", "--quiet"),
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", script),
    )
    try:
        machine.wait("box.service", ActiveState="active")
        pid = int(machine.show("box.service", "MainPID")["MainPID"])
        for _ in range(100):
            if machine.run("cat", f"/proc/{pid}/comm").stdout == "sleep\n":
                break
        yield pid
    finally:
        machine.run("systemctl", "stop", "box.service")


@pytest.fixture
def configured(machine: Machine) -> Iterator[Any]:
    """Call it with a configuration: it holds, with its drop-in, for one test."""

    def configure(text: str) -> None:
        machine.write("/etc/permdoctor/config.toml", text)
        machine.permdoctor("systemd", "drop-in", "--write")

    yield configure
    machine.run("rm", "-rf", "/etc/permdoctor/config.toml", os.path.dirname(TEST))
    machine.run("systemctl", "daemon-reload")


def directory(machine: Machine, path: str, owner: int = 0, mode: str = "0755") -> str:
    machine.run("mkdir", "-p", path)
    machine.run("chown", f"{owner}:{owner}", path)
    machine.run("chmod", mode, path)
    return path


@pytest.mark.parametrize(
    ("parent", "source"),
    [
        pytest.param("/srv", "/srv/models", id="read-only for the service"),
        pytest.param("/home", "/home/alice/models", id="in a home", marks=pytest.mark.slow),
        pytest.param("/var/tmp", "/var/tmp/models", id="hidden from the service"),
        pytest.param(
            "/srv/secret",
            "/srv/secret/models",
            id="below what root may not search",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_service_finds_what_is_refused(machine: Machine, parent: str, source: str) -> None:
    """And what it says is what root without any hardening says."""
    directory(machine, source)
    if parent == "/srv/secret":
        directory(machine, parent, owner=4711, mode="0700")
    with container(machine, source, 1001) as pid:
        command = f"{PROGRAM} check --pid {pid} --format json"
        status, out, err = run_in_unit(machine, command)
        plain = machine.run(*command.split(), check=False)
    assert (status, err) == (1, plain.stderr)
    found = about(out, "/mnt")
    assert found == about(plain.stdout, "/mnt")
    [mount] = found["mounts"]
    assert (mount["host_path"], mount["read_only"]) == (source, False)
    assert "PD101" in {f["code"] for f in found["findings"]}


def about(text: str, target: str) -> Any:
    """What a report says of one mount, and whether anything could not be read."""
    [report] = json.loads(text)["reports"]
    return {
        "subjects": report["subjects"],
        "mounts": [m for m in report["mounts"] if m["target"] == target],
        "findings": [f for f in report["findings"] if f["target"] == target],
        "skipped": report["skipped"],
    }


def test_the_unit_of_the_timer_finds_it_too(machine: Machine) -> None:
    directory(machine, "/srv/models")
    with container(machine, "/srv/models", 1001) as pid:
        machine.write(
            "/etc/systemd/system/permdoctor-check.service.d/90-test.conf",
            f"[Service]\nExecStart=\nExecStart={PROGRAM} check --pid {pid}\n",
        )
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "permdoctor-check.service", check=False)
    shown = machine.show("permdoctor-check.service", "Result", "ExecMainStatus")
    assert shown == {"Result": "exit-code", "ExecMainStatus": "1"}
    assert "error PD101" in machine.journal("permdoctor-check.service")


STATUS = "/bin/cat /proc/self/status"


def test_the_observer_can_only_read(machine: Machine) -> None:
    _, out, _ = run_in_unit(machine, STATUS)
    status = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert int(status["CapBnd"], 16) == int(OBSERVER)
    assert int(status["CapEff"], 16) == int(OBSERVER)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


DENIED = "Operation not permitted"
READ_ONLY = "Read-only file system"
CALLS = {
    "write on the host": ("open('/srv/x', 'w')", READ_ONLY),
    "write in a home": ("open('/root/x', 'w')", READ_ONLY),
    "set a sysctl": ("open('/proc/sys/kernel/domainname', 'w')", READ_ONLY),
    "chown": ("os.chown('/srv/models', 1, 1)", DENIED),
    "chown around its mounts": ("os.chown('/proc/1/root/srv/models', 1, 1)", DENIED),
    "chmod around its mounts": ("os.chmod('/proc/1/root/srv/others', 0)", DENIED),
    "write around its mounts": ("open('/proc/1/root/srv/others/x', 'w')", "Permission denied"),
    "be another user": ("os.setuid(1)", DENIED),
    "change its root": ("os.chroot('/srv')", DENIED),
    "make a device": ("os.mknod('/run/permdoctor/x', 0o060600, 1)", DENIED),
    "write its state": ("open('/var/lib/permdoctor/x', 'w')", "done"),
    "write beside its socket": ("open('/run/permdoctor/x', 'w')", "done"),
}
TRY = """\
import os
for call in {calls!r}:
    if not os.fork():
        try:
            exec(call)
            said = "done"
        except OSError as e:
            said = e.strerror
        os.write(1, (said + "\\n").encode())
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def answers(machine: Machine) -> dict[str, str]:
    """What comes of the calls in the place of the service."""
    directory(machine, "/srv/models")
    directory(machine, "/srv/others", owner=4711)
    machine.write("/opt/try.py", TRY.format(calls=[call for call, _ in CALLS.values()]))
    status, out, err = run_in_unit(machine, "/opt/permdoctor/bin/python /opt/try.py")
    assert (status, err) == (0, "")
    return dict(zip(CALLS, out.splitlines(), strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_what_the_observer_is_refused(answers: dict[str, str], name: str) -> None:
    assert answers[name] == CALLS[name][1]


REPAIR = '[repair]\nroots = ["/srv/models"]\n'


def test_repair_where_the_drop_in_allows_it(machine: Machine, configured: Any) -> None:
    directory(machine, "/srv/models")
    machine.write("/srv/models/weights", "x")
    configured(REPAIR)
    fix = f"{PROGRAM} fix --path /srv/models --to 1001:1001 --apply --yes"
    status, out, err = run_in_unit(machine, fix)
    assert (status, err) == (0, ""), out
    owners = machine.run("stat", "-c", "%u:%g", "/srv/models", "/srv/models/weights").stdout
    assert owners.split() == ["1001:1001", "1001:1001"]
    history = machine.permdoctor("history").stdout
    assert "/srv/models" in history


def test_no_repair_elsewhere(machine: Machine, configured: Any) -> None:
    """The mounts refuse what the configuration of one command would allow."""
    directory(machine, "/srv/others")
    configured(REPAIR)
    fix = f"{PROGRAM} fix --path /srv/others --to 1001:1001 --apply --yes"
    status, out, err = run_in_unit(machine, fix)
    assert status != 0
    assert "Read-only file system" in out + err
    assert machine.run("stat", "-c", "%u", "/srv/others").stdout == "0\n"


def test_the_drop_in_gives_what_repair_needs_and_no_more(machine: Machine, configured: Any) -> None:
    configured(REPAIR)
    _, out, _ = run_in_unit(machine, STATUS)
    status = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(REPAIRER)


def test_the_group_of_the_status_socket(machine: Machine, configured: Any) -> None:
    configured('[service]\nsocket_group = "adm"\n')
    _, out, _ = run_in_unit(machine, "/usr/bin/id -gn")
    assert out == "adm\n"
