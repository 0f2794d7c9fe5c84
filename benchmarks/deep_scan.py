"""The deep scan against find(1), in one run: ratios, not times.

    python benchmarks/deep_scan.py [--dirs 1000] [--files 1000] [--flat 500000] [--rounds 7]

Both look at every entry's owner, mode and type: ``find T ( ! -uid U -o ! -gid G ) -printf ...``
with its output dropped, and ``scan_tree`` with two workers in a fresh process.  Rounds alternate
and the best of each counts, so that a machine's other work weighs on neither (two workers need
two cores to themselves, find one).  Memory is the peak of the resident sets of both workers,
added up.  Exits 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from permdoctor.host.scan import Budget
from permdoctor.host.sharing import scan_tree
from permdoctor.kernel.mount import Mount

TARGETS = {"tree": 1.25, "flat": 0.9}
MEMORY_MIB = 100


def fill(directory: Path, files: int) -> None:
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    for i in range(files):
        os.close(os.open(f"file{i:06d}.bin", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
    os.close(fd)


def find(tree: Path) -> float:
    """Seconds."""
    ours = ["!", "-uid", str(os.getuid()), "-o", "!", "-gid", str(os.getgid())]
    argv = ["find", str(tree), "(", *ours, ")", "-printf", "%p\\n"]
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def scan(tree: Path, expected: int) -> tuple[float, float]:
    """(seconds, MiB) of a scan in a child of ours; the interpreter's start is not counted."""
    reader, writer = os.pipe()
    if not os.fork():
        fd = os.open(tree, os.O_PATH)
        began = time.perf_counter()
        found = scan_tree(fd, Mount(), Budget(deep=True), acl_matters=lambda _: False, workers=2)
        took = time.perf_counter() - began
        assert found.coverage.entries == expected, found.coverage
        peak = sum(
            resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        os.write(writer, f"{took} {peak}".encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    took, peak = os.read(reader, 100).split()
    os.close(reader)
    return float(took), float(peak)


def compare(name: str, tree: Path, expected: int, rounds: int) -> bool:
    find(tree)  # both start from a warm cache
    finds, scans, peaks = [], [], []
    for _ in range(rounds):
        finds.append(find(tree))
        took, peak = scan(tree, expected)
        scans.append(took)
        peaks.append(peak)
    ratio, peak = min(finds) / min(scans), max(peaks)
    good = ratio >= TARGETS[name] and peak <= MEMORY_MIB
    print(
        f"{name}: {expected:,} entries, find {min(finds):.2f} s, scan {min(scans):.2f} s: "
        f"{ratio:.2f} times find's speed (target {TARGETS[name]}), "
        f"{peak:.0f} MiB (target {MEMORY_MIB}){'' if good else '  MISSED'}",
        flush=True,
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dirs", type=int, default=1000)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--flat", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--in", dest="where", help="where to make the trees (a filesystem's directory)"
    )
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="permdoctor-bench-", dir=options.where))
    try:
        (base / "tree").mkdir()
        for i in range(options.dirs):
            fill(base / "tree" / f"d{i:04d}", options.files)
        fill(base / "flat", options.flat)
        entries = options.dirs * (options.files + 1)
        good = compare("tree", base / "tree", entries, options.rounds)
        return 0 if compare("flat", base / "flat", options.flat, options.rounds) and good else 1
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    sys.exit(main())
