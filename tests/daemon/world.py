"""A world with engines, containers and problems, and everything that may go wrong between it and
the reconciler: events that are lost, doubled and late, lists that are old, checks that fail, are
slow and never come back, a clock that is set, repairs that lie.

``History`` lets it run from a seed, and then makes peace: nothing is broken any more, one full list
is given, and what the reconciler asks for is answered.  Then its state has to be the truth.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.daemon.events import (
    Action,
    Changed,
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
    Reloaded,
    Repair,
    Repaired,
    RepairRule,
    Restored,
    Rules,
    Seen,
    Silence,
    Swept,
    Tell,
    Tick,
    Unknown,
    Watch,
    Watched,
)
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.reconciler import Reconciler
from permdoctor.diagnosis.report import Severity

EPOCH = 1_700_000_000.0
STEPS = 60
PREDICTABLE = ("PD101", "PD201")
"""What a container's configuration tells as well."""

UNSEEN = ("PD111", "PD201", "PD204")
"""What lies below a root, of which a check may say nothing."""

SILENCE = Silence(reason="known", code="PD111", container="n1")
SEVERITY = {
    "PD101": Severity.ERROR,
    "PD111": Severity.ERROR,
    "PD201": Severity.WARNING,
    "PD204": Severity.WARNING,
    "PD302": Severity.INFO,
}


@dataclass
class Box:
    """A container that runs or will be restarted, as it really is."""

    ref: ContainerRef
    name: str
    started: str
    problems: set[str]
    root: bytes
    who: int = 0
    count: int = 1
    bad: bool = False
    fails: str = ""
    dim: bool = False
    hangs: bool = False
    restarting: bool = False
    refused: bool = False


@dataclass
class Truth:
    """``connected`` is whether the stream is; the world goes on without it.  ``exited`` are
    containers that do not run and can still be looked at.
    """

    boxes: dict[ContainerRef, Box] = field(default_factory=dict)
    exited: dict[ContainerRef, Box] = field(default_factory=dict)
    connected: dict[str, bool] = field(default_factory=dict)

    @property
    def names(self) -> set[tuple[str, str]]:
        return {(b.ref.engine, b.name) for b in self.boxes.values()}

    def seen(self, box: Box, *, started: bool = True) -> Seen:
        return Seen(
            ref=box.ref,
            name=box.name,
            running=not box.refused,
            started=box.started if started and not box.refused else "",
            restarting=box.restarting,
            refused=box.refused,
        )

    def all_of(self, engine: str) -> tuple[Seen, ...]:
        return tuple(self.seen(b) for b in self.boxes.values() if b.ref.engine == engine)


def found(code: str, box: Box) -> Found:
    worse = code == "PD204" and box.bad
    return Found(
        problem=Problem(host="", engine="", container="", code=code, target="/data"),
        severity=Severity.ERROR if worse else SEVERITY[code],
        title=f"{code} at /data: {box.count} entries",
        who=str(box.who),
        remedies=(f"chown {box.who} /data",),
        fixable=("chown-directory",) if code in ("PD101", "PD201") else (),
        host_path=box.root.decode(),
        count=box.count,
    )


class BrokenError(AssertionError):
    """The reconciler did something that it must never do."""


