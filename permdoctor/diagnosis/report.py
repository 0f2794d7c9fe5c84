"""The result of a check, before anybody renders it.

Sentences in it are ours; every name that a container or a file chose is bytes, or went through
``text.printable``.  Stable: the JSON schema mirrors these types.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from permdoctor.container.container import Container, MountKind
from permdoctor.container.needs import PathNeed
from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.recipes import Recipe
from permdoctor.kernel.verdict import Verdict


class Severity(IntEnum):
    """ERROR: something needed is refused.  WARNING: too much is allowed, or it will go wrong
    later.  INFO: worth knowing.
    """

    INFO = 1
    WARNING = 2
    ERROR = 3


class Skipped(Struct, frozen=True, kw_only=True):
    """A fact that could not be read: what, why, and what would help."""

    what: str
    reason: str
    hint: str = ""


class Impact(Struct, frozen=True, kw_only=True):
    """What a remedy would do to somebody else who uses the path."""

    who: str
    before: str
    after: str
    breaks: bool


class Remedy(Struct, frozen=True, kw_only=True):
    """One way out.  ``name`` is stable (``chown-directory``, ``acl-user``, ``run-as-owner``...).

    ``commands`` are exact lines, for what ``where`` says: the ``host``'s shell, the way the
    ``container`` is started, a ``compose`` file or a ``dockerfile``.  ``proven`` says whether the
    rules were run again with the change made and the need was then met; ``impacts`` are the others
    for whom they were run too.

    ``recipes`` do on the host what the commands say, from the finding's ``host_path`` on (empty:
    permdoctor cannot do it itself).  ``by_hand`` are the commands that are left to do after them:
    with those alone the need is met.  ``helps`` are the kinds of entries that the recipes help and
    take from nobody, as numbers within the finding; a single object is kind 0.
    """

    name: str
    title: str
    commands: tuple[str, ...]
    where: str = "host"
    why: str = ""
    why_not: str = ""
    proven: bool = False
    impacts: tuple[Impact, ...] = ()
    recipes: tuple[Recipe, ...] = ()
    by_hand: tuple[str, ...] = ()
    helps: frozenset[int] = frozenset({0})

    @property
    def breaks(self) -> bool:
        return any(i.breaks for i in self.impacts)


class Finding(Struct, frozen=True, kw_only=True):
    """One thing to know.  ``verdict`` carries the steps that refused, where a rule refused.

    ``host_path`` is the host's path of the refusing object; of a finding on what lies below a
    mount it is the mount's.
    ``subject`` is an index into ``Report.subjects`` (``None``: nobody in particular).  ``count``
    and ``samples`` aggregate entries below a mount; for a single path count is 1.  ``ignored`` is
    the reason of the ``[[ignore]]`` that covers it, empty if there is none.
    """

    code: str
    severity: Severity
    title: str
    target: bytes | None
    path: bytes
    host_path: bytes | None = None
    subject: int | None = None
    verdict: Verdict | None = None
    detail: tuple[str, ...] = ()
    count: int = 1
    samples: tuple[bytes, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    ignored: str = ""


class Coverage(Struct, frozen=True, kw_only=True):
    """How much of a tree was read.  ``stopped`` says why not all of it was (empty: complete)."""

    entries: int
    stopped: str = ""
    unreadable: int = 0
    vanished: int = 0
    foreign_mounts: int = 0


class Access(Struct, frozen=True, kw_only=True):
    """What one subject may do to a mount's root."""

    subject: int
    need: PathNeed
    verdict: Verdict


class ProbeResult(Struct, frozen=True, kw_only=True):
    """What the kernel itself said.  ``agrees`` is ``None`` where it could not be asked
    (``note`` says why); on a disagreement ``note`` names the likely layer.
    """

    target: bytes
    subject: int
    want: str
    predicted: str
    observed: str
    agrees: bool | None
    note: str = ""


class MountReport(Struct, frozen=True, kw_only=True):
    """One mount.  ``host_path`` is where the host sees it (``None``: nowhere, or not known).

    ``dev`` and ``ino`` are its root's, as the container sees it (0: nobody looked).
    """

    target: bytes
    kind: MountKind
    host_path: bytes | None
    fstype: str
    read_only: bool
    owner: str = ""
    mode: int | None = None
    volume: str | None = None
    idmapped: bool = False
    deleted: bool = False
    access: tuple[Access, ...] = ()
    coverage: Coverage | None = None
    dev: int = 0
    ino: int = 0


class Report(Struct, frozen=True, kw_only=True):
    """Everything about one container (or process)."""

    container: Container
    basis: Basis
    subjects: tuple[Subject, ...]
    mounts: tuple[MountReport, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    judged: bool = True
    """False when so much could not be read that "nothing found" would be a lie."""

    @property
    def counted(self) -> tuple[Finding, ...]:
        """The findings that nobody ignores."""
        return tuple(f for f in self.findings if not f.ignored)

    def worst(self) -> Severity | None:
        return max((f.severity for f in self.counted), default=None)


class CheckResult(Struct, frozen=True, kw_only=True):
    """All reports of one run, and containers that could not be checked at all."""

    reports: tuple[Report, ...]
    failed: tuple[Skipped, ...] = ()
    host: str = ""
    version: str = ""

    def exit_status(self, fail_on: Severity) -> int:
        """1 findings of ``fail_on`` or worse; 3 something could not be checked; else 0.  What is
        ignored does not count.
        """
        if any(f.severity >= fail_on for r in self.reports for f in r.counted):
            return 1
        if self.failed or any(not r.judged for r in self.reports):
            return 3
        return 0
