"""Real filesystems in sparse image files: ``with mounted_fs("xfs") as path: ...``.

Mounted in the caller's mount namespace; the image, the loop device and the mount are gone
afterwards.  The root directory belongs to root and is 0755.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator

from tests.lab.needs import MissingError, need_root, need_tools

MIB = 1 << 20
KINDS = ("tmpfs", "ext4", "xfs", "btrfs")
_SMALLEST = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}
_MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
    "btrfs": ("mkfs.btrfs", "-q", "-f", "-K"),
}


@contextlib.contextmanager
def mounted_fs(
    kind: str, size: int = 0, *, options: str = "", parent: str | None = None
) -> Iterator[str]:
    """A fresh filesystem of ``kind``, of at least ``size`` bytes; yields its mountpoint.

    ``options`` go to mount(8).  ``parent`` is the directory it is made in (default: the
    temporary directory).
    """
    need_root()
    if kind not in KINDS:
        raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix=f"fs-{kind}-", dir=parent) as base:
        os.chmod(base, 0o755)
        path = os.path.join(base, "mnt")
        os.mkdir(path)
        _mount(kind, size, options, os.path.join(base, "img"), path)
        try:
            os.chmod(path, 0o755)
            yield path
        finally:
            unmount(path)


def _mount(kind: str, size: int, options: str, image: str, path: str) -> None:
    if kind == "tmpfs":
        given = ",".join(o for o in (f"size={size or 256 * MIB}", options) if o)
        _run("mount", "-t", "tmpfs", "-o", given, "tmpfs", path)
        return
    need_tools(_MKFS[kind][0])
    with open(image, "wb") as f:
        f.truncate(max(size, _SMALLEST[kind]))
    _run(*_MKFS[kind], image)
    given = ",".join(o for o in ("loop", options) if o)
    _run("mount", "-t", kind, "-o", given, image, path)


def unmount(path: str) -> None:
    """Unmount ``path``; detached at once where somebody still uses it."""
    done = subprocess.run(["umount", path], capture_output=True)
    if done.returncode != 0:
        subprocess.run(["umount", "-l", path], check=True)


def _run(*argv: str) -> None:
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        raise MissingError(f"{argv[0]}: {done.stderr.strip()}")
