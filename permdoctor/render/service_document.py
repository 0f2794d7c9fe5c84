"""What the service answers, as JSON documents: the types that the schema is generated from.

Stable, as ``document.py`` is: ``permdoctor-service/1``.  A check is answered with ``document.py``'s
own.  Times are RFC 3339 in UTC.  Texts hold no control characters; ``container``, ``target`` and
``host_path`` are escaped as everywhere.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from permdoctor.render.document import SeverityName

SchemaName = Literal["permdoctor-service/1"]
SCHEMA: Final[SchemaName] = "permdoctor-service/1"


class EngineDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``why`` it is not connected.  ``swept``: when everything on it was last listed."""

    endpoint: str
    connected: bool
    why: str
    since: str
    swept: str | None


class ContainersDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Those that are ``running``, and those that should and are not (``down``: crash loops, starts
    that the engine refused).  Of both: not judged since their start, and with a last check without
    a result.  ``left_out`` are beyond the service's limit, and in none of these.
    """

    running: int
    down: int
    unjudged: int
    failing: int
    left_out: int


class CountsDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Findings by severity, without those that are ignored."""

    error: int
    warning: int
    info: int
    ignored: int


class ChecksDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Those that workers make now, and those that are due and wait for one."""

    running: int
    waiting: int


class WatchDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Mounted host paths that are watched with the directories in them, and those that are not.
    ``directories`` are under watch.  ``why`` some of the paths cannot be: who mounts these is
    judged at each sweep.
    """

    roots: int
    unwatched: int
    directories: int = 0
    why: str = ""


class SinkDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the service's start; ``last_error`` is empty if the last attempt went well."""

    name: str
    waiting: int
    sent: int
    failed: int
    dropped: int
    last_error: str


class StatusDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="status"):
    """``permdoctor status --format json``.  ``started`` is the service's start; ``config_error``
    why the configuration in the files is not in force; ``troubles`` what else is wrong with the
    service itself; ``repairs`` of the last hour.
    """

    schema: SchemaName
    version: str
    host: str
    time: str
    started: str
    config_error: str
    engines: list[EngineDoc]
    containers: ContainersDoc
    findings: CountsDoc
    firing: int
    sinks: list[SinkDoc]
    checks: ChecksDoc
    watch: WatchDoc
    repairs: int
    troubles: list[str] = []


class KnownFindingDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``since`` when it is known, for ``seconds`` now; ``told``: people have been alerted.
    ``ignored`` is the reason of the rule by which it is not told, empty if there is none.
    ``repair`` is why it is not repaired unasked although something is allowed for this container
    (``waits: ...``, ``not done: ...``); empty if there is nothing to say.
    """

    engine: str
    container: str
    id: str
    code: str
    name: str
    severity: SeverityName
    title: str
    target: str
    host_path: str
    count: int
    detail: list[str]
    remedies: list[str]
    since: str
    told: bool
    ignored: str
    seconds: float = 0.0
    repair: str = ""


class UnjudgedDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A running container of which the service cannot say what it may do, and why."""

    engine: str
    container: str
    why: str


class FindingsDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="findings"):
    """``permdoctor findings --format json``.  ``ignored`` findings match and are not listed, as
    nobody asked for them; ``left_out`` are beyond the most that are listed.  ``away`` are the
    engines that do not answer: of their containers nothing newer is known.
    """

    schema: SchemaName
    version: str
    host: str
    time: str
    containers: int
    findings: list[KnownFindingDoc]
    ignored: int
    left_out: int
    unjudged: list[UnjudgedDoc]
    away: list[str]


class SpanDoc(msgspec.Struct, frozen=True, kw_only=True):
    """``style`` as ``layout.Style``."""

    text: str
    style: str


class LineDoc(msgspec.Struct, frozen=True, kw_only=True):
    spans: list[SpanDoc]
    indent: int
    hang: int
    verbatim: bool


class ViewDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="view"):
    """A check as lines for a person.  ``complete`` is false where something could not be checked,
    ``worst`` null where nothing was found.
    """

    schema: SchemaName
    version: str
    worst: SeverityName | None
    complete: bool
    lines: list[LineDoc]


class ErrorDoc(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="error"):
    """Why there is no answer.  ``usage``: what was asked for does not make sense."""

    schema: SchemaName
    error: str
    hint: str
    usage: bool


Document = StatusDoc | FindingsDoc | ViewDoc | ErrorDoc
