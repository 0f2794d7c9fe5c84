"""Any process as a container, without an engine: ``--pid PID``.

Works for every runtime; what only an engine knows (configuration, image, requested mounts) is
empty.  A container id is recognised in the cgroup path where there is one.
"""

from __future__ import annotations

import os
import re
from typing import Final

from permdoctor.container.container import Container, EngineInfo, State
from permdoctor.container.inspect import env_pairs
from permdoctor.errors import CannotCheckError, UsageError

_MAX_READ: Final = 1 << 20

_CGROUP_ID: Final = re.compile(
    rb"(?:^|[/:])(?:(docker|libpod|crio|cri-containerd)-)?([0-9a-f]{64})(?:\.scope)?(?=/|$)"
)
"""``docker-ID.scope`` and ``libpod-ID.scope`` (systemd), ``/docker/ID`` (cgroupfs),
``cri-containerd-ID.scope``, ``crio-ID.scope``, ``/kubepods/.../ID``.  The innermost counts.
"""


def container_of_process(pid: int) -> Container:
    """A running Container called ``pid N``; its ``id`` is the one in its cgroup path, if any.

    The environment is empty where it may not be read (it needs ptrace access).  Raises
    :class:`UsageError` if there is no such process.
    """
    if not 0 < pid < 1 << 22 or not os.path.isdir(f"/proc/{pid}"):
        raise UsageError(f"there is no process {pid}", hint="it has ended, or the pid is wrong")
    try:
        cgroup = _read(f"/proc/{pid}/cgroup")
        command = _read(f"/proc/{pid}/cmdline")
    except OSError as e:
        raise CannotCheckError(f"/proc/{pid}: {e.strerror}", hint="the process has ended") from e
    try:
        environ = _read(f"/proc/{pid}/environ")
    except OSError:
        environ = b""
    return Container(
        engine=EngineInfo(endpoint="", product="process"),
        id=cgroup_container_id(cgroup),
        name=f"pid {pid}",
        state=State.RUNNING,
        pid=pid,
        env=env_pairs(_texts(environ)),
        command=_texts(command),
    )


def cgroup_container_id(text: bytes) -> str:
    """The container id in ``/proc/PID/cgroup``: of the innermost container; empty if none."""
    for line in text.splitlines():
        path = line.split(b":", 2)[-1]
        found = _CGROUP_ID.findall(path)
        if found:
            return str(found[-1][1], "ascii")
    return ""


def _texts(nul_separated: bytes) -> tuple[str, ...]:
    parts = nul_separated.split(b"\0")
    return tuple(p.decode("utf-8", "surrogateescape") for p in parts if p)


def _read(path: str) -> bytes:
    """At most :data:`_MAX_READ` bytes: a process may make its environment as long as it likes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces, size = [], 0
        while size < _MAX_READ and (piece := os.read(fd, _MAX_READ - size)):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)
