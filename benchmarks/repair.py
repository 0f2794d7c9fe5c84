"""A repair against chown -R, in one run: ratios, not times.

    python -m benchmarks.repair [--dirs 1000] [--files 1000] [--rounds 3] [--keep DIR]

A million entries on ext4 (a sparse image, loop-mounted; needs root), all of them owned by the
wrong user.  ``chown -R`` changes them and that is all; ``permdoctor fix --path ... --apply`` looks
at everything, writes the plan to the disk, changes each entry by descriptor and reads it again.
Rounds alternate and the best of each counts.  The machine's other work weighs on the repair twice:
it has two workers, and the filesystem's own writing back wants a core, too.  Memory is the peak of
the largest process and of the largest worker, added up.  Exits 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.deep_scan import fill

TARGET, GOAL = 0.5, 0.8
MEMORY_MIB = 150


@contextmanager
def ext4(entries: int) -> Iterator[Path]:
    """A new filesystem with room for so many inodes."""
    place = Path(tempfile.mkdtemp(prefix="permdoctor-bench-", dir="/var/tmp"))
    image, mounted = place / "image", place / "fs"
    mounted.mkdir()
    with open(image, "wb") as f:
        f.truncate(max(256 << 20, entries * 1024))
    subprocess.run(["mkfs.ext4", "-q", "-N", str(entries + 10_000), image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)
        shutil.rmtree(place)


def chown(tree: Path, uid: int) -> float:
    """Seconds."""
    os.sync()
    began = time.perf_counter()
    subprocess.run(["chown", "-R", f"{uid}:{uid}", str(tree)], check=True)
    return time.perf_counter() - began


def repair(tree: Path, uid: int, config: Path) -> tuple[float, float]:
    """(seconds, MiB) of the whole command: interpreter, plan, journal, change, verification."""
    argv = [sys.executable, "-m", "permdoctor", "fix", "--path", str(tree), "--to", f"{uid}:{uid}"]
    argv += ["--config", str(config), "--apply", "--yes"]
    environ = {**os.environ, "DOCKER_HOST": "unix:///nonexistent"}
    os.sync()
    began = time.perf_counter()
    child = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, said.decode()
    return took, usage.ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dirs", type=int, default=1000)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    entries = args.dirs * (args.files + 1)
    with ext4(entries) as mounted:
        tree = mounted / "tree"
        tree.mkdir()
        for i in range(args.dirs):
            fill(tree / f"dir{i:05d}", args.files)
        state = mounted.parent / "state"
        config = mounted.parent / "config.toml"
        config.write_text(f'[repair]\nstate = "{state}"\n')
        chowns, repairs, peaks = [], [], []
        for n in range(args.rounds):
            chowns.append(chown(tree, 2000 + n))
            took, peak = repair(tree, 3000 + n, config)
            repairs.append(took)
            peaks.append(peak)
            shutil.rmtree(state)
            assert os.stat(tree / "dir00000").st_uid == 3000 + n
    ratio = min(chowns) / min(repairs)
    print(f"{entries + 1:,} entries: chown -R {min(chowns):.2f} s, fix {min(repairs):.2f} s")
    print(f"  {ratio:.2f} of its speed (at least {TARGET}, goal {GOAL})")
    print(f"  {max(peaks):.0f} MiB in the largest process (at most {MEMORY_MIB} for all)")
    return 0 if ratio >= TARGET and 3 * max(peaks) <= MEMORY_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
