"""One engine's events: what runs there, what happens, and whether it is there at all.

Two threads.  The *reader* subscribes, then lists (so nothing falls between), then reads events
until the stream ends, and begins anew after a pause that grows and is never twice the same.  The
*keeper* asks the engine for a sign of life, since a stream that is dead is only silent, and lists
when it is asked to.  Events that the list already knew are dropped by their time.  Of an engine
that is watched at another endpoint already nothing is said (``claims.py``).
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from permdoctor.container.container import State
from permdoctor.daemon import log
from permdoctor.daemon.claims import Claims
from permdoctor.daemon.events import (
    Action,
    Connected,
    ContainerRef,
    Disconnected,
    Happened,
    Seen,
    Swept,
)
from permdoctor.daemon.heard import ACTIONS, BEFORE, Replay
from permdoctor.daemon.inbox import Inbox
from permdoctor.diagnosis.start import is_refusal
from permdoctor.engines import Summary
from permdoctor.engines.docker import DockerEngine, transport_to
from permdoctor.engines.endpoints import Endpoint
from permdoctor.engines.events import (
    EngineEvent,
    EventStream,
    StreamEnded,
    TooLongError,
    parse_event,
)
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.text import printable

_RUNS: Final = (State.RUNNING, State.PAUSED, State.RESTARTING)
_NANO: Final = 1_000_000_000


class Pace(Struct, frozen=True, kw_only=True):
    """Seconds.  ``answer`` is how long an engine may take; ``least`` and ``most`` are the pauses
    before it is tried again.
    """

    answer: float = 15.0
    ping: float = 10.0
    least: float = 0.2
    most: float = 30.0


class Source:
    """Watches from ``start`` to ``stop``.  ``engine`` is the endpoint's URL."""

    def __init__(
        self,
        endpoint: Endpoint,
        inbox: Inbox,
        pace: Pace | None = None,
        claims: Claims | None = None,
    ) -> None:
        self.engine = endpoint.url
        self._claims = claims or Claims()
        self._twin = ""
        self._endpoint, self._inbox, self._pace = endpoint, inbox, pace or Pace()
        self._stop = threading.Event()
        self._saying = threading.Lock()
        self._wishes: queue.SimpleQueue[_Wish] = queue.SimpleQueue()
        self._stream: EventStream | None = None
        self._up = threading.Event()
        self._running: set[str] = set()
        self._refused: frozenset[str] = frozenset()
        self._threads = [
            threading.Thread(target=self._read_on, name="permdoctor-events", daemon=True),
            threading.Thread(target=self._keep_on, name="permdoctor-keeper", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends soon; :meth:`join` waits for it.  From now on nothing is said of the engine."""
        with self._saying:
            self._stop.set()
        self._wishes.put(_Wish(end=True))
        self._hang_up()

    def join(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def list(self, number: int) -> None:
        """List everything: answered by ``Swept`` of this number, or of a later one."""
        self._wishes.put(_Wish(number=number))

    # -- the reader --------------------------------------------------------------------------

    def _read_on(self) -> None:
        pause = self._pace.least
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                why = self._session()
            except _TwinError as e:
                self._is_twin_of(e.other)
                continue
            except PermdoctorError as e:
                why = e.message
            except Exception as e:  # noqa: BLE001 - whatever an engine says, it is tried again
                why = f"internal error: {type(e).__name__}: {e}"
            finally:
                self._up.clear()
                self._claims.tried(self.engine)
                self._claims.leave(self.engine)
            if self._stop.is_set():
                return
            self._say(Disconnected(engine=self.engine, why=why))
            if time.monotonic() - begun > self._pace.most:
                pause = self._pace.least
            self._stop.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            pause = min(pause * 2, self._pace.most)

    def _is_twin_of(self, other: str) -> None:
        """It may be another engine, or the only way to that one, some time later."""
        if self._twin != other:
            self._twin = other
            log.logger().warning("an engine has two names", engine=other, also=self.engine)
        self._stop.wait(self._pace.most)

    def _session(self) -> str:
        """One connection from its beginning to its end; why it ended."""
        with contextlib.closing(self._engine()) as engine:
            if other := self._claims.claim(engine.info, self.engine):
                raise _TwinError(other)
            self._claims.tried(self.engine)
            self._twin = ""
            stream = EventStream(
                self._endpoint,
                engine.api_version,
                time.time() - BEFORE,
                seconds=self._pace.answer,
            )
            self._stream = stream
            self._running.clear()
            try:
                if self._stop.is_set():
                    return "stopped"
                known = self._connect(engine)
                return self._follow(stream, known)
            finally:
                self._stream = None
                stream.release()

    def _connect(self, engine: DockerEngine) -> int:
        """List, and say so; when, in nanoseconds since the epoch."""
        asked = time.time_ns()
        seen = (*(self._seen(s) for s in engine.list()), *self._not_started(engine))
        self._running.update(s.ref.id for s in seen if s.running)
        by_root = engine.info.by_root
        self._say(Connected(engine=self.engine, containers=seen, by_root=by_root))
        self._up.set()
        return asked

    def _follow(self, stream: EventStream, known: int) -> str:
        replay = Replay(known)
        while not self._stop.is_set():
            try:
                line = stream.next(self._pace.most)
            except StreamEnded as e:
                return e.message
            except TooLongError:
                self._inbox.lose(self.engine)
                continue
            event = parse_event(line) if line is not None else None
            if event is not None and not replay.has(event.at):
                self._happened(event)
        return "stopped"

    def _happened(self, event: EngineEvent) -> None:
        if event.kind == "daemon":
            if event.action == "reload":
                self._inbox.lose(self.engine)
            return
        action = ACTIONS[event.kind].get(event.action)
        if action is None or not event.container:
            return
        if action is Action.CHANGE and event.container not in self._running:
            return  # nothing runs that could be judged: an exec session ends after its container
        if action is Action.START:
            self._running.add(event.container)
        elif action in (Action.STOP, Action.GONE):
            self._running.discard(event.container)
        seen = Seen(
            ref=ContainerRef(engine=self.engine, id=event.container),
            name=event.name,
            running=action in (Action.START, Action.CHANGE),
            labels=event.labels,
        )
        self._say(Happened(action=action, container=seen))

    def _say(self, event: Connected | Disconnected | Swept | Happened) -> None:
        with self._saying:
            if self._stop.is_set():
                return
            if isinstance(event, Happened):
                self._inbox.offer(event)
            else:
                self._inbox.put(event)

    # -- the keeper --------------------------------------------------------------------------

    def _keep_on(self) -> None:
        while not self._stop.is_set():
            wish = self._next_wish()
            if wish is not None and wish.end:
                return
            if not self._up.is_set():
                continue  # a list comes with the connection
            try:
                self._keep(wish)
            except PermdoctorError:
                self._hang_up()  # the reader says so, and begins anew
            except Exception:  # noqa: BLE001 - as above
                self._hang_up()

    def _next_wish(self) -> _Wish | None:
        """``None``: it is time for a ping."""
        try:
            wish = self._wishes.get(timeout=self._pace.ping)
        except queue.Empty:
            return None
        with contextlib.suppress(queue.Empty):
            while True:  # several are one
                more = self._wishes.get_nowait()
                wish = _Wish(number=more.number, end=wish.end or more.end)
        return wish

    def _keep(self, wish: _Wish | None) -> None:
        with contextlib.closing(self._engine()) as engine:
            if wish is None:
                _ = engine.api_version
            else:
                self._say(self._swept(engine, wish.number))

    def _swept(self, engine: DockerEngine, number: int) -> Swept:
        """The list with what only a look at each shows: which run of it this is."""
        found = []
        for summary in engine.list():
            if self._stop.is_set():
                raise StreamEnded("stopped")  # half a list would be a lie
            found.append(self._seen(summary, engine.started))
        found += self._not_started(engine)
        self._running.update(s.ref.id for s in found if s.running)
        return Swept(engine=self.engine, containers=tuple(found), number=number)

    def _not_started(self, engine: DockerEngine) -> tuple[Seen, ...]:
        found = tuple(
            self._seen(s, refused=True) for s in engine.refused(is_refusal, self._refused)
        )
        self._refused = frozenset(s.ref.id for s in found)
        return found

    def _seen(
        self,
        summary: Summary,
        started: Callable[[str], str] | None = None,
        *,
        refused: bool = False,
    ) -> Seen:
        running = summary.state in _RUNS
        return Seen(
            ref=ContainerRef(engine=self.engine, id=summary.id),
            name=printable(summary.name),
            running=running,
            restarting=summary.state is State.RESTARTING,
            refused=refused and not running,
            started=started(summary.id) if started is not None and running else "",
            labels=summary.labels,
        )

    def _engine(self) -> DockerEngine:
        return DockerEngine(self._endpoint, transport_to(self._endpoint, self._pace.answer))

    def _hang_up(self) -> None:
        stream = self._stream
        if stream is not None:
            stream.close()


class _TwinError(Exception):
    """The same engine is watched at another endpoint."""

    def __init__(self, other: str) -> None:
        super().__init__(other)
        self.other = other


class _Wish(Struct, frozen=True, kw_only=True):
    """A list; ``end``: nothing more is wished for."""

    number: int = 0
    end: bool = False
