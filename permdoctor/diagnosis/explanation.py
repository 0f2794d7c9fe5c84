"""One path of one container, explained: the walk to it, and what may be done to it.  Pure.

The counterpart of ``report.py`` for ``permdoctor explain``: the same facts and verdicts, kept
component by component instead of being aggregated into findings.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from permdoctor.container.container import Container
from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.report import ProbeResult, Skipped
from permdoctor.kernel.verdict import Verdict
from permdoctor.kernel.walk import Hop

WANTS: Final = ("read", "write", "create", "delete", "own", "execute")
"""What can be asked of a path (``--want``)."""


class ExplainedOperation(Struct, frozen=True, kw_only=True):
    """One thing that one subject (an index into ``Explanation.subjects``) would do to the path.

    ``verdict`` is the operation's own, after the walk; its steps name the inode in ``about``:
    the index of a hop as a number in text, or the operation's own word for it.
    """

    subject: int
    want: str
    verdict: Verdict


class Explanation(Struct, frozen=True, kw_only=True):
    """``walks`` has one verdict for each subject, in order; a step's ``about`` is the index of
    its hop.  ``missing`` is the component that does not exist (``None``: the walk reached the
    object).  ``host_path`` is where the host sees the object, ``None`` where it does not.
    """

    container: Container
    basis: Basis
    path: bytes
    subjects: tuple[Subject, ...]
    hops: tuple[Hop, ...]
    walks: tuple[Verdict, ...]
    host_path: bytes | None = None
    missing: bytes | None = None
    operations: tuple[ExplainedOperation, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether any subject is refused the walk or one of the operations."""
        return any(not v.allowed for v in self.walks) or any(
            not o.verdict.allowed for o in self.operations
        )
