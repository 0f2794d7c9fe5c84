"""A Docker Engine, or Podman's compatible socket, asked through the Engine API.  Read-only but for
pause and unpause, which change no file.

The API version is the engine's own, learnt from ``/_ping``; none is ever pinned.  One container
costs three requests: ``/_ping``, ``/info`` (slow in the daemon, so it is under way while the next
is asked) and the container itself.  docker-py is imported for TCP endpoints only: see
``transport.py``.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import Any, Final

from msgspec.structs import replace

from permdoctor.container.container import Container, EngineInfo, MountKind, RequestedMount
from permdoctor.container.inspect import (
    absolute_path,
    container_from_inspect,
    engine_from_info,
    number_of,
    text_of,
    version_tuple,
)
from permdoctor.engines import (
    NoSuchContainerError,
    OwnerUnknownError,
    Summary,
)
from permdoctor.engines.archive import ImageInode, read_member
from permdoctor.engines.endpoints import Endpoint
from permdoctor.engines.listing import (
    MAYBE_REFUSED,
    MOST_REFUSED,
    start_error,
    summary,
    touches,
)
from permdoctor.engines.names import ambiguous, gone, unknown
from permdoctor.engines.pausing import switch
from permdoctor.engines.refusals import no_engine, require_this_kernel
from permdoctor.engines.transport import (
    TIMEOUT,
    AnsweredError,
    Peer,
    Response,
    Transport,
    UnixTransport,
    answered,
    quoted,
    read_json,
    segment,
)
from permdoctor.kernel.inode import FileType

_NAME: Final = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_MAX_EXECS: Final = 64
_MAX_LINKS: Final = 8
_NO_SUCH_PATH: Final = ("not a directory", "too many links", "file name too long")
"""Errors of a path's lookup that an engine gives as 500."""


