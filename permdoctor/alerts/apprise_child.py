"""What runs as a process of its own for one message through apprise.

Reads ``{"urls": [...], "title", "body", "kind"}`` from stdin.  Exit status 0: each URL's service
has taken it; else: not now.  On stderr one line that says why, without URLs: apprise's own words
may hold them and are not repeated.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any, Final

from permdoctor.alerts.address import refusal

FAILED: Final = 1

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


def _no_redirects() -> None:
    import requests

    requests.Session.get_redirect_target = lambda self, resp: None  # type: ignore[method-assign]


def main() -> int:
    asked = json.loads(sys.stdin.buffer.read())
    logging.disable(logging.CRITICAL)
    sys.addaudithook(_guard)
    import apprise

    _no_redirects()
    services = apprise.Apprise()
    for number, url in enumerate(asked["urls"], 1):
        if not services.add(url):
            print(f"URL {number} is none that apprise knows", file=sys.stderr)
            return FAILED
    taken = services.notify(
        body=asked["body"],
        title=asked["title"],
        notify_type=apprise.NotifyType(asked["kind"]),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if taken:
        return os.EX_OK
    why = _refused[0] if _refused else "the service did not take it"
    print(why, file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    try:
        status = main()
    except Exception as e:  # noqa: BLE001 - a traceback could hold a URL
        print(f"{type(e).__name__} in apprise", file=sys.stderr)
        status = FAILED
    sys.exit(status)
