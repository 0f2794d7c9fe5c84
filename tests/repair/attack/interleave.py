"""Attack steps between any two system calls of a repair, and within a statx.

Races find what is likely; this finds what is possible.  The repair stops at each of its calls on
the tree (``tests/repair/crash/supervise.py``) and the attacker, who has all the time in the world,
makes its move: so whatever changed between two moves, the repair changed, and a change that was
put back counts, too.  A move may also be to let the repair lie for longer than it takes a change
for fresh: that is how a busy machine looks to it.

A statx by name is two steps here, finding the inode and reading it, as it is in the kernel.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from tests.repair.attack import calls
from tests.repair.attack.board import Board
from tests.repair.attack.harness import staged
from tests.repair.attack.naive import Fixer
from tests.repair.attack.ours import Ours
from tests.repair.attack.scene import Scene
from tests.repair.crash import supervise
from tests.repair.crash.supervise import Answer, Call, Lie

_MORE = {
    "x86_64": {"statx": 332, "openat2": 437, "getxattr": 191, "lgetxattr": 192, "llistxattr": 195}
}.get(
    platform.machine(),
    {"statx": 291, "openat2": 437, "getxattr": 8, "lgetxattr": 9, "llistxattr": 12},
)
supervise.NUMBERS.update(_MORE)
supervise._NAMES.update({number: name for name, number in _MORE.items()})
WATCHED = (*supervise.TREE, *_MORE)
WAIT = -1
"""The move to let the repair lie."""
LONG = 0.06
"""Seconds; more than a change is fresh."""


@dataclass
class Script:
    """Which moves are made before which call."""

    events: list[tuple[int, int]]
    within: bool
    """Moves before a statx by name are made between finding and reading."""

    @classmethod
    def draw(cls, rng: random.Random, calls_: int, moves: int) -> Script:
        """Either a few moves here and there, or one of them again and again."""
        events: list[tuple[int, int]] = []
        one = rng.random() < 0.5
        for _ in range(1 if one else rng.randint(1, 4)):
            move, at = rng.randrange(moves), rng.randrange(calls_)
            for _ in range(rng.randint(2, 10) if one else rng.randint(1, 4)):
                events.append((at, move))
                if rng.random() < 0.3:
                    events.append((at + rng.randrange(2), WAIT))
                if not one or rng.random() < 0.7:
                    at += 1 + int(rng.expovariate(0.3))
                else:
                    at = max(at + 1, rng.randrange(calls_))
        return cls(sorted(events, key=lambda e: e[0]), rng.random() < 0.6)


@dataclass
class Found:
    runs: int = 0
    moves: int = 0
    calls: int = 0
    changed: int = 0
    escapes: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Calls that a pointed player waited for in vain."""


class Player:
    """Makes the moves of a script."""

    def __init__(self, board: Board, script: Script) -> None:
        self.board, self.script = board, script
        self.moves = 0
        self.escapes: list[str] = []
        self.log: list[str] = []
        self._next = 0

    @classmethod
    def quiet(cls, board: Board) -> Player:
        """One that only looks on."""
        return cls(board, Script([], False))

    def at(self, call: Call) -> Answer:
        """Before a call of the repair."""
        due = self._due(call.number)
        if not due:
            return None
        if self.script.within and call.name == "statx" and (held := Held.of(call)) is not None:
            return held.after(lambda: self._play(due, f"within {call.name} {call.number}"))
        self._play(due, f"before {call.name} {call.number}")
        return None

    def _due(self, number: int) -> list[int]:
        events, due = self.script.events, []
        while self._next < len(events) and events[self._next][0] <= number:
            due.append(events[self._next][1])
            self._next += 1
        return due

    def _play(self, due: list[int], where: str) -> None:
        self.check()
        for number in due:
            self.moves += 1
            if number == WAIT:
                time.sleep(LONG)
                self.log.append(f"{where}: wait")
                continue
            move = self.board.moves[number]
            move.toggle()
            self.log.append(f"{where}: {move.name} {'on' if move.is_on else 'off'}")
        self.board.accept()

    def check(self) -> None:
        self.escapes += [f"{path} after {'; '.join(self.log)}" for path in self.board.check()]


class When(NamedTuple):
    """The next call of this name (empty: any), on this file name (empty: by descriptor, ``None``:
    any); the moves then, made before it, or within.
    """

    call: str
    name: bytes | None
    moves: tuple[int, ...]
    within: bool = False


