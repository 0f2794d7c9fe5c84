"""One run: an attacker against a fixer on a filesystem, until it has made so many rounds.

A *stage* process with mounts of its own is the fixer, repair after repair; the attacker is its
child.  Repairs take turns in what is attacked: the survey, what lies between survey and change, the
change, the undo.  Between repairs the attacker is parked, has settled, and it is judged.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

from tests.lab.filesystems import mounted_fs, unmount
from tests.lab.needs import need_root, need_tools
from tests.repair.attack import calls
from tests.repair.attack.attack import Attack
from tests.repair.attack.attackers import ATTACKS
from tests.repair.attack.cells import Cells
from tests.repair.attack.naive import Fixer
from tests.repair.attack.scene import FIRST, WANTED, Scene

OLD = "ext4-128"
"""ext4 with inodes of 128 bytes, as on disks from the time of ext3: it has no birth times, and
change times in whole seconds.
"""
WAITED = 45.0
GAP = 0.003
QUIET = 0.045
"""After this a survey does not wait for entries that have just been changed."""
PARTS = (
    "apply", "gap apply", "undo", "survey gap apply", "apply", "apply undo", "gap", "apply",
    "undo", "survey",
)  # fmt: skip
"""What is attacked, in turn."""

MakeFixer = Callable[[Attack, str], Fixer]
"""Of the attack and a scratch directory outside of its scene."""


@dataclass(frozen=True, slots=True)
class Run:
    attack: str
    fixer: str
    fs: str
    rounds: int
    seconds: float
    seed: int
    least: int = 0
    """Rounds that are waited for beyond ``seconds``, on a machine that hardly runs."""
    bulk: int = 0
    """Files in the tree that nobody attacks."""
    hogs: int = 0
    """Processes that do nothing but take the processors away."""


@dataclass(frozen=True, slots=True)
class Result:
    """``rounds`` of the attacker that lay within a repair; ``changed`` entries in all repairs."""

    attack: str
    fixer: str
    fs: str
    seed: int
    rounds: int
    repairs: int
    undone: int
    changed: int
    escapes: int
    strays: int
    seconds: float
    notes: dict[str, int]
    error: str = ""

    def __str__(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if v or k != "error"})


def run(what: Run, make: MakeFixer, *, until: int | None = None) -> Result:
    """``until``: stop at so many escapes and strays.  ``MissingError``: not on this machine."""
    with staged(what.fs, what.seconds * 2 + 60) as (base, scratch, stage):
        said = stage(lambda: str(_run(what, make, until, base, scratch)))
    if said:
        return Result(**json.loads(said))
    return Result(
        what.attack, what.fixer, what.fs, what.seed, 0, 0, 0, 0, 0, 0, 0.0, {},
        error="hung, or ended without a word",
    )  # fmt: skip


@contextlib.contextmanager
def staged(
    fs: str, seconds: float
) -> Iterator[tuple[str, str, Callable[[Callable[[], str]], str]]]:
    """A fresh filesystem, a scratch directory elsewhere, and who does work in a process with
    mounts of its own: the work's answer, nothing if it failed or took longer than ``seconds``.
    """
    with filesystem(fs) as base, tempfile.TemporaryDirectory(dir=_quick()) as scratch:
        yield base, scratch, partial(_isolated, seconds)


def _isolated(seconds: float, work: Callable[[], str]) -> str:
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        _in_child(work, into, seconds)
    os.close(into)
    text = b""
    deadline = time.monotonic() + seconds
    try:
        while left := max(0.0, deadline - time.monotonic()):
            if select.select([out], [], [], left)[0]:
                if not (piece := os.read(out, 1 << 16)):
                    break
                text += piece
    finally:
        os.close(out)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return text.decode()


def _in_child(work: Callable[[], str], into: int, seconds: float) -> None:
    """Never returns, and never runs what belongs to the parent (pytest, coverage)."""
    try:
        calls.die_with_parent()
        calls.own_mounts()
        faulthandler.enable()
        faulthandler.dump_traceback_later(max(1.0, seconds - 5), exit=False)
        os.write(into, work().encode())
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(0)


@contextlib.contextmanager
def filesystem(kind: str) -> Iterator[str]:
    """One of the lab's, or OLD."""
    if kind != OLD:
        with mounted_fs(kind) as path:
            yield path
        return
    need_root()
    need_tools("mkfs.ext4")
    with tempfile.TemporaryDirectory(prefix="fs-old-") as at:
        image, path = os.path.join(at, "img"), os.path.join(at, "mnt")
        os.mkdir(path)
        with open(image, "wb") as f:
            f.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-I", "128", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, path], check=True)
        try:
            yield path
        finally:
            unmount(path)


