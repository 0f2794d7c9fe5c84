"""A container and its engine, as inspect and info describe them.

``inspect.container_from_inspect`` parses at the edge; past it there are only these types.  Paths
are bytes.  What a running process really is or sees comes from /proc, not from here.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class MountKind(StrEnum):
    """How a mount was asked for (``Mounts[].Type``, ``HostConfig.Tmpfs``, ``.Devices``)."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    DEVICE = "device"
    OTHER = "other"


class RequestedMount(Struct, frozen=True, kw_only=True):
    """A mount as configured.  ``source`` is the host path as the engine names it: a symlink
    unresolved, a volume's ``_data`` (for a device the host's node); ``None`` for tmpfs.
    ``volume`` is a named volume's name, ``subpath`` its volume-subpath, ``mode`` the raw option
    string (``ro,z``), ``nonrecursive`` is bind-nonrecursive.
    """

    kind: MountKind
    target: bytes
    source: bytes | None = None
    read_only: bool = False
    volume: str | None = None
    subpath: bytes | None = None
    mode: str = ""
    nonrecursive: bool = False


class State(StrEnum):
    """``State.Status``; UNKNOWN for a word this version does not know."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"
    UNKNOWN = "unknown"


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What the engine says of itself.

    ``endpoint`` as a person would write it (``unix:///var/run/docker.sock``).  ``remapped_root``
    is the (uid, gid) tail of DockerRootDir under userns-remap, ``None`` otherwise.  ``rootless``
    with ``rootless_uid`` the host uid the daemon runs as (``None`` where not known).  ``pid`` and
    ``uid`` are the host's of the process that listens, as the kernel says (``None``: TCP), ``id``
    is what it calls itself.
    ``bind_idmap`` says whether it can idmap a bind (API >= 1.56).
    """

    endpoint: str
    product: str = "docker"
    version: str = ""
    api_version: str = ""
    data_root: bytes = b""
    remapped_root: tuple[int, int] | None = None
    rootless: bool = False
    rootless_uid: int | None = None
    pid: int | None = None
    uid: int | None = None
    id: str = ""
    selinux: bool = False
    bind_idmap: bool = False

    @property
    def identity(self) -> tuple[str, int | None] | None:
        """Equal where two endpoints lead to one engine; ``None``: it does not say which it is."""
        return (self.id, self.pid) if self.id else None

    @property
    def by_root(self) -> bool:
        """Whether root decides what its containers are called; whatever it says of itself."""
        return self.uid == 0 and not self.rootless

    @property
    def userns_remap(self) -> bool:
        return self.remapped_root is not None


class Container(Struct, frozen=True, kw_only=True):
    """One container's configuration and state.

    ``pid`` is the host's pid of its first process, ``None`` when it does not run.  ``user`` is
    the effective ``Config.User`` (the image's USER where nothing overrides it); ``caps_added``
    and ``caps_dropped`` are without the ``CAP_`` prefix, upper case.  ``userns_mode`` is
    HostConfig.UsernsMode.  ``error`` is State.Error.  ``exec_pids`` are the host pids of running
    ``docker exec`` sessions.  ``started`` is State.StartedAt: when the present run began, in the
    engine's words.
    """

    engine: EngineInfo
    id: str
    name: str
    image: str = ""
    state: State = State.RUNNING
    pid: int | None = None
    exit_code: int | None = None
    error: str = ""
    restart_count: int = 0
    user: str = ""
    group_add: tuple[str, ...] = ()
    caps_added: tuple[str, ...] = ()
    caps_dropped: tuple[str, ...] = ()
    privileged: bool = False
    userns_mode: str = ""
    read_only_rootfs: bool = False
    env: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    mounts: tuple[RequestedMount, ...] = ()
    exec_pids: tuple[int, ...] = ()
    started: str = ""

    @property
    def running(self) -> bool:
        return self.pid is not None and self.state in (
            State.RUNNING,
            State.PAUSED,
        )

    def env_value(self, name: str) -> str | None:
        """The last value of an environment variable (later ones win, as in execve)."""
        return next((v for k, v in reversed(self.env) if k == name), None)

    def label(self, name: str) -> str | None:
        return next((v for k, v in self.labels if k == name), None)


ENGINE_SOCKETS = (b"docker.sock", b"podman.sock", b"containerd.sock", b"crio.sock")


def is_engine_socket(path: bytes) -> bool:
    """Whether a path is called like the control socket of a container engine."""
    return path.rsplit(b"/", 1)[-1] in ENGINE_SOCKETS
