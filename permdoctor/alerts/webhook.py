"""A signed webhook: a CloudEvents 1.0 envelope (structured JSON mode) by POST.

CloudEvents' ``source`` and ``id`` identify an alert: a receiver that has seen both was told again.
Its ``type`` ends in ``firing``, ``updated`` or ``resolved``.
The signature is that of Standard Webhooks (https://www.standardwebhooks.com), for which there are
verifiers in most languages::

    webhook-id:        the event's id
    webhook-timestamp: seconds since the epoch, now; a receiver refuses what is old
    webhook-signature: "v1," + base64(HMAC-SHA256(key, ID + "." + TIMESTAMP + "." + BODY))

A secret that begins with ``whsec_`` is the key in base64; any other text is the key itself.
Several lines are several keys, each with a signature (separated by spaces): for changing the key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from permdoctor import config
from permdoctor.alerts import http
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import SCHEMA_ID, document, dump, rfc3339
from permdoctor.alerts.secret import Secret, read_secret
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError

_PREFIX: Final = "whsec_"


class WebhookSink(Struct, frozen=True, kw_only=True):
    """Without a ``secret`` nothing is signed."""

    name: str
    url: http.Url
    secret: Secret | None = None
    context: ssl.SSLContext | None = None
    timeout: float = 10.0
    min_severity: Severity = Severity.INFO
    per_minute: int = 60
    clock: Callable[[], float] = time.time
    batch: int = 1
    resend: float | None = None
    updates: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            body = dump(envelope(alert)).encode("ascii")
            headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
            if self.secret is not None:
                stamp = str(int(self.clock()))
                headers |= signed(self.secret, alert.id, stamp, body)
            answer = http.post(self.url, body, headers, timeout=self.timeout, context=self.context)
            http.must_accept(answer, self.url, (self.secret,) if self.secret else ())


def configured(of: config.Webhook, environ: Mapping[str, str]) -> WebhookSink:
    what = f"alerts.webhook {of.name}"
    url = http.parse_url(of.url, what)
    secret = None
    if of.secret_file or of.secret_env:
        secret = read_secret(of.secret_file, of.secret_env, environ, what)
        if not _keys(secret):
            raise UsageError(f"{what}: the secret begins with {_PREFIX}, but no base64 follows")
    return WebhookSink(
        name=of.name,
        url=url,
        secret=secret,
        context=http.trust(of.ca_file, what) if url.secure else None,
        timeout=of.timeout_seconds,
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
    )


def envelope(alert: Alert) -> dict[str, object]:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md"""
    told = alert.started if alert.ended is None else alert.ended
    host = alert.problem.host.encode("utf-8", "surrogatepass")
    return {
        "specversion": "1.0",
        "id": alert.id,
        "source": f"/permdoctor/{quote(host, safe='')}",
        "type": f"permdoctor.alert.{'updated' if alert.update else alert.status}",
        "subject": alert.problem.fingerprint,
        "time": rfc3339(told),
        "datacontenttype": "application/json",
        "dataschema": SCHEMA_ID,
        "data": msgspec.to_builtins(document(alert)),
    }


def signed(secret: Secret, id_: str, stamp: str, body: bytes) -> dict[str, str]:
    """The three headers."""
    content = f"{id_}.{stamp}.".encode("ascii") + body
    signatures = (
        base64.b64encode(hmac.digest(key, content, "sha256")).decode("ascii")
        for key in _keys(secret)
    )
    return {
        "webhook-id": id_,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{s}" for s in signatures),
    }


def _keys(secret: Secret) -> list[bytes]:
    keys = []
    for line in secret.reveal().splitlines():
        text = line.strip()
        if not text.startswith(_PREFIX):
            keys.append(text.encode("utf-8"))
            continue
        try:
            keys.append(base64.b64decode(text.removeprefix(_PREFIX), validate=True))
        except binascii.Error:
            continue
    return [key for key in keys if key]
