"""The journal: one entry an alert, with fields of its own, over journald's native protocol.

``journalctl PERMDOCTOR_CONTAINER=trainer`` or ``journalctl MESSAGE_ID=...`` finds them.
https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from permdoctor import config
from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.alerts.document import document
from permdoctor.alerts.sink import RetryError
from permdoctor.diagnosis.report import Severity

SOCKET: Final = "/run/systemd/journal/socket"
MESSAGE_ID: Final = "5d8f1c0b7a0e4f0c9a7d3e64b1f2a6c8"
"""Of every alert, for ``journalctl`` and catalogues (systemd.journal-fields(7))."""

_TIMEOUT: Final = 5.0
_NOTICE: Final = 5
_PRIORITIES: Final = {Severity.ERROR: 3, Severity.WARNING: 4, Severity.INFO: 6}


class JournaldSink(Struct, frozen=True, kw_only=True):
    name: str
    path: str = SOCKET
    min_severity: Severity = Severity.INFO
    per_minute: int = 60
    batch: int = 1
    resend: float | None = None
    updates: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                sock.settimeout(_TIMEOUT)
                sock.connect(self.path)
                for alert in alerts:
                    sock.sendall(entry(fields(alert)))
        except TimeoutError:
            raise RetryError(f"{self.path}: journald does not read") from None
        except OSError as e:
            raise RetryError(f"{self.path}: {e.strerror}") from None


def configured(of: config.Journald) -> JournaldSink:
    return JournaldSink(
        name=of.name,
        min_severity=Severity[of.min_severity.upper()],
        per_minute=of.per_minute,
    )


def fields(alert: Alert) -> list[tuple[str, str]]:
    """Names and values, as systemd.journal-fields(7) has them."""
    said = document(alert)
    resolved = alert.status is AlertStatus.RESOLVED
    news = "resolved: " if resolved else "changed: " if alert.update else ""
    own = {
        "ALERT_ID": said.id,
        "FINGERPRINT": said.fingerprint,
        "STATUS": said.status,
        "SEVERITY": said.severity,
        "CODE": said.code,
        "HOST": said.host,
        "ENGINE": said.engine,
        "CONTAINER": said.container,
        "TARGET": said.target,
        "HOST_PATH": said.host_path,
        "COUNT": str(said.count),
        "WHO": said.who,
        "DETAIL": "\n".join(said.detail),
        "REMEDIES": "\n".join(said.remedies),
        "NEXT_STEPS": "\n".join(said.next_steps),
    }
    return [
        ("MESSAGE", f"{said.subject}: {news}{said.title} ({said.code})"),
        ("PRIORITY", str(_NOTICE if resolved else _PRIORITIES[alert.severity])),
        ("SYSLOG_IDENTIFIER", "permdoctor"),
        ("MESSAGE_ID", MESSAGE_ID),
        *((f"PERMDOCTOR_{name}", value) for name, value in own.items() if value),
    ]


def entry(named: Iterable[tuple[str, str]]) -> bytes:
    """One entry.  A value of several lines goes with its length (64 bits, little endian)."""
    data = b""
    for name, value in named:
        raw = value.encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            data += name.encode("ascii") + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
        else:
            data += name.encode("ascii") + b"=" + raw + b"\n"
    return data
