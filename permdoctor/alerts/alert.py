"""An alert: a problem that somebody should know of, and that it is gone again.

Its fingerprint is made of what stays the same when a container is made anew: host, engine,
container *name*, mount and code; not the container's id, nor counts, nor sentences.  One *episode*
lasts from the first time it was found until it is resolved.  Within one everybody is told when it
begins, each time that it becomes more severe than it ever was, and when it ends; who can replace
what was said (``Sink.updates``) is told when something else of it changes that matters, too.  Each
of these is a ``revision``: episode, status and revision make ``id``, by which a receiver can tell
that it has been told already.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from permdoctor.diagnosis.report import Severity

_NAMES: Final = re.compile(r" \([^()]*\)")


class AlertStatus(StrEnum):
    """As Alertmanager and PagerDuty call them."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Problem(Struct, frozen=True, kw_only=True):
    """What identifies a problem.  ``engine`` is an endpoint; ``target`` the path inside."""

    host: str
    engine: str
    container: str
    code: str
    target: str = ""

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits, stable over releases."""
        words = (self.host, self.engine, self.container, self.target, self.code)
        text = "\0".join(words).encode("utf-8", "surrogatepass")
        return hashlib.sha256(text).hexdigest()[:32]


class Alert(Struct, frozen=True, kw_only=True):
    """One problem in one episode.  Times are seconds since the epoch; ``ended`` is ``None`` while
    it fires.  All text is printable already.  ``who`` it is about, by ids (empty: nobody in
    particular).  ``remedies`` are shell lines, best first; ``fixable``: permdoctor can do one of
    them itself.  ``update``: who is told now was told of it before, and it is no worse than it was.
    """

    problem: Problem
    status: AlertStatus
    severity: Severity
    title: str
    who: str = ""
    detail: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    fixable: bool = False
    host_path: str = ""
    count: int = 1
    started: float
    ended: float | None = None
    revision: int = 0
    update: bool = False

    @property
    def episode(self) -> str:
        """The same from its beginning to its end."""
        return f"{self.problem.fingerprint}-{round(self.started * 1000)}"

    @property
    def id(self) -> str:
        """The same however often it is sent."""
        return f"{self.episode}-{self.status}-{self.revision}"

    @property
    def matter(self) -> tuple[object, ...]:
        """What somebody who was told of it must know when it changes: not counts, samples, nor by
        which names the ids go.
        """
        return self.severity, _NAMES.sub("", self.who), self.remedies, self.host_path
