"""apprise: chat, mail and 170 other services (the extra ``service``).

It runs as a process of its own for each message (``apprise_child.py``): apprise brings its own
HTTP clients, mail and more, so that only there its connections can be held to the promises of all
sinks - no link-local or metadata address, no redirect, an end after so many seconds - and the
service does not carry its 50 MB.  Its URLs are secrets as a whole; the child gets them on stdin.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

import permdoctor
from permdoctor import config
from permdoctor.alerts import child
from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.document import document, dump
from permdoctor.alerts.secret import Secret, hide, read_secret
from permdoctor.alerts.sink import RetryError
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

TIMEOUT: Final = 30.0
"""Seconds for one message, the child's start included."""

_EXCERPT: Final = 200
_MOST_TAKEN: Final = 4096
_KINDS: Final = {Severity.ERROR: "failure", Severity.WARNING: "warning", Severity.INFO: "info"}


class AppriseSink(Struct, frozen=True, kw_only=True):
    """``urls``: one a line.  ``taken``: which alerts, by id, which of them has, and another not."""

    name: str
    urls: Secret
    timeout: float = TIMEOUT
    min_severity: Severity = Severity.INFO
    per_minute: int = 60
    batch: int = 1
    resend: float | None = None
    updates: bool = False
    taken: set[tuple[str, int]] = field(default_factory=set)

    def send(self, alerts: Sequence[Alert]) -> None:
        """To each URL; where one fails, what is tried again is that one."""
        for alert in alerts:
            urls = self.urls.reveal().split()
            failures = [f for n, url in enumerate(urls, 1) if (f := self._failure(alert, n, url))]
            if failures:
                raise RetryError(f"apprise: {'; '.join(failures)}")
            self.taken.difference_update((alert.id, n) for n, _ in enumerate(urls, 1))

    def _failure(self, alert: Alert, number: int, url: str) -> str:
        """Why it has not taken it; empty: it has, now or before."""
        if (alert.id, number) in self.taken:
            return ""
        here = os.path.dirname(os.path.dirname(os.path.abspath(permdoctor.__file__)))
        argv = (sys.executable, "-P", "-m", "permdoctor.alerts.apprise_child")
        asked = dump({"url": url, **message(alert)}).encode("ascii")
        environ = {"PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            ended = child.run(argv, asked, environ, timeout=self.timeout)
        except RetryError as e:
            return f"URL {number}: {e.message}"
        if ended.status:
            says = hide(ended.said.decode("utf-8", "replace").strip(), (self.urls,))
            return f"URL {number}: {printable(says)[:_EXCERPT] or f'status {ended.status}'}"
        if len(self.taken) >= _MOST_TAKEN:
            self.taken.clear()
        self.taken.add((alert.id, number))
        return ""


def configured(of: config.Apprise, environ: Mapping[str, str]) -> AppriseSink:
    what = f"alerts.apprise {of.name}"
    if importlib.util.find_spec("apprise") is None:
        raise UsageError(
            f"{what}: apprise is not installed", hint="pip install 'permdoctor[service]'"
        )
    return AppriseSink(
        name=of.name,
        urls=read_secret(of.url_file, of.url_env, environ, what),
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
    )


def message(alert: Alert) -> dict[str, str]:
    """A title of one line, a text, and apprise's kind."""
    said = document(alert)
    resolved = alert.status is AlertStatus.RESOLVED
    head = "Resolved" if resolved else said.severity.capitalize()
    text = [
        f"Host {said.host}, {'container' if said.container else 'engine'} {said.subject}"
        + (f", mount {said.target}" if said.target else ""),
        *(() if resolved or not said.who else (f"Who: {said.who}",)),
        *(() if resolved else said.detail),
        *(() if resolved or not said.remedies else ("", "What helps:", *said.remedies)),
        *(() if not said.next_steps else ("", "On the host:", *said.next_steps)),
        "",
        f"{said.code}, since {said.started}" + (f", until {said.ended}" if said.ended else ""),
    ]
    return {
        "title": f"{head}: {said.subject}: {said.title}",
        "body": "\n".join(text),
        "kind": "success" if resolved else _KINDS[alert.severity],
    }
