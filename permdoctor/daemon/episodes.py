"""Which problems people have been told of, and when they are told that one is gone.

An episode begins when a problem is first to be told, and ends when a check of a container of that
name does not find it any more.  One that has ended within the last hour already is flapping: it
must stay away for ``damp`` seconds after one such end, twice that after two, and so on, before it
ends again; if it comes back meanwhile nothing was told and nothing is.

What is told of it stays true.  A finding that is severer than the episode ever was is told at once.
Any other change is told not before ``damp`` seconds after the last: as another revision if somebody
must know it (``Alert.matter``), else quietly, in the same one, for who is told again anyway.  The
end is told in the words of the last finding.

Whether a container is there at all is not this module's to know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.daemon.events import Found, Tell
from permdoctor.daemon.timers import Timers
from permdoctor.diagnosis.report import Severity

Name = tuple[str, str]
"""(engine, container's name): whose a problem is, whichever instance has it."""

HOUR: Final = 3600.0
_MOST: Final = 10


class Past(Struct, frozen=True, kw_only=True):
    """The ends (monotonic) of a problem's last episodes, and when the last one began (epoch)."""

    ends: tuple[float, ...]
    started: float


class Episode(Struct, frozen=True, kw_only=True):
    """``told`` is what people were told last, ``at`` (monotonic); ``present`` is how it is.  It was
    told at ``worst``.
    """

    told: Alert
    present: Alert
    worst: Severity
    at: float = float("-inf")


class Episodes:
    """By the problem's fingerprint.  At most ``limit`` at once; the others are not told."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._firing: dict[str, Episode] = {}
        self._of: dict[Name, dict[str, None]] = {}
        self._ending: Timers[str] = Timers()
        self._changing: Timers[str] = Timers()
        self._past: dict[str, Past] = {}
        self._forget: Timers[str] = Timers()

    @property
    def full(self) -> bool:
        return len(self._firing) >= self._limit

    def firing(self) -> tuple[Alert, ...]:
        return tuple(e.told for e in self._firing.values())

    def get(self, fingerprint: str) -> Alert | None:
        known = self._firing.get(fingerprint)
        return None if known is None else known.told

    def has(self, name: Name) -> bool:
        return name in self._of

    def names(self) -> tuple[Name, ...]:
        return tuple(self._of)

    def due(self) -> float | None:
        times = (self._ending.first(), self._changing.first())
        return min((t for t in times if t is not None), default=None)

    def restored(self, alerts: Iterable[Alert], now: float, wall: float) -> list[Tell]:
        """Episodes go on that were told before the service was started."""
        out: list[Tell] = []
        for alert in sorted(alerts, key=lambda a: (a.started, a.revision)):
            if alert.status is not AlertStatus.FIRING:
                continue
            fingerprint = alert.problem.fingerprint
            known = self.get(fingerprint)
            if known is not None and known.started > alert.started:
                out.append(_resolved(alert, wall))
                continue
            if known is not None and known.episode != alert.episode:
                out += self._end(fingerprint, now, wall)
            if fingerprint not in self._firing and self.full:
                out.append(_resolved(alert, wall))
                continue
            self._add(fingerprint, alert, float("-inf"))
        return out

    def judged(
        self,
        name: Name,
        told: Mapping[str, Found],
        muted: Mapping[str, str],
        *,
        now: float,
        wall: float,
        damp: float,
        unsure: Collection[str] = (),
    ) -> list[Tell]:
        """A container of that name was checked: ``told`` is what people should know of, ``muted``
        what is there and should not be told, and why not; of ``unsure`` the check does not say
        whether it is there.  All by fingerprint.
        """
        out: list[Tell] = []
        for fingerprint in tuple(self._of.get(name, ())):
            if fingerprint in told or fingerprint in unsure:
                continue
            if fingerprint in muted:
                out += self._end(fingerprint, now, wall, muted[fingerprint])
            else:
                out += self._absent(fingerprint, now, wall, damp)
        for fingerprint, found in told.items():
            out += self._present(fingerprint, found, now, wall, damp)
        return out

    def repaired(self, fingerprint: str, said: str) -> None:
        """The end will say so, if the problem is not found again before."""
        known = self._firing.get(fingerprint)
        if known is not None and said not in known.present.detail:
            present = replace(known.present, detail=(*known.present.detail, said))
            self._firing[fingerprint] = replace(known, present=present)

    def over(self, name: Name, now: float, wall: float, why: str = "") -> list[Tell]:
        """Nobody of that name is there any more, and has not been for long enough; or it is not
        known, and ``why``.
        """
        out: list[Tell] = []
        for fingerprint in tuple(self._of.get(name, ())):
            out += self._end(fingerprint, now, wall, why)
        return out

    def advance(self, now: float, wall: float) -> list[Tell]:
        """Those that have stayed away for long enough, and changes that have waited."""
        out: list[Tell] = []
        while (fingerprint := self._changing.pop(now)) is not None:
            out.append(self._change(fingerprint, now))
        while (fingerprint := self._ending.pop(now)) is not None:
            out += self._end(fingerprint, now, wall)
        while (fingerprint := self._forget.pop(now)) is not None:
            self._past.pop(fingerprint, None)
        return out

    def _present(
        self, fingerprint: str, found: Found, now: float, wall: float, damp: float
    ) -> list[Tell]:
        self._ending.discard(fingerprint)
        known = self._firing.get(fingerprint)
        if known is None:
            return [] if self.full else [self._begin(fingerprint, found, now, wall)]
        present = _worded(known.told, found)
        self._firing[fingerprint] = replace(known, present=present)
        if present == known.told:
            self._changing.discard(fingerprint)
        elif present.severity > known.worst:
            return [self._change(fingerprint, now)]
        else:
            self._changing.sooner(fingerprint, max(now, known.at + damp))
        return []

    def _begin(self, fingerprint: str, found: Found, now: float, wall: float) -> Tell:
        bare = Alert(
            problem=found.problem,
            status=AlertStatus.FIRING,
            severity=found.severity,
            title=found.title,
            started=self._beginning(fingerprint, wall),
        )
        alert = _worded(bare, found)
        self._add(fingerprint, alert, now)
        return Tell(alert=alert)

    def _change(self, fingerprint: str, now: float) -> Tell:
        """Tell how it is now."""
        known = self._firing[fingerprint]
        matters = known.present.matter != known.told.matter
        alert = replace(known.present, revision=known.told.revision + matters)
        worst = max(known.worst, alert.severity)
        self._changing.discard(fingerprint)
        self._firing[fingerprint] = Episode(told=alert, present=alert, worst=worst, at=now)
        return Tell(alert=alert, quiet=not matters)

    def _beginning(self, fingerprint: str, wall: float) -> float:
        """Another one than the last episode's, even if the clock was set back."""
        past = self._past.get(fingerprint)
        return wall if past is None else max(wall, past.started + 0.001)

    def _absent(self, fingerprint: str, now: float, wall: float, damp: float) -> list[Tell]:
        self._changing.discard(fingerprint)
        if fingerprint in self._ending:
            return []
        past = self._past.get(fingerprint)
        flaps = 0 if past is None else sum(now - end < HOUR for end in past.ends)
        if not flaps or damp <= 0:
            return self._end(fingerprint, now, wall)
        self._ending.set(fingerprint, now + damp * flaps)
        return []

    def _add(self, fingerprint: str, alert: Alert, now: float) -> None:
        self._firing[fingerprint] = Episode(told=alert, present=alert, worst=alert.severity, at=now)
        name = (alert.problem.engine, alert.problem.container)
        self._of.setdefault(name, {})[fingerprint] = None

    def _end(self, fingerprint: str, now: float, wall: float, why: str = "") -> list[Tell]:
        """``why`` it is not told any more although it is there: then it did not flap."""
        alert = self._firing.pop(fingerprint).present
        self._ending.discard(fingerprint)
        self._changing.discard(fingerprint)
        name = (alert.problem.engine, alert.problem.container)
        self._of[name].pop(fingerprint)
        if not self._of[name]:
            del self._of[name]
        self._remember(fingerprint, alert, None if why else now, now)
        said = replace(alert, detail=(*alert.detail, why)) if why else alert
        return [replace(_resolved(said, wall), why=why)]

    def _remember(self, fingerprint: str, alert: Alert, end: float | None, now: float) -> None:
        past = self._past.pop(fingerprint, None)
        ends = () if past is None else past.ends
        if end is not None:
            ends = (*ends, end)[-_MOST:]
        self._past[fingerprint] = Past(ends=ends, started=alert.started)
        self._forget.set(fingerprint, now + HOUR)
        if len(self._past) > self._limit:
            oldest = next(iter(self._past))
            del self._past[oldest]
            self._forget.discard(oldest)


def _resolved(alert: Alert, wall: float) -> Tell:
    ended = max(wall, alert.started)
    return Tell(alert=replace(alert, status=AlertStatus.RESOLVED, ended=ended))


def _worded(alert: Alert, found: Found) -> Alert:
    return replace(
        alert,
        severity=found.severity,
        title=found.title,
        who=found.who,
        detail=found.detail,
        remedies=found.remedies,
        fixable=bool(found.fixable),
        host_path=found.host_path,
        count=found.count,
    )
