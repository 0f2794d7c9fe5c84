"""How soon the service knows: from the engine's ``start`` event to the finding; and what it costs
when nothing happens.

A burst: containers that a mount refuses something are started at once, by as many ``docker start``
as there are processors; for each the time of the engine's event (``timeNano``) is set against the
service's log line.  Idle: all run, nobody does anything but the service, with two sweeps; CPU of it
and of everybody whom it started, those that have ended too, by a control group's count; memory as
the sum of their proportional set sizes.  Needs root, docker.io and cgroup v2 (a hybrid hierarchy
will do).

    python -m benchmarks.serve [--containers N] [--idle SECONDS]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from tests.daemon.scene import REFUSED, UID
from tests.daemon.service import Service
from tests.lab import engine as engines
from tests.lab.engine import Engine
from tests.lab.lab import Lab
from tests.lab.patience import until

P50_GOAL, P95_GOAL = 0.060, 0.250
MEMORY_GOAL, CPU_GOAL = 64.0, 0.002


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--idle", type=float, default=120.0)
    options = parser.parse_args()
    lab = Lab().open()
    engine = engines.start_docker(lab.root / "plain", lab.image)
    group = Group()
    with tempfile.TemporaryDirectory() as base:
        service = Service(Path(base) / "service", engine.host, service="settle_seconds = 30")
        service.config.write_text(CONFIG.format(base=service.base))
        try:
            good = burst(engine, service.start(group.enter), lab, options.containers)
            good &= idle(service, group, options.idle)
        finally:
            service.stop()
            group.close()
            engine.stop()
            lab.close()
    return 0 if good else 1


CONFIG = """
[service]
socket = "{base}/status.sock"
sweep_seconds = 60
[repair]
state = "{base}/state"
[metrics]
listen = "127.0.0.1:19478"
[log]
format = "logfmt"
"""


def burst(engine: Engine, service: Service, lab: Lab, count: int) -> bool:
    made = [
        engine.create("-u", f"{UID}:{UID}", "-v", f"{lab.directory()}:/data", name=f"trainer{n}")
        for n in range(count)
    ]
    until(lambda: "engine connected" in service.log)
    events = Events(engine)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda box: engine.docker("start", box.id), made))
    until(lambda: service.log.count("problem found") >= count, seconds=120)
    time.sleep(0.5)
    found = dict(findings(service.log))
    delays = sorted(found[name] - at for name, at in events.stop().items())
    assert len(delays) == count
    p50, p95 = delays[len(delays) // 2], delays[int(len(delays) * 0.95)]
    print(
        f"start event to finding, {count} at once: p50 {p50 * 1000:.0f} ms,"
        f" p95 {p95 * 1000:.0f} ms, worst {delays[-1] * 1000:.0f} ms"
        f" (goals {P50_GOAL * 1000:.0f}, {P95_GOAL * 1000:.0f})"
    )
    return p50 <= P50_GOAL and p95 <= P95_GOAL


class Events:
    """When each container started, in the engine's words."""

    def __init__(self, engine: Engine) -> None:
        argv = ["docker", "--host", engine.host, "events", "--filter", "event=start"]
        self._process = subprocess.Popen(
            [*argv, "--format", "{{json .}}"], stdout=subprocess.PIPE, text=True
        )
        self._at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        time.sleep(0.5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self._at[event["Actor"]["Attributes"]["name"]] = event["timeNano"] / 1e9

    def stop(self) -> dict[str, float]:
        self._process.terminate()
        self._thread.join()
        return self._at


def findings(log: str) -> list[tuple[str, float]]:
    found = []
    for line in log.splitlines():
        if "problem found" in line and f"code={REFUSED}" in line:
            words = dict(w.split("=", 1) for w in line.split() if "=" in w)
            at = datetime.fromisoformat(words["timestamp"]).timestamp()
            found.append((words["container"], at))
    return found


def idle(service: Service, group: Group, seconds: float) -> bool:
    time.sleep(60)  # everybody is judged a second time, and idle workers end
    before, begun = group.cpu(), time.monotonic()
    time.sleep(seconds)
    used = (group.cpu() - before) / (time.monotonic() - begun)
    sizes = {pid: memory(pid) for pid in service.processes()}
    total = sum(sizes.values())
    own = service.rss() / 1024
    print(
        f"idle for {seconds:.0f} s: {used * 100:.2f} % of one core (goal {CPU_GOAL * 100:.1f}),"
        f" {total:.0f} MiB in {len(sizes)} processes (goal {MEMORY_GOAL:.0f}),"
        f" own RSS {own:.0f} MiB"
    )
    return used <= CPU_GOAL and total <= MEMORY_GOAL


class Group:
    """A control group of the service's own.  ``enter`` is what its first process does."""

    def __init__(self) -> None:
        mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
        top = next(Path(m[1]) for m in mounts if m[2] == "cgroup2")
        self._path = top / f"permdoctor-benchmark-{os.getpid()}"
        self._path.mkdir()
        self.enter = f"open({str(self._path / 'cgroup.procs')!r}, 'w').write('0')"

    def cpu(self) -> float:
        """Seconds, of all that are in it or were."""
        stat = dict(line.split() for line in (self._path / "cpu.stat").read_text().splitlines())
        return int(stat["usage_usec"]) / 1e6

    def close(self) -> None:
        until(lambda: "populated 0" in (self._path / "cgroup.events").read_text())
        self._path.rmdir()


def memory(pid: int) -> float:
    """Proportional, in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    raise SystemExit(main())
