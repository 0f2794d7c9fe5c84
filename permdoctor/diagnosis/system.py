"""Paths that belong to the host itself: no remedy gives them, or a part of them, to a container.

What helps there is to mount less.
"""

from __future__ import annotations

from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import path_argument
from permdoctor.kernel.mountinfo import is_beneath

EXACT = frozenset(
    {
        b"/", b"/home", b"/root", b"/opt", b"/run", b"/srv", b"/mnt", b"/media", b"/tmp", b"/usr",
        b"/usr/local", b"/var", b"/var/lib", b"/var/log", b"/var/tmp", b"/var/run", b"/var/cache",
        b"/var/spool",
    }
)  # fmt: skip
TREES = (
    b"/etc", b"/boot", b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/dev",
    b"/sys", b"/proc", b"/usr/bin", b"/usr/sbin", b"/usr/lib", b"/usr/lib32", b"/usr/lib64",
    b"/usr/libexec", b"/usr/share", b"/usr/include", b"/usr/src", b"/usr/local/bin",
    b"/usr/local/sbin", b"/usr/local/lib", b"/var/spool/cron", b"/var/lib/systemd",
    b"/var/lib/dpkg", b"/var/lib/apt", b"/var/lib/rpm",
)  # fmt: skip
ENGINES = (b"/var/lib/docker", b"/var/lib/containers", b"/var/lib/containerd")


def is_system(path: bytes | None, data_root: bytes = b"") -> bool:
    """Whether a host path is the system's own, or an engine's (its volumes are the users')."""
    if path is None:
        return False
    for root in (*ENGINES, data_root):
        if root and is_beneath(path, root):
            parts = path[len(root) :].strip(b"/").split(b"/")
            return not (b"volumes" in parts[:3] and b"_data" in parts)
    return path in EXACT or any(is_beneath(path, t) for t in TREES)


def narrow_mount(host: bytes, target: bytes) -> Remedy:
    """The remedy that is left for such a path."""
    source, place = host.rstrip(b"/"), target.rstrip(b"/")
    return Remedy(
        name="narrow-mount",
        title="Mount only the directory that is needed; this one is the host's own",
        commands=(
            f"docker run -v {path_argument(source + b'/DIRECTORY')}:"
            f"{path_argument(place + b'/DIRECTORY')}:ro ...",
        ),
        where="container",
        why="its owners and modes are what keeps the host's users apart",
    )
