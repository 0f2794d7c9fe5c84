"""What the service repaired before it was started again, from journals as they lie on the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from permdoctor.daemon.events import PastRepair
from permdoctor.daemon.past import past_repairs
from permdoctor.diagnosis.plan import Outcome
from permdoctor.repair.files import store
from permdoctor.repair.journal import About, Unasked

NOW = 1_700_000_000.0
WHAT = Unasked(engine="unix:///run/docker.sock", code="PD101", target="/data")


def journal(state: Path, ago: float, outcome: Outcome | None, **more: Any) -> str:
    id_ = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(NOW - ago)) + "3f2a"
    fields = {"container": "c", "remedies": ("acl-user",), "roots": (b"/srv/x",), "unasked": WHAT}
    about = About(kind="repair", host="h", started=NOW - ago, **(fields | more))
    directory = state / "journal" / id_
    directory.mkdir(parents=True)
    (directory / "marks").touch()
    said = msgspec.to_builtins(about, builtin_types=(bytes,))
    if more.get("unasked", WHAT) is None:
        del said["unasked"]  # as it was written before the key was there
    store(str(directory), "about", said)
    if outcome is not None:
        store(str(directory), "outcome", outcome)
    return id_


def test_the_service_repairs_of_an_hour(tmp_path: Path) -> None:
    done = journal(tmp_path, 10, Outcome(planned=3, applied=3))
    nothing = journal(tmp_path, 20, Outcome(planned=3, applied=0, stopped="EIO"))
    killed = journal(tmp_path, 30, None, container="a\nb")
    journal(tmp_path, 40, Outcome(planned=1, applied=1), unasked=None)
    journal(tmp_path, 3601, Outcome(planned=1, applied=1))
    broken = journal(tmp_path, 50, Outcome(planned=1, applied=1))
    (tmp_path / "journal" / broken / "about").write_bytes(b"nonsense")
    same = {"engine": WHAT.engine, "code": "PD101", "target": "/data", "remedy": "acl-user"}

    def repair(ago: float, id_: str, **more: Any) -> PastRepair:
        fields = {"container": "c", "path": b"/srv/x", **same, **more}
        return PastRepair(at=NOW - ago, id=id_, **fields)

    assert past_repairs(str(tmp_path), NOW - 3600) == (
        repair(30, killed, applied=1, failed="it was interrupted", container="a\\x0ab"),
        repair(20, nothing, applied=0, failed="EIO"),
        repair(10, done, applied=3),
    )


def test_nothing_was_ever_repaired(tmp_path: Path) -> None:
    assert past_repairs(str(tmp_path), 0) == ()
