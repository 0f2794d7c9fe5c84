"""The JSON documents: the types that the schema is generated from.

Stable: a field is added, never renamed or given another meaning; what would break a reader makes
``permdoctor/2``.  Every name that a container or a file chose is text in which control characters,
undecodable bytes and the backslash are escaped (``\\x1b``, ``\\\\``): it is reversible, and always
valid UTF-8.  ``uid.inside`` is the number in the container, ``uid.host`` the one on the host.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

SchemaName = Literal["permdoctor/1"]
SCHEMA: Final[SchemaName] = "permdoctor/1"
SeverityName = Literal["error", "warning", "info"]


class Id(msgspec.Struct, frozen=True, kw_only=True):
    """``inside`` is null for an id that the container's user namespace does not map."""

    host: int
    inside: int | None


class ProcessDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``pid`` is the host's."""

    pid: int
    inside_pid: int | None
    comm: str
    via_exec: bool


class SubjectDoc(msgspec.Struct, frozen=True, kw_only=True):
    """One set of credentials, and the processes that hold it."""

    basis: Literal["live", "predicted"]
    uid: Id
    gid: Id
    groups: list[Id]
    user: str
    group: str
    host_user: str
    host_group: str
    capabilities: list[str]
    processes: list[ProcessDoc]
    umask: str | None
    label: str


class StepDoc(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, asked once.  ``want``, ``has`` and ``mask`` are ``rwx`` texts, ``id`` is a host
    id, ``text`` the sentence for it.
    """

    rule: str
    outcome: Literal["grants", "refuses", "passes"]
    about: str
    want: str
    has: str | None
    mask: str | None
    id: int | None
    capabilities: list[str]
    why: str
    text: str


class VerdictDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``errno`` is the name of what the process would get, null if it is allowed."""

    allowed: bool
    errno: str | None
    steps: list[StepDoc]


class AccessDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``subject`` is an index into the report's subjects."""

    subject: int
    need: Literal["none", "read", "write", "own"]
    source: str
    via: str
    verdict: VerdictDoc


class CoverageDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``complete`` is false where ``stopped`` says why not everything was read."""

    entries: int
    complete: bool
    stopped: str
    unreadable: int
    vanished: int
    foreign_mounts: int


class MountDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``mode`` is octal text."""

    target: str
    kind: Literal["bind", "volume", "tmpfs", "device", "other"]
    host_path: str | None
    fstype: str
    read_only: bool
    owner: str
    mode: str | None
    volume: str | None
    idmapped: bool
    deleted: bool
    access: list[AccessDoc]
    coverage: CoverageDoc | None


class ImpactDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What a remedy would do to somebody else."""

    who: str
    before: str
    after: str
    breaks: bool


class RemedyDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Best first.  ``where`` says what the commands are for; ``fixable`` whether ``permdoctor
    fix`` can do it.
    """

    name: str
    title: str
    commands: list[str]
    where: str
    why: str
    why_not: str
    proven: bool
    impacts: list[ImpactDoc]
    fixable: bool


class FindingDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``subject`` is an index into the report's subjects.  ``ignored`` is the reason why it counts
    for nothing, empty if it counts.
    """

    code: str
    name: str
    severity: SeverityName
    title: str
    target: str | None
    path: str
    host_path: str | None
    subject: int | None
    verdict: VerdictDoc | None
    detail: list[str]
    count: int
    samples: list[str]
    remedies: list[RemedyDoc]
    ignored: str = ""


class SkippedDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be read."""

    what: str
    reason: str
    hint: str


class ProbeDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``agrees`` is null where the kernel could not be asked."""

    target: str
    subject: int
    want: str
    predicted: str
    observed: str
    agrees: bool | None
    note: str


class ContainerDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``engine`` is its endpoint, ``error`` what it said when the container did not start."""

    name: str
    id: str
    image: str
    state: str
    pid: int | None
    exit_code: int | None
    error: str
    engine: str
    user: str


class ReportDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``judged`` is false where too much could not be read for "nothing found" to be true."""

    container: ContainerDoc
    basis: Literal["live", "predicted"]
    judged: bool
    worst: SeverityName | None
    subjects: list[SubjectDoc]
    mounts: list[MountDoc]
    findings: list[FindingDoc]
    skipped: list[SkippedDoc]
    probes: list[ProbeDoc]


class CheckDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="check"):
    """``permdoctor check --format json``."""

    schema: SchemaName
    version: str
    host: str
    reports: list[ReportDoc]
    failed: list[SkippedDoc]


class HopDoc(msgspec.Struct, frozen=True, kw_only=True):
    """One component.  Null ids have no mapping at all."""

    path: str
    mode: str
    uid: Id | None
    gid: Id | None
    link: str | None
    fstype: str
    read_only: bool


class OperationDoc(msgspec.Struct, frozen=True, kw_only=True):
    want: str
    verdict: VerdictDoc


class WalkDoc(msgspec.Struct, frozen=True, kw_only=True):
    """For one subject (an index): the walk, then the operations on the object."""

    subject: int
    hops: list[HopDoc]
    verdict: VerdictDoc | None
    operations: list[OperationDoc]


class ExplainDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="explain"):
    """``permdoctor explain --format json``."""

    schema: SchemaName
    version: str
    container: ContainerDoc
    basis: Literal["live", "predicted"]
    path: str
    host_path: str | None
    missing: str | None
    subjects: list[SubjectDoc]
    walks: list[WalkDoc]
    probes: list[ProbeDoc]
    skipped: list[SkippedDoc]


Document = CheckDoc | ExplainDoc
