"""Prometheus Alertmanager, API v2.

An alert fires there until its ``endsAt``: what still fires is sent again every ``resend`` seconds
with an ``endsAt`` of three and a half times that, so that two lost rounds do no harm and a service
that is gone for good is noticed.  Several URLs are the members of a cluster, which agree among
themselves on who notifies but not on alerts: each is sent everything, at the same time, and one
that took it is enough.  Labels identify an alert there: they hold what is in the fingerprint, and
the severity, because people are chosen by it; what becomes more severe is another alert there, and
the milder one ends with its ``endsAt``.  Sentences are annotations.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec import Struct, field

from permdoctor import config
from permdoctor.alerts import http
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import cut, document, dump, rfc3339
from permdoctor.alerts.sink import DeliveryError, RetryError
from permdoctor.diagnosis.report import Severity

ENDS_AFTER: Final = 3.5
"""In intervals of ``resend``."""

_LOG: Final = logging.getLogger("permdoctor.alerts")
_PATH: Final = "/api/v2/alerts"


class AlertmanagerSink(Struct, frozen=True, kw_only=True):
    """``urls`` are those of the API's resource.  ``away`` are members of a cluster that took
    nothing the last time, and why: the others may, and then nobody else says so.
    """

    name: str
    urls: tuple[http.Url, ...]
    resend: float = 60.0
    context: ssl.SSLContext | None = None
    timeout: float = 10.0
    min_severity: Severity = Severity.INFO
    per_minute: int = 60
    clock: Callable[[], float] = time.time
    batch: int = 64
    updates: bool = True
    labels: tuple[tuple[str, str], ...] = ()
    away: dict[str, str] = field(default_factory=dict)

    def send(self, alerts: Sequence[Alert]) -> None:
        """Raises if no member took it; what may be tried again wins over a refusal."""
        ends = self.clock() + ENDS_AFTER * self.resend
        body = dump([posted(alert, ends, self.labels) for alert in alerts]).encode("ascii")
        if len(self.urls) == 1:
            self._post(self.urls[0], body)
            return
        with ThreadPoolExecutor(len(self.urls), "permdoctor-alertmanager") as pool:
            outcomes = list(pool.map(lambda url: self._failure(url, body), self.urls))
        failures = [o for o in outcomes if o is not None]
        if len(failures) == len(self.urls):
            raise next((f for f in failures if isinstance(f, RetryError)), failures[0])

    def _failure(self, url: http.Url, body: bytes) -> DeliveryError | None:
        where = url.shown
        try:
            self._post(url, body)
        except DeliveryError as e:
            if where not in self.away:
                _LOG.warning("sink %s: a member of the cluster takes nothing: %s", self.name, e)
            self.away[where] = str(e)
            return e
        if self.away.pop(where, None) is not None:
            _LOG.info("sink %s: the member %s takes alerts again", self.name, where)
        return None

    def _post(self, url: http.Url, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        answer = http.post(url, body, headers, timeout=self.timeout, context=self.context)
        http.must_accept(answer, url)


def configured(of: config.Alertmanager) -> AlertmanagerSink:
    what = f"alerts.alertmanager {of.name}"
    urls = tuple(http.parse_url(u.rstrip("/").removesuffix(_PATH) + _PATH, what) for u in of.urls)
    return AlertmanagerSink(
        name=of.name,
        urls=urls,
        resend=of.resend_seconds,
        context=http.trust(of.ca_file, what) if any(u.secure for u in urls) else None,
        timeout=of.timeout_seconds,
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
        labels=tuple((name, value) for name, _, value in (x.partition("=") for x in of.labels)),
    )


def posted(alert: Alert, ends: float, more: Sequence[tuple[str, str]] = ()) -> dict[str, object]:
    """A ``postableAlert`` of Alertmanager's openapi.yaml.  ``ends``: when to take it for resolved
    if nothing more is heard, seconds since the epoch.  ``more`` are further labels.
    """
    said = document(alert)
    labels = {
        "alertname": "Permdoctor" + said.name.title().replace("-", ""),
        "code": said.code,
        "severity": said.severity,
        "host": said.host,
        "engine": said.engine,
        "container": said.container,
        "target": said.target,
        **dict(more),
    }
    annotations = {
        "summary": said.title,
        "who": said.who,
        "description": "\n".join(said.detail),
        "remedies": "\n".join(said.remedies),
        "next_steps": "\n".join(said.next_steps),
        "host_path": said.host_path,
        "count": str(said.count),
        "id": said.id,
        "fingerprint": said.fingerprint,
    }
    until = ends if alert.ended is None else max(alert.ended, alert.started)
    return {
        "labels": {k: cut(v) for k, v in labels.items() if v},
        "annotations": {k: v for k, v in annotations.items() if v},
        "startsAt": rfc3339(alert.started),
        "endsAt": rfc3339(until),
    }
