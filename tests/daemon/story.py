"""Tables of (time, event), and what the reconciler says to them, as short lines.

Between two events it is woken whenever it wants to be.  A check is answered by name: ``results``
finds its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from permdoctor.alerts.alert import Problem
from permdoctor.daemon.events import (
    Action,
    Check,
    Checked,
    Command,
    Connected,
    ContainerRef,
    Disconnected,
    Event,
    Found,
    Happened,
    List,
    Log,
    Repair,
    Repaired,
    Rules,
    Seen,
    Swept,
    Tell,
    Tick,
    Watch,
    Watched,
)
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.reconciler import Reconciler, utc_minute
from permdoctor.diagnosis.codes import CODES

ENGINE = "unix:///run/docker.sock"
EPOCH = 1_700_000_000.0 - 1_700_000_000.0 % 86400
"""Midnight."""

Row = tuple[float, Any]


def ref(id_: str, engine: str = ENGINE) -> ContainerRef:
    return ContainerRef(engine=engine, id=id_)


def seen(id_: str, name: str = "", started: str = "", **more: Any) -> Seen:
    """``a`` is the container a, of the same name unless told otherwise."""
    engine = more.pop("engine", ENGINE)
    return Seen(ref=ref(id_, engine), name=name or id_, running=True, started=started, **more)


def start(id_: str, *args: str, **more: Any) -> Happened:
    return Happened(action=Action.START, container=seen(id_, *args, **more))


def stop(id_: str, *args: str, **more: Any) -> Happened:
    return Happened(action=Action.STOP, container=seen(id_, *args, **more))


def change(id_: str, *args: str, **more: Any) -> Happened:
    return Happened(action=Action.CHANGE, container=seen(id_, *args, **more))


def connected(*ids: str | Seen, engine: str = ENGINE) -> Connected:
    return Connected(engine=engine, containers=_list(ids, engine), by_root=True)


def swept(*ids: str | Seen, engine: str = ENGINE) -> Swept:
    return Swept(engine=engine, containers=_list(ids, engine))


def disconnected(engine: str = ENGINE) -> Disconnected:
    return Disconnected(engine=engine, why="end of stream")


def _list(ids: Iterable[str | Seen], engine: str) -> tuple[Seen, ...]:
    return tuple(seen(i, engine=engine) if isinstance(i, str) else i for i in ids)


def found(code: str = "PD101", target: str = "/data", **more: Any) -> Found:
    severity = more.pop("severity", None) or CODES[code].severity
    more.setdefault("title", f"{code} at {target}")
    more.setdefault("host_path", "/srv" + target)
    problem = Problem(host="", engine="", container="", code=code, target=target)
    return Found(problem=problem, severity=severity, **more)


class Result:
    """An answer to the check of this container that is under way."""

    def __init__(self, id_: str, *findings: str | Found, **fields: Any) -> None:
        self.id = id_
        self.fields = {
            "found": tuple(found(f) if isinstance(f, str) else f for f in findings),
            **fields,
        }
        self.engine = self.fields.pop("engine", ENGINE)


class Done:
    """An answer to the repair that is under way."""

    def __init__(self, applied: int = 1, failed: str = "", *, denied: bool = False) -> None:
        self.applied, self.failed, self.denied = 0 if denied else applied, failed, denied


class Story:
    """``lines`` are the commands, but for those for the log (``logs``) and what is told quietly.
    What it wants watched is watched at once, but for what is ``dark``, and why.  ``asked`` are the
    lists that were not given yet: the next ``swept`` of that engine is the answer.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        minute_of_day: Callable[[float], int] = utc_minute,
        **rules: Any,
    ) -> None:
        self.rules = Rules(host="h", **rules)
        self.reconciler = Reconciler(self.rules, limits or Limits(checks=4), minute_of_day)
        self.lines: list[str] = []
        self.logs: list[Log] = []
        self.tells: list[Tell] = []
        self.quiet: list[Tell] = []
        self.checks: dict[ContainerRef, int] = {}
        self.stopped: dict[ContainerRef, bool] = {}
        self.repair: Repair | None = None
        self.asked: dict[str, int] = {}
        self.dark: dict[bytes, str] = {}
        self.now = 0.0
        self.wall = EPOCH

    def play(self, *rows: Row) -> list[str]:
        """What is said from here on."""
        begin = len(self.lines)
        for at, event in rows:
            self.until(at)
            self.give(self._event(event))
        return self.lines[begin:]

    def until(self, at: float) -> list[str]:
        begin = len(self.lines)
        while (due := self.reconciler.due()) is not None and due < at:
            self.now = max(self.now, due)
            self.give(Tick())
            after = self.reconciler.due()
            assert after is None or after > self.now, "it wants to be woken again at once"
        self.now = at
        return self.lines[begin:]

    def next(self) -> list[str]:
        """What it says when it has something to say again."""
        begin = len(self.lines)
        while len(self.lines) == begin:
            due = self.reconciler.due()
            assert due is not None, "never"
            self.now = max(self.now, due)
            self.give(Tick())
        return self.lines[begin:]

    def give(self, event: Event) -> None:
        for command in self.reconciler.handle(event, self.now, self.wall + self.now):
            self._hear(command)
            if isinstance(command, Watch):
                self.give(self.watched(command.paths))

    def watched(self, paths: tuple[bytes, ...]) -> Watched:
        dark = tuple(p for p in paths if p in self.dark)
        return Watched(
            paths=paths,
            dark=dark,
            directories=len(paths) - len(dark),
            why=next((self.dark[p] for p in dark), ""),
        )

    def _event(self, event: Any) -> Event:
        match event:
            case Result():
                which = ref(event.id, event.engine)
                return Checked(number=self.checks[which], ref=which, **event.fields)
            case Done():
                assert self.repair is not None
                done, self.repair = self.repair, None
                return Repaired(
                    number=done.number,
                    ref=done.ref,
                    path=done.root,
                    id="" if event.denied else "3f2a",
                    applied=event.applied,
                    failed=event.failed,
                    denied=event.denied,
                )
            case Swept(number=None):
                return replace(event, number=self.asked.pop(event.engine, None))
            case _:
                made: Event = event
                return made

    def _hear(self, command: Command) -> None:
        match command:
            case Log():
                self.logs.append(command)
                return
            case Check():
                self.checks[command.ref] = command.number
                self.stopped[command.ref] = command.stopped
            case Tell(quiet=True):
                self.quiet.append(command)
                return
            case Tell():
                self.tells.append(command)
            case Repair():
                self.repair = command
            case List(engine=engine, number=number):
                self.asked[engine] = number
            case _:
                pass
        self.lines.append(f"{self.now:g} {say(command)}")

    def findings(self, id_: str, engine: str = ENGINE) -> list[str]:
        """``PD101``, ``(PD204: reason)`` of an ignored one; ``*`` where it was told."""
        containers = self.reconciler.state().containers
        one = next(c for c in containers if c.ref == ref(id_, engine))
        return [
            f"({f.found.problem.code}: {f.ignored})"
            if f.ignored
            else f.found.problem.code + "*" * f.told
            for f in one.findings
        ]

    def names(self) -> list[str]:
        return [c.name for c in self.reconciler.state().containers]


def say(command: Command) -> str:
    match command:
        case Check():
            return f"check {command.ref.id} {command.why}"
        case List():
            return "list"
        case Watch():
            return f"watch {b' '.join(command.paths).decode()}".rstrip()
        case Tell(alert=alert):
            mark = "-" if alert.ended is not None else "~" if alert.revision else "+"
            return f"{mark}{alert.problem.code} {alert.problem.container}"
        case Repair():
            return f"repair {command.ref.id} {command.remedy} {command.root.decode()}"
        case Log():
            return f"{command.level} {command.event}"
