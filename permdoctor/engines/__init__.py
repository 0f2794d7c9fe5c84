"""Who runs containers.  Read-only but for one thing: a container can be paused and resumed, which
changes no file.

``endpoints.py`` finds the engines, ``docker.py`` asks one (Docker, and Podman's compatible
socket), ``process.py`` makes a container of any process without an engine.  ``transport.py`` is
the wire, ``archive.py`` files of containers that do not run, ``pausing.py`` the one command.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from permdoctor.container.container import Container, EngineInfo, RequestedMount, State
from permdoctor.errors import CannotCheckError, UsageError

if TYPE_CHECKING:
    from permdoctor.engines.archive import ImageInode


class Summary(Struct, frozen=True, kw_only=True):
    """A container as a list shows it.  ``mounts`` are its binds and volumes only."""

    id: str
    name: str
    image: str = ""
    state: State = State.UNKNOWN
    mounts: tuple[RequestedMount, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


class NoSuchContainerError(UsageError):
    """The name fits no container of this engine, or several.  Another engine may know it."""


class ContainerGoneError(CannotCheckError):
    """It was there, and was removed while it was looked at."""


class OwnerUnknownError(CannotCheckError):
    """The engine has no true answer to who owns a file of a container that does not run."""


class Engine(Protocol):
    """What ``app/`` asks of an engine.  Every call may raise ``CannotCheckError``."""

    @property
    def info(self) -> EngineInfo: ...

    def find(self, name: str) -> Container:
        """By exact name, id, or unique beginning of an id."""
        ...

    def list(self, *, every: bool = False) -> tuple[Summary, ...]:
        """The running containers, or every one."""
        ...

    def inspect(self, container_id: str) -> Container: ...

    def containers_using(
        self, sources: Collection[bytes], *, max_age: float = 0.0
    ) -> tuple[Summary, ...]:
        """Every container that mounts one of these host paths, or a place above or below one.  A
        list that was made ``max_age`` seconds ago will do.
        """
        ...

    def image_file(self, container: Container, path: bytes, limit: int) -> bytes | None:
        """The first ``limit`` bytes of a regular file, symlinks followed; ``None``: no such."""
        ...

    def image_inode(self, container: Container, path: bytes) -> ImageInode | None:
        """Owner and mode of the object itself, a symlink not followed; ``None``: no such.

        Raises :class:`OwnerUnknownError` where the engine does not tell (Podman).
        """
        ...

    def pause(self, container_id: str) -> bool:
        """Freeze all its processes (freezer cgroup).  False: it was paused, or does not run."""
        ...

    def unpause(self, container_id: str) -> bool:
        """Let it go on.  False: it is gone, or was not paused."""
        ...

    def close(self) -> None: ...
