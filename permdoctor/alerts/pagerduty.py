"""PagerDuty, Events API v2: ``trigger`` and ``resolve``.

The fingerprint is the ``dedup_key``: whatever is sent twice, or comes back later, belongs to the
incident that is open.  https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from permdoctor import config
from permdoctor.alerts import http
from permdoctor.alerts.address import is_loopback
from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.document import cut, document, dump
from permdoctor.alerts.secret import Secret, read_secret
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError

ACCEPTED: Final = 202
"""The only status that means that PagerDuty, and not something before it, has taken the event."""

_SUMMARY: Final = 1024


class PagerDutySink(Struct, frozen=True, kw_only=True):
    """The ``key`` chooses PagerDuty's service."""

    name: str
    url: http.Url
    key: Secret
    context: ssl.SSLContext | None = None
    timeout: float = 10.0
    min_severity: Severity = Severity.INFO
    per_minute: int = 60
    batch: int = 1
    resend: float | None = None
    updates: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            body = dump({"routing_key": self.key.reveal(), **event(alert)}).encode("ascii")
            headers = {"Content-Type": "application/json"}
            answer = http.post(self.url, body, headers, timeout=self.timeout, context=self.context)
            http.must_accept(answer, self.url, (self.key,), only=ACCEPTED)


def configured(of: config.PagerDuty, environ: Mapping[str, str]) -> PagerDutySink:
    what = f"alerts.pagerduty {of.name}"
    url = http.parse_url(of.url, what)
    if not url.secure and not is_loopback(url.host):
        raise UsageError(f"{what}: the routing key would be sent in clear", hint="use https://")
    return PagerDutySink(
        name=of.name,
        url=url,
        key=read_secret(of.routing_key_file, of.routing_key_env, environ, what),
        context=http.trust(of.ca_file, what) if url.secure else None,
        timeout=of.timeout_seconds,
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
    )


def event(alert: Alert) -> dict[str, object]:
    """All of the event but the routing key.  A resolve needs no payload."""
    said = document(alert)
    if alert.status is AlertStatus.RESOLVED:
        return {"event_action": "resolve", "dedup_key": said.fingerprint}
    return {
        "event_action": "trigger",
        "dedup_key": said.fingerprint,
        "client": "permdoctor",
        "payload": {
            "summary": cut(f"{said.subject}: {said.title} ({said.host})", _SUMMARY),
            "source": said.host,
            "severity": said.severity,
            "timestamp": said.started,
            "component": said.subject,
            "group": said.engine,
            "class": said.code,
            "custom_details": {
                "id": said.id,
                "target": said.target,
                "host_path": said.host_path,
                "count": said.count,
                "who": said.who,
                "detail": "\n".join(said.detail),
                "remedies": "\n".join(said.remedies),
                "next_steps": "\n".join(said.next_steps),
            },
        },
    }
