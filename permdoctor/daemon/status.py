"""What the service answers on its unix socket, to root and to a group.  It changes nothing.

GET /v1/status, /v1/findings and /v1/check/NAME, as JSON: ``render/service_document.py``, and for a
check ``render/document.py``.  ``findings`` takes ``container`` (a glob), ``code`` and
``ignored=1``; ``check`` takes ``view`` (json, table, explain), ``verbose=1`` and ``width``.

Who asks is known from SO_PEERCRED, and is logged who wants a check.  Each user may ask so often,
and so many checks are made at once; one that does not come back keeps its place, not the client.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, cast

from permdoctor.alerts.pace import Bucket
from permdoctor.daemon import log, shown
from permdoctor.daemon.http import Answer, Peer, Request, Server
from permdoctor.daemon.listener import NotOurGroupError, identity, listen, unlink
from permdoctor.daemon.shown import Facts, Filter
from permdoctor.daemon.state import State
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.kernel.text import printable
from permdoctor.render import service_document as doc
from permdoctor.render.layout import one_line
from permdoctor.render.service_json import View, encode

__all__ = ["Facts", "StatusServer"]

CLIENTS: Final = 16
CHECKS: Final = 2
"""At once."""

QUESTIONS_A_MINUTE: Final = 300
CHECKS_A_MINUTE: Final = 30
"""Of each user."""

USERS: Final = 256
"""Whose questions are counted; the longest silent one is forgotten."""

CHECK_SECONDS: Final = 60.0
MAX_NAME: Final = 255
MAX_GLOB: Final = 255
WIDTHS: Final = range(20, 1001)
JSON: Final = "application/json"
CHECK: Final = "/v1/check/"


class StatusServer:
    """``group`` is a name or number; empty: root alone.  ``trouble``: the group could not be given
    the socket, and it is root's.

    ``state``, ``facts`` and ``check`` are called in threads of the server's.  ``check`` judges the
    container of a name or id as the service would, and returns what
    ``render.service_json.checked`` makes of the result; it raises ``PermdoctorError`` where it
    cannot.
    """

    def __init__(
        self,
        path: str,
        group: str,
        state: Callable[[], State],
        check: Callable[[str, View], bytes],
        facts: Callable[[], Facts],
        *,
        check_seconds: float = CHECK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._group = path, group
        self._state, self._check, self._facts = state, check, facts
        self._check_seconds = check_seconds
        self._places = threading.BoundedSemaphore(CHECKS)
        self._questions = _Quota(QUESTIONS_A_MINUTE, clock)
        self._checks = _Quota(CHECKS_A_MINUTE, clock)
        self._server: Server | None = None
        self._inode = (0, 0)
        self.trouble = ""

    def start(self) -> None:
        """Raises ``UsageError`` or ``CannotCheckError`` where the socket cannot be made."""
        listener = self._listen()
        self._inode = identity(self._path)
        self._server = Server(
            listener,
            self._respond,
            name="permdoctor-status",
            clients=CLIENTS,
            failed=lambda e: log.logger().error("status failed", exc_info=e),
        )
        self._server.start()

    def _listen(self) -> socket.socket:
        try:
            return listen(self._path, self._group)
        except NotOurGroupError as e:
            log.logger().warning(f"{e.message}; root alone may ask", hint=e.hint)
            self.trouble = f"{e.message}; root alone may ask ({e.hint})"
            return listen(self._path, "")

    def close(self) -> None:
        """The socket is removed, if it still is ours."""
        if self._server is not None:
            unlink(self._path, self._inode)
            self._server.close()

    def _respond(self, request: Request) -> Answer:
        assert request.peer is not None
        if wait := self._questions.wait(request.peer.uid):
            return _later(429, wait, "too many questions in a minute")
        log.logger().debug("asked", path=request.path, uid=request.peer.uid, pid=request.peer.pid)
        try:
            if request.path == "/v1/status":
                return _document(shown.status(self._state(), self._facts(), time.time()))
            if request.path == "/v1/findings":
                which = _filter(request.query)
                facts = self._facts()
                return _document(shown.findings(self._state(), which, facts, time.time()))
            if request.path.startswith(CHECK):
                name = request.path.removeprefix(CHECK)
                return self._checked(_name(name), _view(request.query), request.peer)
        except UsageError as e:
            return _error(400, e.message, e.hint, usage=True)
        return _error(404, f"nothing is at {printable(request.path)}", usage=True)

    def _checked(self, name: str, view: View, peer: Peer) -> Answer:
        if wait := self._checks.wait(peer.uid):
            return _later(429, wait, "too many checks in a minute")
        if not self._places.acquire(blocking=False):
            return _later(503, 1.0, "the service is busy with other checks")
        log.logger().info("check asked for", container=name, uid=peer.uid, pid=peer.pid)
        try:
            job = _Job(lambda: self._check(name, view), self._places.release)
        except RuntimeError:  # TasksMax=, or too little memory
            self._places.release()
            return _later(503, 1.0, "the service can have no more threads just now")
        if not job.done.wait(self._check_seconds):
            return _error(504, f"{name} could not be judged within {self._check_seconds:g} s")
        match job.raised:
            case None:
                return Answer(body=job.result, type=JSON)
            case PermdoctorError() as e:
                usage = isinstance(e, UsageError)
                return _error(404 if usage else 502, e.message, e.hint, usage=usage)
            case e:
                raise e


class _Job:
    """One check, in a thread of its own, so that nobody has to wait for it."""

    def __init__(self, work: Callable[[], bytes], finish: Callable[[], None]) -> None:
        self.result = b""
        self.raised: Exception | None = None
        self.done = threading.Event()
        self._work, self._finish = work, finish
        threading.Thread(target=self._run, name="permdoctor-asked", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except Exception as e:  # noqa: BLE001 - raised again where it is waited for
            self.raised = e
        finally:
            self._finish()
            self.done.set()


class _Quota:
    """A token bucket for each user.  Thread-safe."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._lock = threading.Lock()
        self._buckets: dict[int, Bucket] = {}

    def wait(self, uid: int) -> float:
        """Seconds until this user may ask; 0: now, and that was one."""
        now = self._clock()
        with self._lock:
            bucket = self._buckets.pop(uid, None) or Bucket(self._per_minute, now)
            self._buckets[uid] = bucket
            if len(self._buckets) > USERS:
                del self._buckets[next(iter(self._buckets))]
            if wait := bucket.wait(now):
                return wait
            bucket.take(now)
            return 0.0


