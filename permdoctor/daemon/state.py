"""What the reconciler knows, as others may see it: for status, metrics and findings.

Frozen.  Everything in it is printable and bounded.  Times named ``since``, ``checked`` and
``swept`` are seconds since the epoch; ``due`` is monotonic seconds, as the loop's.
"""

from __future__ import annotations

from msgspec import Struct

from permdoctor.alerts.alert import Alert
from permdoctor.daemon.events import ContainerRef, Found


class FindingState(Struct, frozen=True, kw_only=True):
    """A finding of a running container.  ``since`` is when this instance of the container was
    first found with it, or when its alert began (``told``: there is one, for whoever listens).
    ``ignored`` is the reason of the silence that keeps it from being told, empty if there is none.
    ``repair`` is why it is not repaired although a rule is for this container, empty if there is
    nothing to say.
    """

    found: Found
    since: float
    told: bool = False
    ignored: str = ""
    repair: str = ""


class ContainerState(Struct, frozen=True, kw_only=True):
    """A container that runs, or should and is ``down``: between two runs of a crash loop, or its
    start was refused.  ``judged``: its present run has been, in a crash loop any; until then
    ``findings`` are those of the run before.  ``failed`` is why the last check has no result,
    ``failures`` how many had none in a row.  ``seconds`` is how long the last good check took.
    """

    ref: ContainerRef
    name: str
    started: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    findings: tuple[FindingState, ...] = ()
    roots: tuple[bytes, ...] = ()
    down: bool = False
    judged: bool = False
    checking: bool = False
    checked: float | None = None
    seconds: float = 0.0
    failed: str = ""
    failures: int = 0
    due: float | None = None


class EngineState(Struct, frozen=True, kw_only=True):
    """``why`` it is not connected; that is so ``since``.  ``swept``: the last full list."""

    engine: str
    connected: bool
    why: str = ""
    since: float
    swept: float | None = None


class State(Struct, frozen=True, kw_only=True):
    """Everything.  ``firing`` are the alerts that people have been told and not told the end of.

    ``waiting`` checks are due and not under way (``checking``: the reconciler's own count is of
    those that it has begun; the loop's is of those that a worker makes).  ``watched`` are roots
    that are watched with the ``directories`` in them, ``unwatched`` are all others; ``blind`` is
    why there are any that should be watched (empty: there are none).  ``left_out`` counts the
    containers that are beyond the limit and not looked after.  ``repairs`` were begun within the
    last hour.
    """

    containers: tuple[ContainerState, ...] = ()
    engines: tuple[EngineState, ...] = ()
    firing: tuple[Alert, ...] = ()
    checking: int = 0
    waiting: int = 0
    watched: int = 0
    unwatched: int = 0
    directories: int = 0
    blind: str = ""
    left_out: int = 0
    repairs: int = 0
