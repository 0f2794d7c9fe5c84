"""Podman behind its Docker-compatible socket, beside any other: ``podman system service``.

There is no daemon: every container has a conmon, which outlives the service.  Everything that it
would keep in /run and /var/lib is in the mount namespace of the service, and goes with it.  Its
containers are made with the docker command.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.engine import Engine
from tests.lab.needs import need_root, need_tools

_CONFIG = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
stop_timeout = 0
"""
"""Limits that root may set without CAP_SYS_RESOURCE (the hard one and the soft one alike: Podman 4
takes one for the other); no systemd; crun of Debian 12 does not know hybrid cgroups.
"""


def start_podman(base: Path, tarball: Path) -> Engine:
    """A rootful service with ``base`` for everything that it owns."""
    need_root()
    need_tools("podman", "conmon", "runc", "docker", "busybox", "unshare", "setpriv")
    base.mkdir(mode=0o755)
    engine = Engine(base, tarball)
    (base / "containers.conf").write_text(_CONFIG)
    setup = "mkdir -p /var/lib/containers\n"
    setup += "mount -t tmpfs tmpfs /var/lib/containers\nmount -t tmpfs tmpfs /run\n"
    setup += f"export CONTAINERS_CONF={base / 'containers.conf'}\n"
    own = (("root", "data"), ("runroot", "run"), ("tmpdir", "tmp"))
    flags = [f"--{flag}={base / name}" for flag, name in own]
    engine.start(setup, ["podman", *flags, "system", "service", "--time=0", engine.host])
    return engine
