"""Two processes that stand for containers: of one the mount refuses it everything, of the other
nothing is to be said.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.lab import Lab
from tests.lab.needs import need_tools

UID = 51001
REFUSED = "PD101"


@dataclass(frozen=True)
class Actor:
    """A process with a mount of its own; ``mounts`` as inspect shows it."""

    pid: int
    source: Path

    @property
    def mounts(self) -> list[dict[str, Any]]:
        return [
            {
                "Type": "bind",
                "Source": str(self.source),
                "Destination": "/data",
                "RW": True,
                "Mode": "",
            }
        ]


@contextmanager
def actor(lab: Lab, owner: int, source: Path | None = None) -> Iterator[Actor]:
    """A process of ``UID`` with a writable mount that belongs to ``owner``, or of ``source``."""
    need_tools("busybox", "unshare")
    source, root = source or lab.directory(owner, owner), lab.directory()
    (root / "data").mkdir()
    shutil.copy(shutil.which("busybox") or "", root / "busybox")
    script = (
        f"mount --bind {root} {root} && mount --bind {source} {root}/data && "
        f"exec chroot --userspec={UID}:{UID} --groups={UID} {root} /busybox sleep 3600"
    )
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    process = subprocess.Popen(argv)
    try:
        while b"sleep\0" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            assert process.poll() is None
            time.sleep(0.01)
        yield Actor(process.pid, source)
    finally:
        process.kill()
        process.wait()


@contextmanager
def cast(lab: Lab) -> Iterator[tuple[Actor, Actor]]:
    """(refused, well)."""
    with actor(lab, 0) as refused, actor(lab, UID) as well:
        yield refused, well
