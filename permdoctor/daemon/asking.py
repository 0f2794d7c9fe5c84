"""A check that somebody asks for at the status socket, in a worker of its own.

Called from the server's threads.  Few at once, and each with an end: who asks cannot hold up what
the service does by itself.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import Final

from permdoctor.daemon.channel import Channel, Closed
from permdoctor.daemon.nursery import CHECKER, Nursery
from permdoctor.daemon.work import Answer, Job
from permdoctor.errors import CannotCheckError, UsageError

AT_ONCE: Final = 2
SECONDS: Final = 60.0


class Asking:
    """Thread-safe."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def check(self, job: Job) -> bytes:
        """Raises ``UsageError`` or ``CannotCheckError``, as ``app.check`` does."""
        if not self._places.acquire(timeout=SECONDS):
            raise CannotCheckError("too many ask at once", hint="try again in a moment")
        try:
            return self._check(job)
        finally:
            self._places.release()

    def _check(self, job: Job) -> bytes:
        child = self._nursery.child(CHECKER)
        try:
            channel: Channel[Answer] = Channel(child.sock, Answer)
            channel.send(job, SECONDS)
            answer = _within(channel, time.monotonic() + SECONDS)
        except Closed as e:
            raise CannotCheckError(f"no answer: {e}") from e
        finally:
            child.kill()
        if answer.refused is not None:
            status, message, hint = answer.refused
            kind: Callable[..., Exception] = UsageError if status == 2 else CannotCheckError
            raise kind(message, hint=hint)
        return answer.result


def _within(channel: Channel[Answer], end: float) -> Answer:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while (left := end - time.monotonic()) > 0 and poll.poll(left * 1000):
        answers = channel.received()
        if answers:
            return answers[0]
    raise Closed(f"not within {SECONDS:.0f} s")
