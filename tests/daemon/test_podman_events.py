"""What Podman's compatible socket sends, and what is made of it.

The actions and their order are those that Podman 4.3 was seen to send; the rest of each event is
written here.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from permdoctor.daemon.events import Action, Connected, Happened
from permdoctor.daemon.inbox import Inbox
from permdoctor.daemon.source import Source
from permdoctor.engines.endpoints import find_endpoints
from tests.daemon.engine import StandIn
from tests.lab.patience import until

ID = "05ffdc5e17aea715dfb31dcc49d0eb550d5deea888a9b4a4ae0fcbd1a21befae"

RECORDED: list[tuple[str, Action | None]] = [
    ("create", Action.CREATE),
    ("init", None),
    ("start", Action.START),
    ("exec", Action.CHANGE),
    ("exec_died", Action.CHANGE),
    ("pause", None),
    ("unpause", Action.CHANGE),
    ("rename", Action.CHANGE),
    # docker restart: said before it is done
    ("restart", Action.CHANGE),
    ("stop", None),
    ("die", Action.STOP),
    ("init", None),
    ("start", Action.START),
    ("exec", Action.CHANGE),
    # docker kill: a session ends after its container
    ("kill", None),
    ("die", Action.STOP),
    ("exec_died", None),
    ("cleanup", None),
    # docker start of what is stopped, and docker rm -f
    ("restart", None),
    ("start", Action.START),
    ("remove", Action.GONE),
]


def line(status: str) -> bytes:
    attributes = {
        "a": "b", "containerExitCode": "0", "image": "docker.io/library/lab:1", "name": "box1",
        "podId": "",
    }  # fmt: skip
    if status == "die":
        attributes |= {"exitCode": "137"}
    at = time.time_ns()
    event = {
        "status": status, "id": ID, "from": "docker.io/library/lab:1", "Type": "container",
        "Action": status, "Actor": {"ID": ID, "Attributes": attributes}, "scope": "local",
        "time": at // 10**9, "timeNano": at,
    }  # fmt: skip
    return json.dumps(event).encode()


def test_what_podman_says(tmp_path: Path) -> None:
    inbox = Inbox(100)
    events: list[object] = []

    def happened() -> list[Happened]:
        events.extend(inbox.take(100))
        return [e for e in events if isinstance(e, Happened)]

    with StandIn(tmp_path / "podman.sock") as engine:
        source = Source(find_endpoints([engine.host], {})[0], inbox)
        source.start()
        try:
            until(lambda: happened() or any(isinstance(e, Connected) for e in events))
            for status, _ in RECORDED:
                engine.raw(line(status))
            until(lambda: any(h.action is Action.GONE for h in happened()))
        finally:
            source.stop()
            assert source.join(60)
    assert [h.action for h in happened()] == [a for _, a in RECORDED if a is not None]
    assert {h.container.ref.id for h in happened()} == {ID}
    assert {h.container.labels for h in happened()} == {(("a", "b"),)}
