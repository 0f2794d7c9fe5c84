"""A process that tells and delivers, to be killed at any moment.

``python -m tests.alerts.teller DIRECTORY URL...``: goes through problems, which fire, some of which
change, and most of which are resolved; a restart resolves what fired.  Writes before each ``tell``
what it is going to say, and after it that it was said.
"""

from __future__ import annotations

import os
import sys

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert
from permdoctor.alerts.http import parse_url
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.webhook import WebhookSink

from .build import alert, resolved


def main(directory: str, urls: list[str]) -> None:
    sinks = tuple(
        WebhookSink(name=f"hook-{n}", url=parse_url(url, "hook"), per_minute=10**6, timeout=5)
        for n, url in enumerate(urls)
    )
    box = Outbox(f"{directory}/outbox", sinks, host="h", log=lambda *_: None)
    box.start()
    journal = os.open(f"{directory}/told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    said = os.read(os.open(f"{directory}/told", os.O_RDONLY), 1 << 24).decode().split("\n")
    number = len({line.split()[1].rpartition("-")[0] for line in said if line})
    for firing in box.firing():
        _say(box, journal, resolved(firing))
    while True:
        number += 1
        of = alert(number, started=1_700_000_000.0 + number)
        _say(box, journal, of)
        for revision in range(number % 4):
            of = replace(of, count=number)
            _say(box, journal, of)
            of = replace(of, who=f"{revision}", revision=revision + 1)
            _say(box, journal, of)
        if number % 3:
            _say(box, journal, resolved(of, of.started + 1))


def _say(box: Outbox, journal: int, of: Alert) -> None:
    os.write(journal, f"will {of.id}\n".encode())
    box.tell(of)
    os.write(journal, f"told {of.id}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
