"""What the service answers on its unix socket, to whom its group lets in.  It changes nothing.

GET /v1/status, /v1/findings (?container=GLOB&code=CODE&ignored=1) and /v1/check/NAME, as JSON:
``render/service_document.py`` and, for a check, ``render/document.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from permdoctor.alerts.courier import Counters
from permdoctor.daemon.state import State
from permdoctor.diagnosis.report import CheckResult


class Facts(Struct, frozen=True, kw_only=True):
    """What the state does not say.  ``started`` is seconds since the epoch; ``config_error`` is
    why the configuration in the files is not in force (empty: it is).
    """

    host: str
    started: float
    config_error: str = ""
    sinks: Mapping[str, Counters] = {}
    waiting: Mapping[str, int] = {}


class StatusServer:
    """``group`` is a name or number; empty: root alone.  ``state``, ``facts`` and ``check`` are
    called in the server's threads.  ``check`` judges the container of a name or id as the service
    would, and raises ``PermdoctorError`` where it cannot; one that takes too long is left alone.
    """

    def __init__(
        self,
        path: str,
        group: str,
        state: Callable[[], State],
        check: Callable[[str], CheckResult],
        facts: Callable[[], Facts],
    ) -> None: ...

    def start(self) -> None:
        """Raises ``UsageError`` or ``CannotCheckError`` where the socket cannot be made."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
