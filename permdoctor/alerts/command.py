"""A command: a program of the administrator's, with the alert's JSON as one line on its stdin.

Exit status 0: told.  65 (EX_DATAERR of sysexits.h): never tell this one again.  Any other: again
later.  In its environment are ``PERMDOCTOR_ALERT_ID``, ``_STATUS`` and ``_SEVERITY``, a plain
``PATH`` and ``LC_ALL``; nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from permdoctor import config
from permdoctor.alerts import child
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import alert_json, severity_name
from permdoctor.alerts.sink import RetryError, UndeliverableError
from permdoctor.diagnosis.report import Severity
from permdoctor.kernel.text import printable

_EXCERPT = 200


class CommandSink(Struct, frozen=True, kw_only=True):
    """``argv`` begins with an absolute path."""

    name: str
    argv: tuple[str, ...]
    timeout: float = 10.0
    min_severity: Severity = Severity.INFO
    per_minute: int = 60
    batch: int = 1
    resend: float | None = None
    updates: bool = False

    def send(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            environ = {
                "PERMDOCTOR_ALERT_ID": alert.id,
                "PERMDOCTOR_ALERT_STATUS": alert.status.value,
                "PERMDOCTOR_ALERT_SEVERITY": severity_name(alert),
            }
            text = alert_json(alert).encode("ascii") + b"\n"
            ended = child.run(self.argv, text, environ, timeout=self.timeout)
            if ended.status == 0:
                continue
            says = printable(ended.said.decode("utf-8", "replace").strip())[:_EXCERPT]
            how = f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}"
            why = f"{printable(self.argv[0])}: {how}" + (f": {says}" if says else "")
            raise (UndeliverableError if ended.status == os.EX_DATAERR else RetryError)(why)


def configured(of: config.Command) -> CommandSink:
    return CommandSink(
        name=of.name,
        argv=of.argv,
        timeout=of.timeout_seconds,
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
    )
