"""A container with a mount whose filesystem never answers, and the service."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from permdoctor.app.check import CheckRequest, check
from permdoctor.config import Check, Config
from permdoctor.container.needs import Need
from tests.alerts.receiver import Receiver, answer
from tests.daemon.engine import StandIn
from tests.daemon.scene import REFUSED, UID
from tests.daemon.service import Service
from tests.lab.lab import Lab
from tests.lab.needs import MissingError, need_tools
from tests.lab.patience import until, within
from tests.lab.silent import silent_fuse


@contextmanager
def process(lab: Lab, data: Path, dead: Path) -> Iterator[int]:
    """Of ``UID``, with two mounts."""
    need_tools("busybox", "unshare")
    root = lab.directory()
    for name in ("data", "dead"):
        (root / name).mkdir()
    shutil.copy(shutil.which("busybox") or "", root / "busybox")
    script = (
        f"mount --bind {root} {root} && mount --bind {data} {root}/data && "
        f"mount --bind {dead} {root}/dead && "
        f"exec chroot --userspec={UID}:{UID} --groups={UID} {root} /busybox sleep 600"
    )
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    made = subprocess.Popen(argv)
    try:
        while b"sleep\0" not in Path(f"/proc/{made.pid}/cmdline").read_bytes():
            assert made.poll() is None
            time.sleep(0.01)
        yield made.pid
    finally:
        made.kill()
        made.wait()


def mounts(data: Path, dead: Path) -> list[dict[str, Any]]:
    return [
        {"Type": "bind", "Source": str(source), "Destination": target, "RW": True, "Mode": ""}
        for target, source in (("/data", data), ("/dead", dead))
    ]


def test_what_is_known_is_told_and_nothing_is_resolved(lab: Lab, tmp_path: Path) -> None:
    """/dead was refused before it died; what happens at /data meanwhile is found all the same."""
    closed, mine, silent = lab.directory(0, 0), lab.directory(UID, UID), lab.directory()
    receiver = Receiver(answer(200))
    more = f"""
        [check]
        deadline_seconds = 1.5
        [[alerts.webhook]]
        url = "{receiver.url}/"
        per_minute = 6000
        """

    def alerts() -> set[tuple[str, str, str]]:
        """(code, target, status) of all that were ever told."""
        told = [r.json["data"] for r in list(receiver.requests)]
        return {(a["code"], a["target"], a["status"]) for a in told}

    with StandIn(tmp_path / "engine.sock") as engine:
        service = Service(tmp_path / "service", engine.host, more=more).start()
        try:
            with process(lab, mine, closed) as pid:
                fake = engine.add("one", pid, mounts=mounts(mine, closed))
                engine.start(fake)
                before = {(REFUSED, "/dead", "firing")}
                until(lambda: alerts() == before, seconds=60, say=lambda: service.log)
                engine.die(fake)
            with silent_fuse(str(silent)), process(lab, closed, silent) as pid:
                fake.pid, fake.mounts = pid, mounts(closed, silent)
                engine.start(fake)
                now = before | {(REFUSED, "/data", "firing"), ("PD403", "/dead", "firing")}
                until(lambda: alerts() == now, seconds=60, say=lambda: service.log)
                assert service.findings() == {("one", REFUSED), ("one", "PD403")}
                containers = service.get("/v1/status")["containers"]
                assert (containers["unjudged"], containers["failing"]) == (0, 0)
                engine.die(fake)
            with process(lab, mine, mine) as pid:
                fake.pid, fake.mounts = pid, mounts(mine, mine)
                engine.start(fake)
                after = {(code, target, "resolved") for code, target, _ in now}
                until(lambda: alerts() == now | after, seconds=60, say=lambda: service.log)
        except MissingError as e:
            pytest.skip(str(e))
        finally:
            service.stop()
            receiver.close()


def test_what_is_needed_there_is_not_waited_for(lab: Lab) -> None:
    """Once for the mount, not once for each path on it that a variable or a label names."""
    mine, silent = lab.directory(UID, UID), lab.directory()
    needs = tuple((f"/dead/{n}".encode(), Need.WRITE) for n in range(40))
    config = Config(check=Check(deadline_seconds=1))
    try:
        with silent_fuse(str(silent)), process(lab, mine, silent) as pid, within(30):
            result = check(CheckRequest(pid=(pid,), needs=needs, config=config))
    except MissingError as e:
        pytest.skip(str(e))
    [report] = result.reports
    assert [s.what for s in report.skipped] == ["mount /dead (fuse)"]
