"""What a piece of the lab needs, and what to install where it is missing."""

from __future__ import annotations

import os
import shutil

PACKAGES = {
    "busybox": "busybox-static",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "newuidmap": "uidmap",
    "rootlesskit": "rootlesskit",
    "slirp4netns": "slirp4netns",
    "setfacl": "acl",
    "chattr": "e2fsprogs",
    "bindfs": "bindfs",
    "conmon": "conmon",
    "podman": "podman",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}


class MissingError(Exception):
    """The machine cannot do this; the message says what it lacks and what would help."""


def need_root() -> None:
    if os.geteuid() != 0:
        raise MissingError("needs root")


def need_tools(*tools: str) -> None:
    """Every tool is on PATH, else :class:`MissingError` with the line that installs them."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    absent = [t for t in tools if shutil.which(t, path=path) is None]
    if absent:
        packages = " ".join(sorted({PACKAGES.get(t, t) for t in absent}))
        raise MissingError(f"needs {', '.join(absent)}: apt-get install {packages}")
