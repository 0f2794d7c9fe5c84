"""A command: a program of the administrator's, with the alert's JSON as one line on its stdin.

Exit status 0: told.  65 (EX_DATAERR of sysexits.h): never tell this one again.  Any other: again
later.  In its environment are ``PERMDOCTOR_ALERT_ID``, ``_STATUS`` and ``_SEVERITY``, a plain
``PATH`` and ``LC_ALL``; nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from msgspec import Struct

from permdoctor import config
from permdoctor.alerts import child
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import alert_json, severity_name
from permdoctor.alerts.sink import RetryError, UndeliverableError
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError
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
    """Raises ``UsageError`` for a program that others decide on, where root would run it."""
    if os.geteuid() == 0:
        _need_roots(of.argv[0], f"alerts.command {of.name}")
    return CommandSink(
        name=of.name,
        argv=of.argv,
        timeout=of.timeout_seconds,
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
    )


def _need_roots(program: str, what: str) -> None:
    """Neither the program nor a directory above it may be another's, or writable by others; in one
    with the sticky bit nobody replaces root's.
    """
    for path in {os.path.abspath(program), os.path.realpath(program)}:
        at = path
        while True:
            _need_root(at, printable(path), what)
            if at == "/":
                break
            at = os.path.dirname(at)


def _need_root(at: str, program: str, what: str) -> None:
    try:
        status = os.stat(at)
    except OSError:
        return  # starting it says why
    open_to_all = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_uid == 0 and (not open_to_all or sticky):
        return
    whose = f"belongs to uid {status.st_uid}" if status.st_uid else "may be written by others"
    raise UsageError(
        f"{what}: {program} would be run as root, and {printable(at)} {whose}",
        hint=f"chown root {printable(at)}; chmod go-w {printable(at)}",
    )