# --- questions ---


def _name(text: str) -> str:
    """What a container can be called.  Raises ``UsageError``."""
    fit = text.isascii() and text.replace("_", "").replace(".", "").replace("-", "").isalnum()
    if not fit or len(text) > MAX_NAME:
        raise UsageError(f"{printable(text[:MAX_NAME])} is no name of a container")
    return text


def _filter(query: Mapping[str, str]) -> Filter:
    glob = query.get("container", "*")
    if len(glob) > MAX_GLOB:
        raise UsageError(f"container: longer than {MAX_GLOB} characters")
    return Filter(
        container=glob,
        code=query.get("code", "").upper(),
        ignored=query.get("ignored") == "1",
    )


def _view(query: Mapping[str, str]) -> View:
    form = query.get("view", "json")
    if form not in ("json", "table", "explain"):
        raise UsageError(f"view: {printable(form[:MAX_NAME])} is none of json, table and explain")
    width = query.get("width", "")
    if width and not (width.isdecimal() and len(width) < 5 and int(width) in WIDTHS):
        raise UsageError(f"width: not a number from {WIDTHS[0]} to {WIDTHS[-1]}")
    return View(
        form=cast(Literal["json", "table", "explain"], form),
        verbose=query.get("verbose") == "1",
        width=int(width) if width else None,
    )


# --- answers ---


def _document(of: doc.Document, status: int = 200) -> Answer:
    return Answer(status=status, body=encode(of).encode("utf-8"), type=JSON)


def _error(status: int, message: str, hint: str | None = None, *, usage: bool = False) -> Answer:
    error = doc.ErrorDoc(
        schema=doc.SCHEMA, error=one_line(message), hint=one_line(hint or ""), usage=usage
    )
    return _document(error, status)


def _later(status: int, seconds: float, message: str) -> Answer:
    answer = _error(status, message, f"ask again in {seconds:.0f} s")
    return Answer(
        status=status,
        body=answer.body,
        type=answer.type,
        headers=(("Retry-After", f"{max(1, round(seconds))}"),),
    )
