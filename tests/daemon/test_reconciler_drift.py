"""What inotify does not see: below the first levels, and where nothing can be watched."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from permdoctor.daemon.events import Action, Changed, Check, Checked, Command, Event, Happened, List
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.neighbours import WHY

from .story import Result, Story, change, connected, found, seen, start, stop, swept

OTHER = "unix:///run/other.sock"
DATA, RUNS = b"/data", b"/data/runs/7"


class Town(Story):
    """Each container mounts one path, writable; every check and list is answered at once.
    ``judged`` is when which was, and why.
    """

    def __init__(self, limits: Limits | None = None, **rules: Any) -> None:
        super().__init__(limits or Limits(checks=200), **rules)
        self.of: dict[str, bytes] = {}
        self.fields: dict[str, Any] = {}
        self.codes: tuple[str, ...] = ()
        self.judged: list[tuple[float, str, str]] = []

    def settle(self, **of: bytes) -> Town:
        """They run, were judged twice, and nothing is due for long."""
        self.of = of
        self.play((0, connected(*of)))
        self.until(11)
        self.judged.clear()
        return self

    def give(self, event: Event) -> None:
        heard: list[Command] = []
        self._hear_of = heard
        super().give(event)
        for command in heard:
            self._answer(command)

    def _hear(self, command: Command) -> None:
        super()._hear(command)
        self._hear_of.append(command)

    def _answer(self, command: Command) -> None:
        match command:
            case Check(number=number, ref=which, why=why, stopped=stopped):
                self.judged.append((self.now, which.id, why))
                roots = (self.of[which.id],)
                self.give(
                    Checked(
                        number=number,
                        ref=which,
                        found=tuple(found(code) for code in self.codes),
                        roots=roots,
                        writes=roots,
                        predicted=stopped,
                        **self.fields,
                    )
                )
            case List():
                self.give(swept(*self.names()))
            case _:
                pass

    def whens(self, name: str, why: str = "") -> list[float]:
        return [at for at, who, because in self.judged if who == name and why in ("", because)]

    def visits(self) -> dict[str, float]:
        return {who: at for at, who, why in self.judged if why == WHY}


def shared(**rules: Any) -> Town:
    """``a`` mounts what ``b`` mounts, and ``c`` what lies below that; ``d`` something else."""
    town = Town(**{"sweep": 1e6, **rules})
    return town.settle(a=DATA, b=DATA, c=RUNS, d=b"/datastore")


# --- who shares a path ---


@pytest.mark.parametrize(
    ("event", "judged"),
    [
        pytest.param(change("a"), "bc", id="something is executed in it"),
        pytest.param(stop("a"), "bc", id="it ends"),
        pytest.param(Happened(action=Action.GONE, container=seen("a")), "bc", id="it is removed"),
        pytest.param(swept("b", "c", "d"), "bc", id="its end is only seen in a list"),
        pytest.param(start("a"), "bc", id="it is started again"),
        pytest.param(change("c"), "ab", id="one below the others"),
        pytest.param(change("d"), "", id="one with a path that only begins alike"),
    ],
)
def test_somebody_was_there_who_may_write(event: Event, judged: str) -> None:
    town = shared()
    town.play((20, event))
    town.until(22)
    assert town.visits() == dict.fromkeys(judged, 21)


def test_who_starts_is_known_when_it_is_judged() -> None:
    """And is itself judged again when it has settled, as always."""
    town = shared()
    town.of["new"] = DATA
    town.play((20, start("new")))
    town.until(26)
    assert town.visits() == dict.fromkeys("abc", 21)
    assert town.whens("new") == [20, 25]


def test_who_was_over_before_it_was_judged() -> None:
    """Where it wrote its configuration says."""
    story = Story(Limits(checks=9), sweep=1e6)
    story.play((0, connected("a")), *((at, Result("a", roots=(DATA,))) for at in (1, 6)))
    story.play((20, start("job")), (20.05, stop("job")))
    story.play((20.1, Result("job", gone=True, writes=(RUNS,))))
    assert story.until(22)[-1] == f"21.1 check a {WHY}"


def test_who_may_not_write_there_disturbs_nobody() -> None:
    story = Story(Limits(checks=9), sweep=1e6)
    story.play((0, connected("a", "b")))
    for at in (1, 6):
        story.play((at, Result("a", roots=(DATA,))), (at, Result("b", roots=(DATA,))))
    story.play((20, stop("a")))
    assert story.until(30) == []


def test_it_is_a_container_of_any_engine() -> None:
    town = shared()
    town.of["new"] = RUNS
    town.play((20, connected("new", engine=OTHER)))
    town.until(22)
    assert town.visits() == dict.fromkeys("abc", 21)


def test_what_has_just_started_is_judged_when_it_has_settled() -> None:
    """A hundred that start together on one path are judged twice each, and not three times."""
    town = Town(sweep=1e6)
    town.of = {f"c{n}": DATA for n in range(100)}
    town.play((0, connected(*town.of)))
    town.until(60)
    assert len(town.judged) == 200


# --- a bound ---


@pytest.mark.parametrize(
    "every",
    [pytest.param(0.5, id="a crash loop"), pytest.param(30.0, id="a health check")],
)
@pytest.mark.parametrize("flips", [False, True])
def test_what_happens_in_a_loop_does_not_keep_others_busy(every: float, flips: bool) -> None:
    """At first they are judged at once, then less and less, at last each five minutes: whether
    something is found each time or not.
    """
    town = shared(check_again=1800.0)
    for n in range(int(1800 / every)):
        town.codes = ("PD101",) if flips and n % 2 else ()
        at = 20 + n * every
        if every < 1:
            town.play((at, stop("a")), (at + 0.1, start("a")))
        else:
            town.play((at, change("a")))
    for name in "bc":
        whens = town.whens(name, WHY)
        assert whens[0] == 21
        assert 8 <= len(whens) <= 14
        assert max(later - sooner for sooner, later in pairwise(whens)) < 340


def test_nobody_is_its_own_neighbour() -> None:
    """Its health checks count once, as they always did."""
    town = Town(sweep=1e6).settle(a=DATA)
    for at in range(20, 1800, 10):
        town.play((at, change("a")))
    assert town.whens("a", WHY) == []


def test_what_takes_long_is_judged_less_often() -> None:
    """A tenth of a worker."""
    town = shared()
    town.fields = {"seconds": 20.0}
    for at in range(20, 420, 10):
        town.play((at, change("a")))
    assert town.whens("b", WHY) == [21, 221]


def test_after_a_rest_it_is_judged_at_once() -> None:
    town = shared()
    for at in range(20, 120, 10):
        town.play((at, change("a")))
    town.play((9000, change("a")))
    town.until(9002)
    assert town.visits()["b"] == 9001


def test_who_fails_has_its_time() -> None:
    town = shared()
    town.fields = {"failed": "no /proc"}
    town.play((20, change("b")))
    town.until(21.5)
    town.fields = {}
    town.play((22, change("a")))
    town.until(30)
    assert town.whens("b") == [21, 26]


# --- what is not watched ---


def dark(*names: str, **rules: Any) -> Town:
    town = Town(**rules)
    town.dark = {DATA: "service.watch_max is reached"}
    return town.settle(**dict.fromkeys(names, DATA), other=b"/elsewhere")


def test_it_is_judged_at_each_sweep() -> None:
    town = dark("a", sweep=300.0)
    town.until(1500)
    whens = town.whens("a")
    assert 4 <= len(whens) <= 6
    assert all(later - sooner == 300 for sooner, later in pairwise(whens[1:]))
    assert town.whens("other") == []


def test_what_takes_long_is_not_judged_at_each() -> None:
    """At most a hundredth of a worker."""
    town = dark("a", sweep=300.0)
    town.fields = {"seconds": 10.0}
    town.until(7000)
    assert 6 <= len(town.whens("a")) <= 10


def test_they_are_not_judged_together() -> None:
    town = dark(*(f"c{n}" for n in range(50)), sweep=300.0)
    town.until(320)
    assert {name for _, name, _ in town.judged} == town.of.keys() - {"other"}
    assert _most_within(10, [at for at, _, _ in town.judged]) < 35


def test_what_can_be_watched_no_longer_and_what_can_again() -> None:
    """The first from now on, spread; the second at once: what changed nobody saw."""
    town = shared(sweep=300.0)
    paths = (DATA, RUNS, b"/datastore")
    town.dark = {DATA: "it does not answer"}
    town.play((20, town.watched(paths)))
    town.until(321)
    assert {name for _, name, _ in town.judged} == {"a", "b"}
    town.dark = {}
    town.play((400, town.watched(paths)))
    town.until(402)
    assert town.judged[-2:] == [(401, "a", "watched"), (401, "b", "watched")]


def test_what_is_beyond_the_limit_is_not_watched() -> None:
    town = Town(Limits(checks=9, roots=1), sweep=300.0).settle(a=DATA, other=b"/elsewhere")
    town.until(330)
    assert {name for _, name, _ in town.judged} == {"other"}
    state = town.reconciler.state()
    assert (state.watched, state.unwatched) == (1, 1)
    assert state.blind == "more than 1 paths are mounted"


def test_the_state_says_what_is_watched() -> None:
    state = dark("a").reconciler.state()
    assert (state.watched, state.unwatched, state.directories) == (1, 1, 1)
    assert state.blind == "service.watch_max is reached"
    state = shared().reconciler.state()
    assert (state.watched, state.unwatched, state.blind) == (3, 0, "")


def test_after_long_not_all_at_once() -> None:
    """Each has a time of its own, the same in every service."""
    first, second = (
        Town(sweep=1e6, check_again=1800.0).settle(**{f"c{n}": DATA for n in range(100)})
        for _ in range(2)
    )
    first.until(11 + 1800)
    second.until(11 + 1800)
    assert first.judged == second.judged
    whens = [at for at, _, _ in first.judged]
    assert len(whens) == 100
    assert _most_within(400, whens) < 45
    assert len(set(whens)) == 4, "what is read of the machine serves several"


def test_drift_that_is_seen_is_judged_as_before() -> None:
    town = shared()
    town.play((20, Changed(path=DATA + b"/x")))
    town.until(22)
    assert town.judged == [(21, "a", "drift"), (21, "b", "drift")]


def _most_within(seconds: float, whens: list[float]) -> int:
    return max(sum(when <= other < when + seconds for other in whens) for when in whens)
