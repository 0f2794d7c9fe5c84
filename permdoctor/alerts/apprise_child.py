"""What runs as a process of its own for one message through apprise.

Reads ``{"url", "title", "body", "kind"}`` from stdin.  Exit status 0: the URL's service has taken
it; else: not now.  On stderr one line that says why, without URLs: apprise's own words
may hold them, and only an HTTP status is taken from them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import Any, Final

from permdoctor.alerts.address import refusal

FAILED: Final = 1

_HTTP: Final = re.compile(r"\berror=([1-5][0-9]{2})\b")

_refused: list[str] = []


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578): CPython asks it before each connect(2) and sendto(2), with the
    very address.  A name in its place would be looked up behind our back, and is refused, too.
    """
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return
    address = arguments[1]
    if not isinstance(address, tuple) or not (why := refusal(str(address[0]))):
        return
    _refused.append(f"an address is {why}: not connected")
    raise OSError(_refused[-1])


class _Heard(logging.Handler):
    """What apprise logs, as far as it can be repeated."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.why: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - apprise's slip is no reason not to send
            return
        if (status := _HTTP.search(text)) is not None:
            self.why.append(f"HTTP {status[1]}")
        elif "onnection error" in text:
            self.why.append("no connection")


def _listen() -> _Heard:
    """To apprise; nobody's words go anywhere else."""
    heard = _Heard()
    logging.getLogger().handlers = [logging.NullHandler()]
    apprises = logging.getLogger("apprise")
    apprises.handlers, apprises.propagate = [heard], False
    return heard


def _no_redirects() -> None:
    import requests

    requests.Session.get_redirect_target = lambda self, resp: None  # type: ignore[method-assign]


def main() -> int:
    asked = json.loads(sys.stdin.buffer.read())
    sys.addaudithook(_guard)
    import apprise

    heard = _listen()
    _no_redirects()
    services = apprise.Apprise()
    if not services.add(asked["url"]):
        print("the URL is none that apprise knows", file=sys.stderr)
        return FAILED
    taken = services.notify(
        body=asked["body"],
        title=asked["title"],
        notify_type=apprise.NotifyType(asked["kind"]),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if taken:
        return os.EX_OK
    reasons = ", ".join(dict.fromkeys(heard.why))
    silent = (
        f"the service did not take it ({reasons})" if reasons else "the service did not take it"
    )
    print(_refused[0] if _refused else silent, file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    try:
        status = main()
    except Exception as e:  # noqa: BLE001 - a traceback could hold a URL
        print(f"{type(e).__name__} in apprise", file=sys.stderr)
        status = FAILED
    sys.exit(status)
