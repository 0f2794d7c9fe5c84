"""The containers that run (or should: crash loops, refused starts), and who has a name.

Names are one engine's own and unique there; where two containers seem to have one (a rename was
missed) the one that came last has it, until a full list says more.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from permdoctor.daemon.episodes import Name
from permdoctor.daemon.events import ContainerRef, Found, Unknown
from permdoctor.daemon.silences import Labels
from permdoctor.daemon.state import FindingState


class Record(Struct, kw_only=True):
    """What is known of one.  ``run`` is another number for every run of every container; ``heard``
    counts events: the one that spoke of it last.  ``begun`` is when we learned of the run,
    ``looked`` when it was last judged because of an event (monotonic).  ``since`` is by finding.
    ``stirs``, ``drifts`` and ``rounds`` count judgements in a row, after an event of the engine,
    after a change of a file and between the runs of a crash loop, that found nothing new.
    ``ended``: it is between two such runs, or was ``refused``: the engine could not start it.
    ``lived`` is what was found when it last did run.
    ``hindered`` is why findings are not repaired, as it was last logged.
    ``unseen`` findings are older than the last judgement, which could not see them.
    ``visits`` counts judgements in a row because of somebody else (``neighbours.py``), the last of
    them ``visited`` (monotonic).
    """

    ref: ContainerRef
    name: str
    run: int
    heard: int
    begun: float
    started: str = ""
    labels: Labels = ()
    ended: bool = False
    refused: bool = False
    found: tuple[Found, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    hindered: dict[tuple[str, str, str], str] = field(default_factory=dict)
    unseen: frozenset[tuple[str, str, str]] = frozenset()
    partial: int = 0
    lived: tuple[Found, ...] = ()
    since: dict[tuple[str, str, str], float] = field(default_factory=dict)
    findings: tuple[FindingState, ...] = ()
    roots: tuple[bytes, ...] = ()
    writes: tuple[bytes, ...] = ()
    judged: bool = False
    settled: bool = False
    checked: float | None = None
    seconds: float = 0.0
    failed: str = ""
    failures: int = 0
    stirs: int = 0
    drifts: int = 0
    rounds: int = 0
    looked: float = 0.0
    visits: int = 0
    visited: float = float("-inf")

    @property
    def key(self) -> Name:
        return self.ref.engine, self.name


class Roster:
    """In the order in which they came."""

    def __init__(self) -> None:
        self._records: dict[ContainerRef, Record] = {}
        self._named: dict[Name, dict[ContainerRef, None]] = {}
        self._of: dict[str, dict[ContainerRef, None]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._records.values()))

    def get(self, ref: ContainerRef) -> Record | None:
        return self._records.get(ref)

    def of(self, engine: str) -> tuple[Record, ...]:
        return tuple(self._records[ref] for ref in self._of.get(engine, ()))

    def owner(self, name: Name) -> Record | None:
        """Who has a name now."""
        refs = self._named.get(name)
        return self._records[next(reversed(refs))] if refs else None

    def owns(self, record: Record) -> bool:
        return self.owner(record.key) is record

    def others(self, record: Record) -> tuple[Record, ...]:
        """Who else seems to have its name."""
        named = self._named.get(record.key, ())
        return tuple(self._records[ref] for ref in named if ref != record.ref)

    def add(self, record: Record) -> None:
        self._records[record.ref] = record
        self._named.setdefault(record.key, {})[record.ref] = None
        self._of.setdefault(record.ref.engine, {})[record.ref] = None

    def remove(self, record: Record) -> None:
        del self._records[record.ref]
        self._leave(record)
        of = self._of[record.ref.engine]
        del of[record.ref]
        if not of:
            del self._of[record.ref.engine]

    def rename(self, record: Record, name: str) -> None:
        self._leave(record)
        record.name = name
        self._named.setdefault(record.key, {})[record.ref] = None

    def _leave(self, record: Record) -> None:
        named = self._named[record.key]
        del named[record.ref]
        if not named:
            del self._named[record.key]