class Watcher:
    """What holds for the commands of any history."""

    def __init__(self, limits: Limits, damp: float) -> None:
        self.limits = limits
        self.damp = damp
        self.told: dict[str, tuple[float, Severity]] = {}
        self.under_way: dict[int, tuple[ContainerRef, float]] = {}
        self.firing: dict[str, Alert] = {}
        self.ids: set[str] = set()
        self.repairing: int | None = None
        self.repairs: list[float] = []
        self.tells = self.checks = self.commands = 0

    def see(self, command: Command, now: float) -> None:
        self.commands += 1
        match command:
            case Check():
                self._check(command, now)
            case Tell(alert=alert, quiet=quiet):
                self._tell(alert, now, quiet=quiet)
            case Repair():
                self._repair(command, now)
            case _:
                pass

    def back(self, number: int) -> None:
        self.under_way.pop(number, None)

    def _check(self, command: Check, now: float) -> None:
        self.checks += 1
        deadline = self.limits.check_deadline
        self.under_way = {n: e for n, e in self.under_way.items() if e[1] + deadline > now}
        if any(ref == command.ref for ref, _ in self.under_way.values()):
            raise BrokenError(f"two checks of {command.ref.id} at once")
        self.under_way[command.number] = (command.ref, now)
        if len(self.under_way) > self.limits.checks:
            raise BrokenError("too many checks at once")

    def restarted(self) -> None:
        """What was told is known; when, and how bad it was before, is not."""
        self.under_way.clear()
        self.repairing = None
        self.repairs.clear()
        self.told = {f: (float("-inf"), a.severity) for f, a in self.firing.items()}

    def _tell(self, alert: Alert, now: float, *, quiet: bool) -> None:
        self.tells += 1
        if (alert.id in self.ids) is not quiet:
            raise BrokenError(f"told twice, or quietly and never aloud: {alert.id}")
        self.ids.add(alert.id)
        fingerprint = alert.problem.fingerprint
        before = self.firing.get(fingerprint)
        if alert.status is AlertStatus.RESOLVED:
            if before is None or before.episode != alert.episode:
                raise BrokenError("resolved what did not fire")
            del self.firing[fingerprint]
            return
        if alert.severity < Severity.WARNING:
            raise BrokenError("told below the least severity")
        worst = alert.severity
        if before is not None and before.episode == alert.episode:
            worst = max(worst, self._change(before, alert, now, quiet=quiet))
        self.firing[fingerprint] = alert
        self.told[fingerprint] = (now, worst)

    def _change(self, before: Alert, after: Alert, now: float, *, quiet: bool) -> Severity:
        """The worst severity that it was told with."""
        at, worst = self.told[after.problem.fingerprint]
        if before == after or quiet is not (before.matter == after.matter):
            raise BrokenError("told again, and it is no news")
        if after.revision != before.revision + (not quiet):
            raise BrokenError("a revision is left out, or doubled")
        if after.severity <= worst and now < at + self.damp:
            raise BrokenError("told again too soon")
        return worst

    def _repair(self, command: Repair, now: float) -> None:
        if self.repairing is not None and now < self.repairs[-1] + self.limits.repair_deadline:
            raise BrokenError("two repairs at once")
        self.repairing = command.number
        self.repairs = [*(t for t in self.repairs if now - t < 3600), now]
        if len(self.repairs) > 6:
            raise BrokenError("more repairs an hour than allowed")


