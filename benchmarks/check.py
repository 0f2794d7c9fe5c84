"""One ``permdoctor check`` of a container with ten mounts, against ten times ``docker exec``.

What a user would do instead: ``docker exec C test -w M`` for each mount.  And the start-up:
``permdoctor --version`` against a bare ``python -c pass``.  Whole processes, interleaved, ratios of
medians of one run.  Needs root, docker.io and an installed permdoctor beside this interpreter (its
modules are compiled first, as pip does it).

    python -m benchmarks.check [--rounds N]
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import engine as engines
from tests.lab.lab import Lab

MOUNTS = 10
CHECK_GOAL, VERSION_GOAL = 0.35, 5.0


def seconds(*commands: list[str], env: dict[str, str] | None = None) -> float:
    begun = time.perf_counter()
    for c in commands:
        subprocess.run(c, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    permdoctor = str(Path(sys.executable).with_name("permdoctor"))
    compileall.compile_dir(str(Path(__file__).parent.parent / "permdoctor"), quiet=2)
    lab = Lab().open()
    engine = engines.start_docker(lab.root / "plain", lab.image)
    try:
        options = []
        for n in range(MOUNTS):
            options += ["-v", f"{lab.directory(1001, 1001)}:/m{n}"]
        box = engine.run("-u", "1001:1001", *options)
        env = {**os.environ, "DOCKER_HOST": engine.host}
        check = [permdoctor, "check", box.name]
        execs = [["docker", "exec", box.id, "test", "-w", f"/m{n}"] for n in range(MOUNTS)]
        pairs = [(seconds(check, env=env), seconds(*execs, env=env)) for _ in range(rounds)]
    finally:
        engine.stop()
        lab.close()
    starts = [
        (seconds([permdoctor, "--version"]), seconds([sys.executable, "-c", "pass"]))
        for _ in range(rounds)
    ]
    good = report("check of ten mounts / ten docker exec", pairs, CHECK_GOAL)
    good &= report("permdoctor --version / python -c pass", starts, VERSION_GOAL)
    return 0 if good else 1


def report(what: str, pairs: list[tuple[float, float]], goal: float) -> bool:
    ours, theirs = (statistics.median(p[i] for p in pairs) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{what}: {ours * 1000:.0f} ms / {theirs * 1000:.0f} ms = {ratio:.2f} (goal <= {goal})")
    return ratio <= goal


if __name__ == "__main__":
    raise SystemExit(main())
