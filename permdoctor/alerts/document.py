"""An alert as JSON: what the webhook, the command and the journal say, with a schema.

``alert.schema.json`` ships the schema.  Text is bounded here: a container chooses the names in it.
"""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.diagnosis.codes import CODES

SCHEMA_FILE: Final = "alert.schema.json"
SCHEMA_ID: Final = "urn:permdoctor:alert:1"

MAX_TEXT: Final = 2000
MAX_LINES: Final = 20

TOO_LONG: Final = "# a command that is too long to be shown: permdoctor check says it"
"""Instead of a shell line."""

_USUAL: Final = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
"""Where permdoctor looks by itself."""


class AlertDocument(Struct, frozen=True, kw_only=True):
    """``id`` is the same however often it is sent; ``fingerprint`` the same for every episode of
    the problem; ``revision`` counts what has changed within one.  ``container`` is empty where the
    engine is what it is about.  Times are RFC 3339 in UTC;
    ``ended`` is null while it fires.  ``remedies`` are shell lines for the host, best first;
    ``next_steps`` are commands of permdoctor: to look, to repair and take it back, to read on.
    """

    schema: Literal["permdoctor-alert/1"] = "permdoctor-alert/1"
    id: str
    fingerprint: str
    revision: int
    status: Literal["firing", "resolved"]
    severity: Literal["error", "warning", "info"]
    host: str
    engine: str
    container: str
    code: str
    name: str
    target: str
    title: str
    who: str
    detail: tuple[str, ...]
    remedies: tuple[str, ...]
    next_steps: tuple[str, ...]
    host_path: str
    count: int
    started: str
    ended: str | None

    @property
    def subject(self) -> str:
        """What it is about, in a headline."""
        return self.container or self.engine


def document(alert: Alert) -> AlertDocument:
    problem = alert.problem
    return AlertDocument(
        id=alert.id,
        fingerprint=problem.fingerprint,
        revision=alert.revision,
        status=alert.status.value,
        severity=severity_name(alert),
        host=cut(problem.host),
        engine=cut(problem.engine),
        container=cut(problem.container),
        code=problem.code,
        name=CODES[problem.code].name if problem.code in CODES else "",
        target=cut(problem.target),
        title=cut(alert.title),
        who=cut(alert.who),
        detail=lines(alert.detail),
        remedies=commands(alert.remedies),
        next_steps=commands(next_steps(alert)),
        host_path=cut(alert.host_path),
        count=alert.count,
        started=rfc3339(alert.started),
        ended=None if alert.ended is None else rfc3339(alert.ended),
    )


def next_steps(alert: Alert) -> tuple[str, ...]:
    """Lines for root's shell on the host; none when it is over, or for what has no name there."""
    name, engine, code = alert.problem.container, alert.problem.engine, alert.problem.code
    if alert.status is AlertStatus.RESOLVED or code not in CODES:
        return ()
    if not name:
        return ("permdoctor status", f"permdoctor codes {code}")
    if not name[:1].isalnum():
        return ()
    of = shlex.quote(name) if engine in _USUAL else f"{shlex.quote(name)} -H {shlex.quote(engine)}"
    look = f"permdoctor check {of} --format explain"
    repair = (
        f"permdoctor fix {of}  # the plan; --apply does it, permdoctor undo --last takes it back"
    )
    return (look, *((repair,) if alert.fixable else ()), f"permdoctor codes {code}")


def alert_json(alert: Alert) -> str:
    """One line."""
    return dump(msgspec.to_builtins(document(alert)))


def dump(value: Any) -> str:
    """One line of ASCII: lone surrogates, which msgspec refuses, are JSON's to escape."""
    return json.dumps(value, separators=(",", ":"))


def schema_text() -> str:
    """What ``alert.schema.json`` holds (JSON Schema 2020-12)."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "permdoctor alert, version 1",
        **msgspec.json.schema(AlertDocument),
    }
    return json.dumps(schema, indent=2) + "\n"


def severity_name(alert: Alert) -> Literal["error", "warning", "info"]:
    names: tuple[Literal["info", "warning", "error"], ...] = ("info", "warning", "error")
    return names[alert.severity - 1]


def rfc3339(epoch: float) -> str:
    """Milliseconds, in UTC."""
    text = datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def lines(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Not too many; the last one says how many are missing."""
    if len(texts) <= MAX_LINES:
        return tuple(cut(t) for t in texts)
    kept = tuple(cut(t) for t in texts[: MAX_LINES - 1])
    return (*kept, f"... and {len(texts) - len(kept)} more")


def commands(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Shell lines: whole ones, for a part of one may be another command."""
    return lines(tuple(t if len(t) <= MAX_TEXT else TOO_LONG for t in texts))


def cut(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
