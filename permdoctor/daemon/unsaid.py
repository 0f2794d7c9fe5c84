"""What people are to be told and the outbox cannot keep: a full disk, most often.

In its order, and bounded by the problems there are: when it grows, an episode that began and ended
meanwhile is left out, and of another only the newest is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.daemon.events import Tell

MANY: Final = 4096


class Unsaid:
    """A queue.  ``left_out`` counts the episodes that nobody will hear of."""

    def __init__(self, many: int = MANY) -> None:
        self._tells: deque[Tell] = deque()
        self._many = many
        self._most = many
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._tells)

    def add(self, tell: Tell) -> None:
        self._tells.append(tell)
        if len(self._tells) <= self._most:
            return
        tells, gone = condensed(self._tells)
        self._tells = deque(tells)
        self._most = 2 * len(tells) + self._many
        self.left_out += gone

    def first(self) -> Alert:
        return self._tells[0].alert

    def said(self) -> None:
        """The first is kept now."""
        self._tells.popleft()


def condensed(tells: Iterable[Tell]) -> tuple[list[Tell], int]:
    """The same in fewer words, and how many episodes are not in it any more."""
    last: dict[str, Tell] = {}
    began: set[str] = set()
    for tell in tells:
        episode = tell.alert.episode
        if _begins(tell):
            began.add(episode)
        last.pop(episode, None)
        last[episode] = tell
    kept = [t for e, t in last.items() if e not in began or not _ends(t)]
    return kept, len(last) - len(kept)


def _begins(tell: Tell) -> bool:
    return not tell.quiet and not tell.alert.revision and not _ends(tell)


def _ends(tell: Tell) -> bool:
    return tell.alert.status is AlertStatus.RESOLVED