class Pointed(Player):
    """Waits for one call after the other, so that a certain order of things comes about."""

    def __init__(self, board: Board, order: Sequence[When]) -> None:
        super().__init__(board, Script([], False))
        self.order = list(order)

    def at(self, call: Call) -> Answer:
        if not self.order or self.order[0].call not in ("", call.name):
            return None
        when = self.order[0]
        if when.name is not None and when.name != _string(call.pid, call.args[1]):
            return None
        self.order.pop(0)
        where = f"{'within' if when.within else 'before'} {call.name} of {when.name!r}"
        if when.within and (held := Held.of(call)) is not None:
            return held.after(lambda: self._play(list(when.moves), where))
        self._play(list(when.moves), where)
        return None


class Held:
    """The inode that a statx by name has found, before it is read."""

    def __init__(self, call: Call, fd: int) -> None:
        self._call, self._fd = call, fd

    @classmethod
    def of(cls, call: Call) -> Held | None:
        """``None``: by descriptor, or nothing has that name."""
        dirfd, name = ctypes.c_int(call.args[0]).value, _string(call.pid, call.args[1])
        if not name or name.startswith(b"/"):
            return None
        at = b"cwd" if dirfd == calls.AT_FDCWD else b"fd/%d" % dirfd
        try:
            path = b"/proc/%d/%s/%s" % (call.pid, at, name)
            return cls(call, os.open(path, os.O_PATH | os.O_NOFOLLOW))
        except OSError:
            return None

    def after(self, moves: Callable[[], None]) -> Lie:
        """The caller gets what the inode is after the moves."""
        try:
            moves()
            out = calls.raw_statx(self._fd, self._call.args[3])
        finally:
            os.close(self._fd)
        with open(f"/proc/{self._call.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self._call.args[4])
            memory.write(out)
        return Lie(0)


def _string(pid: int, at: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(at)
        return memory.read(256).split(b"\0")[0]


def play(
    board: Board,
    fixer: Fixer,
    runs: int,
    seed: int,
    *,
    target: str = "",
    only: tuple[str, ...] = (),
    until: int | None = None,
) -> Found:
    """So many repairs of ``target`` (else the tree), with a script of its own for each, of these
    moves only (else all); ``until``: stop at so many escapes and strays.
    """
    found, rng = Found(), random.Random(seed)
    board.moves = [m for m in board.moves if not only or m.name in only]
    length = 0
    while found.runs < runs and (until is None or len(found.escapes + found.strays) < until):
        if not length:
            length = one(board, fixer, Player.quiet(board), found, target)
            continue
        script = Script.draw(rng, length, len(board.moves))
        one(board, fixer, Player(board, script), found, target)
    return found


def one(board: Board, fixer: Fixer, player: Player, found: Found, target: str = "") -> int:
    """One repair; how many calls it made."""
    want = board.owner + 1
    board.accept()
    board.cells.busy = 0
    time.sleep(LONG)

    def work() -> int:
        fixer.survey(target or board.scene.tree, want)
        board.cells.busy = 1
        return fixer.apply()

    with supervise.Run(work, WATCHED) as run:
        ended = run.end(player.at)
    player.check()
    found.runs += 1
    found.moves += player.moves
    found.calls += ended.calls
    found.changed += ended.get()
    found.escapes += player.escapes
    found.strays += [f"{s} after {'; '.join(player.log)}" for s in board.strays(want)]
    board.settle()
    board.give_to(want)
    return ended.calls


def between_calls(fs: str, scripts: int, seed: int) -> Found:
    """So many scripts against ours, on a fresh filesystem."""

    def play_(base: str, scratch: str) -> Found:
        board = Board(Scene(base))
        return play(board, Ours(board.scene.tree, scratch, board.scene.notes), scripts, seed)

    return staged_found(fs, 60.0 + scripts, play_)


def staged_found(fs: str, seconds: float, play_: Callable[[str, str], Found]) -> Found:
    """``play_`` of a fresh filesystem and a scratch directory, in a process with mounts of its own.

    Raises ``MissingError``, and ``TimeoutError`` when it says nothing.
    """
    with staged(fs, seconds) as (base, scratch, stage):
        said = stage(lambda: json.dumps(asdict(play_(base, scratch))))
    if not said:
        raise TimeoutError("hung, or ended without a word")
    return Found(**json.loads(said))