def _quick() -> str | None:
    """Journals on a tmpfs: their fdatasync is not what is attacked here."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _run(what: Run, make: MakeFixer, until: int | None, base: str, scratch: str) -> Result:
    scene = Scene(base)
    attack = ATTACKS[what.attack](scene)
    for i in range(0, what.bulk, 1000):
        scene.directory("bulk", str(i), files=min(1000, what.bulk - i))
    fixer = make(attack, scratch)
    cells = Cells()
    with contextlib.ExitStack() as children:
        for i in range(what.hogs):
            children.enter_context(_child(partial(_hog, i), cells))
        children.enter_context(_child(partial(_attack, attack, cells, what.seed), cells))
        return Stage(what, scene, attack, fixer, cells).until(until)


@contextlib.contextmanager
def _child(work: Callable[[], None], cells: Cells) -> Iterator[None]:
    pid = os.fork()
    if pid == 0:
        try:
            calls.die_with_parent()
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            cells.stop = 1
            os._exit(0)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _attack(attack: Attack, cells: Cells, seed: int) -> None:
    calls.sleep_exactly()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    attack.arm(cells, random.Random(seed))
    while not cells.stop:
        if cells.go:
            busy = cells.busy
            rounds = attack.burst()
            if busy and cells.busy == busy:
                cells.rounds += rounds
        elif cells.ack != cells.ticket:
            attack.settle()
            escapes, strays = attack.judge()
            cells.escapes += escapes
            cells.strays += strays
            cells.ack = cells.ticket
        else:
            time.sleep(2e-5)


def _hog(number: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[number % len(cpus)]})
    while True:
        pass


class Stage:
    """The repairs of one run."""

    def __init__(self, what: Run, scene: Scene, attack: Attack, fixer: Fixer, cells: Cells) -> None:
        self.what, self.scene, self.attack = what, scene, attack
        self.fixer, self.cells = fixer, cells
        self.repairs = self.undone = self.changed = self.escapes = 0
        self.owner = FIRST

    def until(self, caught: int | None) -> Result:
        cells, what = self.cells, self.what
        started = time.monotonic()
        self._park()
        self.scene.changed()
        number = 0
        while cells.rounds < what.rounds and not self._is_over(time.monotonic() - started):
            self._repair(self._parts(number), WANTED[self.owner == WANTED[0]])
            number += 1
            if caught is not None and self.escapes + cells.escapes + cells.strays >= caught:
                break
        return Result(
            what.attack, what.fixer, what.fs, what.seed, cells.rounds, self.repairs, self.undone,
            self.changed, self.escapes + cells.escapes, cells.strays,
            round(time.monotonic() - started, 2), self.scene.notes,
            error="the attacker died" if cells.stop else "",
        )  # fmt: skip

    def _is_over(self, passed: float) -> bool:
        enough = self.cells.rounds >= self.what.least
        return passed >= self.what.seconds + (0 if enough else WAITED)

    def _parts(self, number: int) -> str:
        parts = PARTS[number % len(PARTS)]
        if not self.fixer.can_undo:
            return "survey gap apply"
        if self.attack.apply_only:
            return "apply undo" if "undo" in parts else "apply"
        return parts

    def _repair(self, parts: str, want: int) -> None:
        fixer, cells = self.fixer, self.cells
        cells.expect, cells.want = self.owner, want
        if "survey" not in parts:
            time.sleep(QUIET)
        with self._attacked("survey" in parts):
            fixer.survey(self.attack.target, want)
        if "gap" in parts:
            with self._attacked(True):
                time.sleep(GAP)
        with self._attacked("apply" in parts):
            self.changed += fixer.apply()
        self.repairs += 1
        if "undo" in parts:
            self._park()
            self.escapes += self.scene.changed()
            cells.expect, cells.want = want, self.owner
            with self._attacked(True):
                self.changed += fixer.undo()
            self.undone += 1
        else:
            self.owner = want
        self._park()
        self.escapes += self.scene.changed()

    @contextlib.contextmanager
    def _attacked(self, attacked: bool) -> Iterator[None]:
        """The attack goes on or pauses; it is not parked in between."""
        cells = self.cells
        if not attacked and cells.go:
            self._park()
        cells.go = attacked
        cells.busy = self.repairs + 1
        try:
            yield
        finally:
            cells.busy = 0

    def _park(self) -> None:
        """Until the attacker has settled and judged."""
        cells = self.cells
        cells.go = 0
        cells.ticket += 1
        while cells.ack != cells.ticket and not cells.stop:
            time.sleep(2e-5)
        if cells.stop:
            raise RuntimeError("the attacker died")
