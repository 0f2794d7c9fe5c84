"""Brings to one sink what waits for it: one ``step`` at a time, at times that it is given.

- A sink that fails is left alone for a time that grows (``pace.backoff``), or as long as it asked
  for.  A delivery that failed is tried again after those that were tried less often, so that one
  that the sink cannot digest does not hold up the others; deliveries are never given up for having
  been tried often.
- A sink that refuses an alert (``UndeliverableError``) does not get it, nor its resolve, unless it
  took the same one with another severity.
- What is old and over is not told: if the problem is gone (its resolve waits), the sink cannot
  have heard of it, and it was found more than ``STALE`` seconds ago, then nobody is called out of
  bed for it, and neither of the two is sent.  After a shorter absence the sink hears both.
- A sink with ``resend`` is told again what fires, from the start on: rounds, a batch of which is
  sent in turn with what is new, so that neither waits for the other however slow the sink is.  A
  batch that fails is left to the next round.
- A change for the worse or the better is logged once, not at each attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from permdoctor.alerts.alert import Alert
from permdoctor.alerts.counters import Counters
from permdoctor.alerts.delivery import Delivery
from permdoctor.alerts.pace import LONGEST_ASKED, Bucket, backoff
from permdoctor.alerts.sink import DeliveryError, RetryError, Sink, UndeliverableError
from permdoctor.alerts.store import Store

STALE: Final = 900.0
"""Seconds."""

Log = Callable[[str, str, Mapping[str, str]], None]
"""Level as structlog's, what happened in a few words, fields."""


class Courier:
    """One sink's; ``before`` was its one until now.  ``chance`` gives numbers in [0, 1).  Not
    thread-safe but for the counters, which are only read elsewhere.
    """

    def __init__(
        self,
        sink: Sink,
        store: Store,
        log: Log,
        chance: Callable[[], float],
        now: float,
        before: Courier | None = None,
    ) -> None:
        self.sink, self._store, self._log, self._chance = sink, store, log, chance
        self._bucket = Bucket(sink.per_minute, now)
        self._not_yet: dict[int, float] = {}
        self._failures = 0
        self._resume = now
        self._next_resend = now
        self._round: int | None = None
        self._news = False
        names = ("sent", "resent", "failed", "dropped", "stale", "evicted")
        self._count: dict[str, int] = dict.fromkeys(names, 0) if before is None else before._count
        self._last_error = ""

    def counters(self) -> Counters:
        return Counters(**self._count, last_error=self._last_error)

    def evicted(self, number: int) -> None:
        self._count["evicted"] += number
        self._say("error", "alerts dropped: too many wait for this sink", number=str(number))

    def step(self, now: float, wall: float) -> float | None:
        """Tell something, if it is time.  Returns after how many seconds to come back: 0 at once,
        ``None`` when something new waits.  ``now`` is monotonic, ``wall`` since the epoch.
        """
        if now < self._resume:
            return self._resume - now
        if self._is_resend(now) and not self._news:
            self._resend(now)
            return 0.0
        self._news = False
        self._not_yet = {n: at for n, at in self._not_yet.items() if at > now}
        found = self._store.next(self.sink.name, self.sink.batch, self._not_yet)
        if stale := [d for d in found if d.over and wall - d.told > STALE]:
            self._drop_stale(stale)
            return 0.0
        if not found:
            return self._later(now)
        if wait := self._bucket.wait(now):
            return 0.0 if self._is_resend(now) else wait
        self._bucket.take(now)
        self._send(found, now)
        return 0.0

    def _later(self, now: float) -> float | None:
        times = list(self._not_yet.values())
        if self.sink.resend is not None:
            times.append(now if self._is_resend(now) else self._next_resend)
        return max(0.0, min(times) - now) if times else None

    def _send(self, found: list[Delivery], now: float) -> None:
        if not (found := self._store.begin(self.sink.name, found)):
            return
        failure = self._failure([d.alert for d in found])
        if failure is None:
            self._store.sent(self.sink.name, found)
            self._count["sent"] += len(found)
            self._well()
        elif isinstance(failure, UndeliverableError) and len(found) > 1:
            self._one_by_one(found, now)
        elif isinstance(failure, UndeliverableError):
            self._drop_refused(found, failure)
        else:
            attempts = {d.n: d.attempts + 1 for d in found}
            for n, tried in attempts.items():
                self._not_yet[n] = now + backoff(tried, self._chance())
            self._badly(failure, now)

    def _one_by_one(self, found: list[Delivery], now: float) -> None:
        """Which of them the sink refuses."""
        for at, delivery in enumerate(found):
            self._send([delivery], now)
            if now < self._resume:
                for left in found[at + 1 :]:
                    self._not_yet[left.n] = self._resume
                return

    def _failure(self, alerts: Sequence[Alert]) -> DeliveryError | None:
        try:
            self.sink.send(alerts)
        except DeliveryError as e:
            return e
        except Exception as e:  # noqa: BLE001 - a fault of ours must not end the telling
            # Not its text: it could hold a secret.
            return RetryError(f"internal error in the sink: {type(e).__name__}")
        return None

    def _is_resend(self, now: float) -> bool:
        """Whether a round is under way, or is to begin."""
        if self.sink.resend is not None and self._round is None and now >= self._next_resend:
            self._round, self._next_resend = 0, now + self.sink.resend
        return self._round is not None

    def _resend(self, now: float) -> None:
        """One batch of the round; then it is the turn of what is new."""
        assert self._round is not None
        self._news = True
        alerts, self._round = self._store.firing_at(self.sink.name, self.sink.batch, self._round)
        if not alerts:
            return
        failure = self._failure(alerts)
        if failure is not None:
            self._badly(failure, now)
            return
        self._count["resent"] += len(alerts)
        self._well()

    def _drop_refused(self, found: list[Delivery], why: DeliveryError) -> None:
        self._store.drop(self.sink.name, found)
        self._count["dropped"] += len(found)
        self._count["failed"] += 1
        self._last_error = why.message
        for delivery in found:
            self._say("error", "alert dropped: refused", alert=delivery.alert.id, why=why.message)

    def _drop_stale(self, stale: list[Delivery]) -> None:
        self._store.drop(self.sink.name, stale)
        self._count["stale"] += len(stale)
        for delivery in stale:
            self._say("warning", "alert not sent: over before the sink came back",
                      alert=delivery.alert.id)  # fmt: skip

    def _badly(self, why: DeliveryError, now: float) -> None:
        self._failures += 1
        self._count["failed"] += 1
        pause = backoff(self._failures, self._chance())
        if isinstance(why, RetryError) and why.after is not None:
            pause = max(pause, min(why.after, LONGEST_ASKED))
        self._resume = now + pause
        if why.message != self._last_error:
            self._say("warning", "sink fails", why=why.message)
        self._last_error = why.message

    def _well(self) -> None:
        if self._failures:
            self._say("info", "sink works again", failures=str(self._failures))
        self._failures = 0
        self._last_error = ""

    def _say(self, level: str, event: str, **fields: str) -> None:
        self._log(level, event, {"sink": self.sink.name, **fields})