class History:
    """One run of the world, from a seed."""

    def __init__(self, seed: int, *, names: int = 6, limits: Limits | None = None) -> None:
        self.random = random.Random(seed)
        chance = self.random.random
        self.limits = limits or Limits(checks=self.random.choice((1, 2, 4)))
        self.truth = Truth()
        self.names = names
        self.now = 0.0
        self.offset = EPOCH
        self.silences = (SILENCE,)
        rule = RepairRule(container="*", remedy="chown-directory", roots=("/srv",), max_entries=10)
        self.rules = Rules(
            host="h",
            silences=self.silences,
            repairs=(rule,) if chance() < 0.5 else (),
            damp=self.random.choice((0.0, 10.0, 60.0)),
        )
        self.start_rules = self.rules
        self.reconciler = Reconciler(self.rules, self.limits)
        self.watcher = Watcher(self.limits, self.rules.damp)
        self.words = random.Random(~seed)
        self.log: list[tuple[Event, float, float]] = []
        self.loss = self.random.choice((0.0, 0.1, 0.5))
        self.late = self.random.choice((0.0, 0.2))
        self.start_says_when = chance() < 0.5
        self.check_says_when = chance() < 0.5
        self.unheard = False
        self.peace = False
        self.wanted: tuple[bytes, ...] = ()
        self.watched: frozenset[bytes] = frozenset()
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = 0
        self.runs = 0
        self.engines = [f"unix:///e{n}" for n in range(self.random.choice((1, 1, 2)))]

    # -- running -----------------------------------------------------------------------------

    def run(self) -> None:
        for engine in self.engines:
            self.truth.connected[engine] = False
            for _ in range(self.random.randrange(4)):
                self.start_box(engine)
            self.connect(engine)
        for _ in range(STEPS):
            self.random.choice(self.doings())()
            self.advance(self.random.choice((0.0, 0.01, 0.3, 2.0, 20.0)))
        self.make_peace()

    def make_peace(self) -> None:
        """Nothing is broken any more; what was lost may be asked for once."""
        self.peace = True
        for box in self.truth.boxes.values():
            box.fails, box.hangs = "", False
            if box.dim:
                box.dim, self.unheard = False, True
            if box.restarting:
                self.run_again(box)
        self.queue = [e for e in self.queue if e[2].__name__ != "news"]
        heapq.heapify(self.queue)
        for engine in self.engines:
            if self.unheard or not self.truth.connected[engine]:
                self.connect(engine)
            else:
                self.give(Swept(engine=engine, containers=self.truth.all_of(engine)))
        self.advance(self.limits.check_deadline + self.limits.backoff_most + 1000)

    def advance(self, seconds: float) -> None:
        """Time passes: what comes comes, and the reconciler is woken when it wants to be."""
        end = self.now + seconds
        for _ in range(20_000):
            coming = self.queue[0][0] if self.queue else float("inf")
            due = self.reconciler.due()
            wakes = float("inf") if due is None else due
            if min(coming, wakes) > end:
                self.now = end
                return
            self.now = max(self.now, min(coming, wakes))
            if coming <= wakes:
                heapq.heappop(self.queue)[2]()
                continue
            self.give(Tick())
            after = self.reconciler.due()
            if after is not None and after <= self.now:
                raise BrokenError(f"due at {after}, and it is {self.now}: a loop")
        raise BrokenError("it never rests")

    def give(self, event: Event) -> None:
        wall = self.now + self.offset
        self.log.append((event, self.now, wall))
        for command in self.reconciler.handle(event, self.now, wall):
            self.watcher.see(command, self.now)
            self.obey(command)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.queue, (self.now + seconds, self.order, do))

    # -- what the reconciler asks for --------------------------------------------------------

    def obey(self, command: Command) -> None:
        match command:
            case Check():
                self.check(command)
            case List(engine=engine, number=number):
                self.list(engine, number)
            case Repair():
                self.repair(command)
            case Watch(paths=paths):
                self.wanted = paths
                self.watch()
            case _:
                pass

    def check(self, command: Check) -> None:
        box = self.truth.boxes.get(command.ref)
        if box is not None and box.hangs and not self.peace:
            if self.random.random() < 0.3:
                self.answer_check(command, self.limits.check_deadline * 1.2)
            return
        self.answer_check(command, self.random.choice((0.01, 0.05, 3.0)))

    def answer_check(self, command: Check, seconds: float) -> None:
        """The tree is read at its beginning or at its end."""
        early = self.result(command) if self.random.random() < 0.5 else None

        def answer() -> None:
            result = early or self.result(command)
            self.watcher.back(command.number)
            self.give(result)
            if self.random.random() < 0.05:
                self.give(result)

        self.later(seconds, answer)

    def result(self, command: Check) -> Checked:
        box = self.truth.boxes.get(command.ref)
        number, ref = command.number, command.ref
        if not self.truth.connected[ref.engine]:
            return Checked(number=number, ref=ref, failed="no engine")
        if box is None and command.stopped:
            box = self.truth.exited.get(command.ref)
        does_not_run = box is not None and (box.restarting or box.refused)
        if box is None or (does_not_run and not command.stopped):
            return Checked(number=number, ref=ref, gone=True)
        predicted = does_not_run or ref in self.truth.exited
        if box.fails:
            return Checked(number=number, ref=ref, failed=box.fails)
        unseen = (
            frozenset(self.words.sample(UNSEEN, 1)) if box.dim and not self.peace else frozenset()
        )
        partial = self.words.random() < 0.5
        return Checked(
            number=number,
            ref=ref,
            started=box.started if self.check_says_when and not box.refused else "",
            found=tuple(
                found(code, box)
                for code in sorted(box.problems - unseen)
                if not predicted or code in PREDICTABLE
            ),
            unknown=(Unknown(target="/data", codes=unseen, partial=partial),) if unseen else (),
            predicted=predicted,
            roots=(box.root,),
        )

    def watch(self) -> None:
        """What is wanted is watched a moment later; some of it cannot be."""
        dark = tuple(p for p in self.wanted if self.words.random() < 0.2)

        def answer() -> None:
            self.watched = frozenset(self.wanted) - set(dark)
            why = "it does not answer" if dark else ""
            self.give(Watched(paths=self.wanted, dark=dark, why=why))

        self.later(0.01, answer)

    def list(self, engine: str, number: int) -> None:
        if not self.peace and self.random.random() < 0.2:
            return
        early = self.truth.all_of(engine)
        old = self.random.random() < 0.5

        def answer() -> None:
            if self.truth.connected[engine]:
                containers = early if old and not self.peace else self.truth.all_of(engine)
                self.give(Swept(engine=engine, containers=containers, number=number))

        self.later(self.random.choice((0.01, 1.0)), answer)

    def repair(self, command: Repair) -> None:
        if not self.peace and self.random.random() < 0.05:
            return
        helps = self.random.random() < 0.5

        def answer() -> None:
            self.watcher.repairing = None
            box = self.truth.boxes.get(command.ref)
            if box is not None and helps:
                box.problems -= {"PD101", "PD201"}
            why = "" if helps else "EPERM"
            self.give(
                Repaired(
                    number=command.number,
                    ref=command.ref,
                    path=command.root,
                    applied=3 if helps else 0,
                    failed=why,
                )
            )

        self.later(self.random.choice((0.1, 5.0)), answer)

    # -- what happens ------------------------------------------------------------------------

    def doings(self) -> list[Callable[[], None]]:
        some = [self.start, self.stop, self.restart, self.recreate, self.rename, self.problem]
        some += [self.problem, self.poke, self.sicken, self.drop_stream, self.set_clock]
        return [*some, self.reload, self.crash, self.loop, self.watch, self.refuse]

    def any_box(self) -> Box | None:
        boxes = list(self.truth.boxes.values())
        return self.random.choice(boxes) if boxes else None

    def start_box(self, engine: str, name: str = "") -> Box | None:
        name = name or self.free_name(engine)
        if not name:
            return None
        self.runs += 1
        ref = ContainerRef(engine=engine, id=f"{self.runs:064x}")
        box = Box(
            ref=ref,
            name=name,
            started=f"t{self.runs}",
            problems={c for c in SEVERITY if self.random.random() < 0.3},
            root=b"/srv/%d" % self.random.randrange(4),
        )
        self.reword(box)
        self.truth.boxes[ref] = box
        return box

    def free_name(self, engine: str) -> str:
        taken = self.truth.names
        for _ in range(9):
            name = f"n{self.random.randrange(self.names)}"
            if (engine, name) not in taken:
                return name
        return ""

    def start(self) -> None:
        box = self.start_box(self.random.choice(self.engines))
        if box is not None:
            self.tell(Action.START, box)

    def refuse(self) -> None:
        """Made, and never started; of that the engine says nothing."""
        box = self.start_box(self.random.choice(self.engines))
        if box is not None:
            box.refused = True
            box.problems &= set(PREDICTABLE)
            self.tell(Action.CREATE, box)

    def stop(self) -> None:
        box = self.any_box()
        if box is not None:
            action = self.random.choice((Action.STOP, Action.GONE))
            action = Action.GONE if box.refused else action
            del self.truth.boxes[box.ref]
            if action is Action.STOP:
                self.truth.exited[box.ref] = box
            self.tell(action, box)

    def restart(self) -> None:
        box = self.any_box()
        if box is not None:
            self.tell(Action.STOP, box)
            box.problems = {c for c in SEVERITY if self.random.random() < 0.3}
            self.run_again(box)

    def run_again(self, box: Box) -> None:
        self.runs += 1
        box.started, box.restarting, box.refused = f"t{self.runs}", False, False
        self.reword(box)
        self.tell(Action.START, box)

    def loop(self) -> None:
        """It crashes as soon as it starts, again and again, and may be seen at any moment of it."""
        box = self.any_box()
        for _ in range(self.random.randrange(1, 9)):
            if box is None:
                return
            self.tell(Action.STOP, box)
            box.restarting, box.refused = True, False
            if self.random.random() < 0.1:
                return
            self.advance(self.random.choice((0.1, 0.2, 5.0)))
            self.run_again(box)
            self.advance(self.random.choice((0.01, 0.05)))

    def recreate(self) -> None:
        box = self.any_box()
        if box is not None:
            del self.truth.boxes[box.ref]
            self.tell(Action.GONE, box)
            again = self.start_box(box.ref.engine, box.name)
            assert again is not None
            self.tell(Action.START, again)

    def rename(self) -> None:
        box = self.any_box()
        name = "" if box is None else self.free_name(box.ref.engine)
        if box is not None and name:
            box.name = name
            self.tell(Action.CHANGE, box)

    def problem(self) -> None:
        box = self.any_box()
        if box is None:
            return
        codes = PREDICTABLE if box.refused else sorted(SEVERITY)
        box.problems ^= {self.random.choice(codes)}
        self.reword(box)
        if box.root in self.watched:
            self.news(Changed(path=box.root + b"/x"), counts=True)

    def reword(self, box: Box) -> None:
        """The same problems, of somebody else, of more entries, worse or not as bad."""
        chance = self.words.random
        box.who = self.words.randrange(3) if chance() < 0.5 else box.who
        box.count = self.words.randrange(5) if chance() < 0.5 else box.count
        box.bad = chance() < 0.5

    def poke(self) -> None:
        """A health check."""
        box = self.any_box()
        if box is not None:
            self.tell(Action.CHANGE, box)

    def sicken(self) -> None:
        box = self.any_box()
        if box is not None:
            box.fails = self.random.choice(("", "", "no /proc"))
            box.dim = self.words.random() < 0.3
            box.hangs = self.random.random() < 0.3

    def drop_stream(self) -> None:
        engine = self.random.choice(self.engines)
        if self.truth.connected[engine]:
            self.truth.connected[engine] = False
            self.give(Disconnected(engine=engine, why="end of stream"))
        else:
            self.connect(engine)

    def connect(self, engine: str) -> None:
        self.truth.connected[engine] = True
        self.give(Connected(engine=engine, containers=self.truth.all_of(engine), by_root=True))

    def set_clock(self) -> None:
        if self.random.random() < 0.2:
            self.offset += self.random.choice((-3600.0, 3600.0, -0.5))

    def reload(self) -> None:
        """Another silence, that may end."""
        if self.random.random() < 0.4:
            ends = self.random.choice((None, 5.0, 60.0, 4000.0))
            wall = self.now + self.offset
            more = Silence(
                reason="for a while",
                code=self.random.choice(("PD101", "PD2*")),
                container=self.random.choice(("*", "n2")),
                expires=None if ends is None else wall + ends,
            )
            self.silences = (SILENCE, *((more,) if self.random.random() < 0.6 else ()))
            self.rules = replace(self.rules, silences=self.silences)
            self.give(Reloaded(rules=self.rules))

    def crash(self) -> None:
        """The service is killed, and started again: the outbox knows what was told."""
        if self.random.random() < 0.2:
            self.queue.clear()
            self.reconciler = Reconciler(self.rules, self.limits)
            self.start_rules = self.rules
            self.wanted, self.watched = (), frozenset()
            self.watcher.restarted()
            self.log.clear()
            self.give(Restored(firing=tuple(self.watcher.firing.values())))
            for engine in self.engines:
                self.truth.connected[engine] = False
                if self.random.random() < 0.8:
                    self.connect(engine)

    def tell(self, action: Action, box: Box) -> None:
        if self.truth.connected[box.ref.engine]:
            seen = self.truth.seen(box, started=self.start_says_when and action is Action.START)
            self.news(Happened(action=action, container=seen))

    def news(self, event: Event, *, counts: bool = False) -> None:
        """An event on its way.  ``counts``: a list does not tell what it tells."""
        if self.random.random() < self.loss:
            self.unheard = self.unheard or counts
            return
        for _ in range(2 if self.random.random() < 0.1 else 1):
            if self.random.random() >= self.late:
                self.give(event)
                continue
            self.unheard = self.unheard or counts

            def news() -> None:
                self.give(event)

            self.later(self.random.choice((0.1, 3.0, 30.0)), news)

    # -- what must be so ---------------------------------------------------------------------

    def differences(self) -> list[str]:
        """What of the state is not the truth."""
        state = self.reconciler.state()
        known = {c.ref: c for c in state.containers}
        out = [f"unknown: {b.name}" for ref, b in self.truth.boxes.items() if ref not in known]
        out += [f"not there: {c.name}" for ref, c in known.items() if ref not in self.truth.boxes]
        for ref, box in self.truth.boxes.items():
            if ref in known:
                c = known[ref]
                codes = {f.found.problem.code for f in c.findings} - {"PD401", "PD402"}
                if not c.judged or c.failed or c.name != box.name:
                    out.append(f"{box.name}: judged {c.judged}, failed {c.failed!r}, {c.name}")
                if c.started not in ("", box.started):
                    out.append(f"{box.name}: run {c.started}, is {box.started}")
                if codes != box.problems:
                    out.append(f"{box.name}: found {sorted(codes)}, has {sorted(box.problems)}")
        out += [f"told: {what}" for what in self.told() ^ self.should_be_told()]
        firing = {a.episode for a in state.firing}
        if firing != {a.episode for a in self.watcher.firing.values()}:
            out.append("firing is not what was told")
        return out + [f"old words: {name}" for name in self.old_words()]

    def old_words(self) -> list[str]:
        """What people are told differs from what is so."""
        boxes = {(b.ref.engine, b.name): b for b in self.truth.boxes.values()}
        out = []
        for alert in self.watcher.firing.values():
            of = alert.problem
            box = boxes.get((of.engine, of.container))
            if box is None or of.code not in box.problems:
                continue
            now = found(of.code, box)
            if (now.severity, now.title, now.who, now.remedies, now.count) != (
                alert.severity, alert.title, alert.who, alert.remedies, alert.count
            ):  # fmt: skip
                out.append(f"{box.name} {of.code}")
        return out

    def told(self) -> set[tuple[str, str, str]]:
        firing = (a.problem for a in self.watcher.firing.values())
        return {(p.engine, p.container, p.code) for p in firing if p.code not in ("PD401", "PD402")}

    def should_be_told(self) -> set[tuple[str, str, str]]:
        return {
            (b.ref.engine, b.name, code)
            for b in self.truth.boxes.values()
            for code in b.problems
            if SEVERITY[code] >= Severity.WARNING and not self.silenced(b.name, code)
        }

    def silenced(self, name: str, code: str) -> bool:
        wall = self.now + self.offset
        return any(
            s.container in ("*", name)
            and (s.code == code or (s.code == "PD2*" and code.startswith("PD2")))
            and (s.expires is None or wall < s.expires)
            for s in self.silences
        )