class DockerEngine:
    """One engine.  Nothing is asked before the first question."""

    def __init__(self, endpoint: Endpoint, transport: Transport | None = None) -> None:
        self.endpoint = endpoint
        self._transport = transport or transport_to(endpoint)
        self._info: Response | None = None
        self._listed: tuple[float, tuple[Summary, ...]] = (float("-inf"), ())

    # -- the engine ------------------------------------------------------------------------

    @cached_property
    def api_version(self) -> str:
        """The newest version that the engine speaks, as ``/_ping`` says."""
        response = self._transport.get("/_ping")
        try:
            version = response.headers.get("api-version", "")
            if response.status != 200 or version_tuple(version) == (0, 0):
                raise no_engine(self.endpoint.url, response)
        finally:
            response.close()
        return version

    @cached_property
    def info(self) -> EngineInfo:
        """What the engine says of itself.

        Raises :class:`EngineError` if its containers run on another kernel (a virtual machine, a
        forwarded socket): /proc here would tell about other processes.
        """
        pending = self._info or self._ask("/info")
        self._info = None
        facts = read_json(pending, self.endpoint.url)
        require_this_kernel(self.endpoint.url, facts)
        peer = self.peer
        info = engine_from_info(
            facts,
            {"ApiVersion": self.api_version},
            self.endpoint.url,
            rootless_uid=peer.uid if peer else None,
        )
        return replace(info, pid=peer.pid, uid=peer.uid) if peer else info

    @property
    def peer(self) -> Peer | None:
        """The process behind a Unix socket, once something was asked; ``None`` for TCP.

        For a rootless engine its uid is the user's, and its user namespace is its containers'.
        Under socket activation it is the service manager.
        """
        return self._transport.peer if isinstance(self._transport, UnixTransport) else None

    def close(self) -> None:
        if self._info is not None:
            self._info.close()
        self._transport.close()

    # -- containers ------------------------------------------------------------------------

    def find(self, name: str) -> Container:
        """By exact name, id, or unique beginning of an id: in this order, as the engine does.

        Raises :class:`NoSuchContainerError` with names that are near, or the candidates.
        """
        if not _NAME.match(name):
            raise self._unknown(name)
        try:
            return self._container(name.removeprefix("/"))
        except AnsweredError as e:
            several = self._candidates(name)
            if len(several) > 1:
                raise ambiguous(name, several) from e
            if e.status == 404:
                raise self._unknown(name) from e
            raise

    def inspect(self, container_id: str) -> Container:
        """By full id.  Raises :class:`ContainerGoneError` if it is not there any more."""
        try:
            return self._container(container_id)
        except AnsweredError as e:
            raise gone(container_id, e) from e

    def list(self, *, every: bool = False) -> tuple[Summary, ...]:
        """The running containers, or every one, sorted by name."""
        found = self._json(f"/containers/json?all={int(every)}")
        rows = found if isinstance(found, list) else ()
        summaries = (summary(c) for c in rows if isinstance(c, dict))
        return tuple(sorted(summaries, key=lambda s: s.name))

    def refused(
        self, matters: Callable[[str], bool] = bool, known: Collection[str] = ()
    ) -> tuple[Summary, ...]:
        """Those that the engine could not start when it was to do so last, with an error that
        ``matters``.  Of very many, ``known`` ids and the newest are asked about.  Podman does not
        tell.
        """
        rows = self._json(f"/containers/json?all=1&filters={quoted(MAYBE_REFUSED)}")
        made = [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []
        made.sort(key=lambda row: text_of(row.get("Id")) not in known)
        asked = ((row, start_error(self._looked_at(row))) for row in made[:MOST_REFUSED])
        return tuple(summary(row) for row, error in asked if error and matters(error))

    def started(self, container_id: str) -> str:
        """When its present run began, in the engine's words; empty where it does not run."""
        try:
            obj = self._json(f"/containers/{segment(container_id)}/json")
        except AnsweredError as e:
            if e.status == 404:
                return ""
            raise
        state = obj.get("State") if isinstance(obj, dict) else None
        if not isinstance(state, dict) or state.get("Running") is not True:
            return ""
        return text_of(state.get("StartedAt"))

    def containers_using(
        self, sources: Collection[bytes], *, max_age: float = 0.0
    ) -> tuple[Summary, ...]:
        """Every container that mounts one of these host paths, or a place above or below one.

        ``mounts`` of the answer are only those that do.  ``max_age``: a list that was made so many
        seconds ago will do.
        """
        found = []
        if time.monotonic() - self._listed[0] >= max_age:
            self._listed = (time.monotonic(), self.list(every=True))
        for one in self._listed[1]:
            touching = tuple(m for m in one.mounts if touches(m, sources))
            if touching:
                found.append(replace(one, mounts=touching))
        return tuple(found)

    # -- pausing ---------------------------------------------------------------------------

    def pause(self, container_id: str) -> bool:
        return switch(self._transport, self.api_version, self.endpoint.url, container_id, "pause")

    def unpause(self, container_id: str) -> bool:
        return switch(self._transport, self.api_version, self.endpoint.url, container_id, "unpause")

    # -- files of a container that need not run --------------------------------------------

    def image_file(self, container: Container, path: bytes, limit: int) -> bytes | None:
        """The first ``limit`` bytes of a regular file, symlinks followed; ``None``: no such."""
        for _ in range(_MAX_LINKS):
            found = self._archive(container, path, limit)
            if found is None:
                return None
            inode, content = found
            if inode.type is not FileType.SYMLINK:
                return content if inode.type is FileType.REGULAR else None
            base = b"" if inode.target.startswith(b"/") else path.rpartition(b"/")[0]
            path = base + b"/" + inode.target
        return None

    def image_inode(self, container: Container, path: bytes) -> ImageInode | None:
        """Owner and mode of the object itself, a symlink not followed; ``None``: no such.

        Raises :class:`OwnerUnknownError` for Podman: its archives belong to the container's user.
        """
        if self.info.product == "podman":
            raise OwnerUnknownError(
                "Podman does not tell who owns the files of a container that does not run",
                hint="start it and check again",
            )
        found = self._archive(container, path, 0)
        return None if found is None else found[0]

    def _archive(
        self, container: Container, path: bytes, limit: int
    ) -> tuple[ImageInode, bytes] | None:
        target = f"/containers/{segment(container.id)}/archive?path={quoted(path)}"
        response = self._ask(target)
        try:
            if response.status == 200:
                return read_member(response, limit)
            error = answered(response.status, response.read(4096), self.endpoint.url)
        finally:
            response.close()
        if error.status == 404 and "no such container" in error.message.lower():
            raise gone(container.id, error)
        if error.status in (400, 404) or any(w in error.message for w in _NO_SUCH_PATH):
            return None
        raise error

    # -- questions and answers -------------------------------------------------------------

    def _ask(self, target: str) -> Response:
        return self._transport.get(f"/v{self.api_version}{target}")

    def _json(self, target: str) -> Any:
        return read_json(self._ask(target), self.endpoint.url)

    def _container(self, name: str) -> Container:
        if "info" not in self.__dict__ and self._info is None:
            self._info = self._ask("/info")
        obj = self._json(f"/containers/{segment(name)}/json")
        container = container_from_inspect(obj, self.info)
        if container.running:
            execs = obj.get("ExecIDs")
            found = self._exec_pids(execs) if isinstance(execs, list) else ()
            return replace(container, exec_pids=found) if found else container
        return replace(container, mounts=tuple(self._resolved(m) for m in container.mounts))

    def _looked_at(self, row: dict[str, Any]) -> Any:
        """Of a row of a list; ``None``: it is gone."""
        with contextlib.suppress(AnsweredError):
            return self._json(f"/containers/{segment(text_of(row.get('Id')))}/json")
        return None

    def _exec_pids(self, ids: Iterable[object]) -> tuple[int, ...]:
        pids = []
        for exec_id in [text_of(i) for i in ids if isinstance(i, str)][:_MAX_EXECS]:
            try:
                session = self._json(f"/exec/{segment(exec_id)}/json")
            except AnsweredError:
                continue  # it has ended
            if not isinstance(session, dict):
                continue
            pid = number_of(session.get("Pid")) if session.get("Running") is True else None
            if pid is not None and pid > 0:
                pids.append(pid)
        return tuple(pids)

    def _resolved(self, mount: RequestedMount) -> RequestedMount:
        """A local volume made with ``o=bind`` is really its ``device``, once it is mounted."""
        if mount.kind is not MountKind.VOLUME or not mount.volume:
            return mount
        try:
            volume = self._json(f"/volumes/{segment(mount.volume)}")
        except AnsweredError:
            return mount
        options = volume.get("Options") if isinstance(volume, dict) else None
        if not isinstance(options, dict):
            return mount
        flags = str(options.get("o", "")).split(",")
        source = absolute_path(options.get("device"))
        return replace(mount, source=source) if source and {"bind", "rbind"} & set(flags) else mount

    # -- what went wrong -------------------------------------------------------------------

    def _unknown(self, name: str) -> NoSuchContainerError:
        return unknown(self.endpoint.url, name, [s.name for s in self.list(every=True)])

    def _candidates(self, name: str) -> tuple[str, ...]:
        """Names of the containers whose id begins with ``name``."""
        return tuple(s.name or s.id[:12] for s in self.list(every=True) if s.id.startswith(name))


def transport_to(endpoint: Endpoint, seconds: float = TIMEOUT) -> Transport:
    """``seconds`` is how long an answer may take.  Raises ``EngineError`` for TLS files that are
    none.
    """
    path = endpoint.socket_path
    if path is not None:
        return UnixTransport(path, seconds)
    from permdoctor.engines.tcp import TcpTransport

    return TcpTransport(endpoint, seconds)
