"""Debian's own docker.service within the booted machine, beside any engine of this one.

systemd-nspawn mounts the control groups read-only; dockerd makes some, so they are mounted again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.lab.image import build
from tests.lab.needs import MissingError, need_tools
from tests.systemd.machine import Machine

DROP_IN = """\
[Unit]
Wants=
After=
[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd -H unix:///run/docker.sock --data-root /srv/docker \
--bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
--userland-proxy=false --shutdown-timeout=1
LimitNOFILE=
LimitNPROC=
LimitCORE=
"""
CGROUPS = "for g in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $g; done; true"


class Docker:
    """The command, within."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __call__(self, *words: str) -> str:
        return self._machine.run("docker", *words).stdout

    def run(self, name: str, *options: str) -> None:
        """A container that sleeps, as 51001: nobody here."""
        self("run", "-d", "--name", name, "--network=none", "--user=51001", *options, "lab")


@contextlib.contextmanager
def docker(machine: Machine) -> Iterator[Docker]:
    """Started, with the lab's image; raises ``MissingError`` where it does not start here."""
    need_tools("dockerd", "docker")
    machine.run("sh", "-c", f"({CGROUPS}) 2>/dev/null")
    machine.write("/etc/systemd/system/docker.service.d/90-test.conf", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    if machine.run("systemctl", "start", "docker.service", check=False).returncode:
        raise MissingError(f"dockerd does not start in nspawn here: {machine.journal('docker')}")
    command = Docker(machine)
    try:
        machine.write("/srv/image.tar", "")
        build(Path(f"/proc/{machine.pid}/root/srv/image.tar"))
        lines = ("ENV PATH=/bin", 'CMD ["sleep","600"]')
        changes = (w for line in lines for w in ("--change", line))
        command("import", *changes, "/srv/image.tar", "lab")
        yield command
    finally:
        boxes = command("ps", "-aq").split()
        if boxes:
            command("rm", "-f", *boxes)
        machine.run("systemctl", "stop", "docker.socket", "docker.service")
