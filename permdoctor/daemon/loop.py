"""The one loop: takes what happened, asks the reconciler, has it done.

One thread owns the reconciler and everything that its commands touch.  It never waits for anything
but the next event: engines, workers, filesystems and people who are told have threads or processes
of their own.  Its progress is what feeds the service manager's watchdog.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterable
from typing import Final, assert_never

from msgspec.structs import replace

from permdoctor.daemon import log
from permdoctor.daemon.events import (
    Check,
    Checked,
    Command,
    Connected,
    Event,
    List,
    Log,
    Lost,
    Repair,
    Repaired,
    Tell,
    Tick,
    Watch,
)
from permdoctor.daemon.parts import Parts
from permdoctor.daemon.reconciler import Reconciler
from permdoctor.daemon.state import State
from permdoctor.daemon.unsaid import Unsaid
from permdoctor.errors import PermdoctorError

BATCH: Final = 256
_PUBLISH_SECONDS: Final = 0.25
_OUTBOX_SECONDS: Final = 15.0
_TELL_AGAIN: Final = 5.0
_LONGEST: Final = 60.0


class Loop:
    """Runs until :meth:`end`.  ``wake`` is called for each readable descriptor that a part asked
    to be told of.
    """

    def __init__(self, parts: Parts, reconciler: Reconciler) -> None:
        self._parts, self._reconciler = parts, reconciler
        self._selector = selectors.DefaultSelector()
        self._untold = Unsaid()
        self._tell_again = 0.0
        self._why_untold = ""
        self._published = 0.0
        self._dirty = True
        self._counted = 0.0
        self._fed = 0.0
        self._status = ""
        self._ending = False
        self.state = State()

    # -- what parts ask for ------------------------------------------------------------------

    def watch(self, fd: int, wake: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, wake)

    def forget(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError):
            return

    def end(self) -> None:
        self._ending = True

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> None:
        """Until it is ended."""
        while not self._ending:
            self.round(_LONGEST)

    def drain(self, until: float, busy: Callable[[], bool]) -> None:
        """Go on for as long as there is something, and not beyond ``until`` (monotonic)."""
        while busy() and time.monotonic() < until:
            self.round(min(0.1, max(0.0, until - time.monotonic())))

    def round(self, longest: float) -> None:
        """Wait for something, and take it."""
        wait = min(longest, self._wait(time.monotonic()))
        for key, _ in self._selector.select(wait):
            key.data()
        parts = self._parts
        self.take(parts.inbox.take(BATCH))
        now = time.monotonic()
        due = self._reconciler.due()
        if due is not None and due <= now:
            self.take([Tick()])
        self.take(parts.dispatch.advance(now))
        self.take(parts.watch.advance(now))
        self.take([Lost(engine=engine) for engine in parts.inbox.lost()])
        self._keep_house(now)

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            self._observe(event)
            commands = self._reconciler.handle(event, time.monotonic(), time.time())
            self._dirty = True
            for command in commands:
                self._do(command)

    def _wait(self, now: float) -> float:
        parts = self._parts
        times = [
            self._reconciler.due(),
            parts.dispatch.due(),
            parts.watch.due(),
            self._counted + _OUTBOX_SECONDS,
            self._published + _PUBLISH_SECONDS if self._dirty else None,
            self._tell_again if self._untold else None,
        ]
        if parts.notifier.every is not None:
            times.append(self._fed + parts.notifier.every)
        return max(0.0, min(t for t in times if t is not None) - now)

    # -- commands ----------------------------------------------------------------------------

    def _do(self, command: Command) -> None:
        parts = self._parts
        match command:
            case Check():
                parts.dispatch.check(command, time.monotonic())
            case Repair():
                parts.dispatch.repair(command, time.monotonic())
            case List():
                parts.list(command)
            case Watch(paths=paths):
                parts.watch.want(paths)
            case Tell():
                self._untold.add(command)
                self._tell(time.monotonic())
            case Log():
                log.write(command)
            case _:
                assert_never(command)

    def _tell(self, now: float) -> None:
        """In their order; what cannot be kept now is kept later."""
        if now >= self._tell_again:
            self._why_untold = self._keep(now)
        self._parts.untold(len(self._untold), self._why_untold)

    def _keep(self, now: float) -> str:
        """Why not all of them; empty: they are."""
        while self._untold:
            try:
                self._parts.outbox.tell(self._untold.first())
            except PermdoctorError as e:
                self._tell_again = now + _TELL_AGAIN
                log.logger().error(e.message, hint=e.hint, waiting=len(self._untold))
                return e.message
            self._untold.said()
        if self._untold.left_out:
            log.logger().error(
                "alerts are lost: begun and over in trouble", number=self._untold.left_out
            )
            self._untold.left_out = 0
        return ""

    def _observe(self, event: Event) -> None:
        metrics = self._parts.metrics
        match event:
            case Checked():
                _log_check(event)
                if metrics is not None:
                    metrics.checked(event.seconds, not event.failed)
            case Repaired() if metrics is not None:
                metrics.repaired(event)
            case Connected(engine=engine):
                self._parts.connected(engine)
            case _:
                return

    # -- what others see ---------------------------------------------------------------------

    def _keep_house(self, now: float) -> None:
        parts = self._parts
        parts.health.beat()
        if self._untold:
            self._tell(now)
        if self._dirty and now >= self._published + _PUBLISH_SECONDS:
            self._publish(now)
        if now >= self._counted + _OUTBOX_SECONDS:
            self._counted = now
            parts.count()
        every = parts.notifier.every
        if every is not None and now >= self._fed + every:
            self._fed = now
            parts.notifier.alive()

    def _publish(self, now: float) -> None:
        self._dirty, self._published = False, now
        self.state = state = _with_workers(self._reconciler.state(), self._parts.dispatch.checking)
        self._parts.observe(state)
        status = summary(state)
        if status != self._status:
            self._status = status
            self._parts.notifier.status(status)


def _with_workers(state: State, checking: int) -> State:
    """What the reconciler has begun and no worker has, waits."""
    waiting = state.waiting + max(0, state.checking - checking)
    return replace(state, checking=checking, waiting=waiting)


def summary(state: State) -> str:
    """One line for `systemctl status`."""
    up = sum(e.connected for e in state.engines)
    return (
        f"{len(state.containers)} containers on {up} of {len(state.engines)} engines, "
        f"{len(state.firing)} problems told"
    )


def _log_check(event: Checked) -> None:
    log.logger().debug(
        "checked",
        engine=event.ref.engine,
        id=event.ref.id[:12],
        findings=len(event.found),
        seconds=round(event.seconds, 3),
        failed=event.failed or None,
    )
