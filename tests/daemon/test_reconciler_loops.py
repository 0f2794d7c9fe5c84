"""Crash loops: runs that are over before anybody can look, and what is told of them: once."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from permdoctor.daemon.events import Action, Changed, Check, Happened, Seen
from permdoctor.daemon.limits import Limits

from .story import (
    Result,
    Row,
    Story,
    connected,
    disconnected,
    ref,
    seen,
    start,
    stop,
    swept,
)

UP: Row = (0, connected())
GONE = {"gone": True}


def restarting(id_: str, name: str = "", started: str = "") -> Seen:
    return replace(seen(id_, name, started), restarting=True)


def crash(at: float, id_: str = "a") -> list[Row]:
    """A run of 50 ms."""
    return [(at, start(id_)), (at + 0.05, stop(id_))]


def looping(**rules: Any) -> Story:
    """``a`` has crashed twice; nobody has seen it run."""
    story = Story(**rules)
    story.play(UP, *crash(1), (1.1, Result("a", **GONE)), *crash(1.2))
    return story


def told(story: Story) -> list[str]:
    return [line for line in story.lines if line.split()[1][0] in "+-"]


def test_what_never_lasts_is_judged_when_it_is_stopped() -> None:
    story = looping()
    assert story.lines == ["1 check a started", "1.25 check a crash loop"]
    assert [line.event for line in story.logs].count("it starts again and again") == 1
    story.play((1.4, Result("a", "PD101", predicted=True)))
    assert told(story) == ["1.4 +PD101 a"]
    assert story.findings("a") == ["PD101*"]


@pytest.mark.parametrize(
    ("growth", "longest", "most"),
    [
        pytest.param(2.0, 60.0, 30, id="pauses that double, as Docker's"),
        pytest.param(1.0, 0.2, 30, id="no pause to speak of, as Podman's"),
    ],
)
def test_one_alert_however_often_it_crashes(growth: float, longest: float, most: int) -> None:
    """For a quarter of an hour, with less damping than its pauses; and it costs little."""
    story = looping(damp=1.0, sweep=1e6)
    at, pause, predictions = 1.4, 0.2, int(_answered(story))
    while at < 900:
        for row in crash(at):
            story.play(row)
            predictions += _answered(story)
        for _ in range(3):
            story.until(story.now + pause / 4)
            predictions += _answered(story)
        at, pause = at + pause, min(growth * pause, longest)
    assert told(story) == ["1.25 +PD101 a"]
    assert 15 <= predictions <= most


def _answered(story: Story) -> bool:
    """A check that is under way comes back; whether it was of a container that did not run."""
    if ref("a") not in story.checks:
        return False
    stopped = story.stopped[ref("a")]
    result = Result("a", "PD101", predicted=True) if stopped else Result("a", gone=True)
    number = story.checks[ref("a")]
    story.play((story.now, result))
    if story.checks[ref("a")] == number:
        del story.checks[ref("a")]
    return stopped


def test_a_check_that_finds_it_stopped_says_so_too() -> None:
    """The engine's word of it was lost, or is late."""
    story = Story()
    story.play(UP, (1, start("a")), (1.1, Result("a", **GONE)), (1.2, start("a")))
    story.until(2.1)
    assert story.play((2.1, Result("a", **GONE)))[-1] == "2.1 check a crash loop"
    assert story.play((2.2, stop("a"))) == []
    assert story.names() == ["a"]


def test_a_result_of_the_run_before_counts() -> None:
    story = looping()
    story.play((1.3, start("a")), (1.4, Result("a", "PD101")))
    assert told(story) == ["1.4 +PD101 a"]
    assert story.until(3) == ["2.3 check a started"], "the present run is judged all the same"


def test_a_prediction_does_not_resolve_what_a_process_showed() -> None:
    """Its entrypoint becomes another user: that is not written in its configuration."""
    story = looping()
    story.play((1.3, start("a")), (1.4, Result("a", "PD101")), (1.5, stop("a")))
    story.until(60)
    story.play((60, Result("a", "PD201", predicted=True)))
    assert story.findings("a") == ["PD101*", "PD201*"]
    story.play((61, start("a")), (61.5, Result("a")))
    assert told(story)[-2:] == ["61.5 -PD101 a", "61.5 -PD201 a"]


def test_it_lasts_at_last() -> None:
    story = looping()
    story.play((1.4, Result("a", "PD101", predicted=True)), (2, start("a")))
    story.play((3.2, Result("a")))
    assert told(story) == ["1.4 +PD101 a", "3.2 -PD101 a"]
    story.play((7, Result("a")))
    story.until(300)
    assert story.names() == ["a"]
    story.play((300, stop("a")))
    assert story.names() == [], "a run that lasted ends like any other"


def test_what_was_repaired_between_two_runs_is_resolved() -> None:
    story = looping()
    story.play((1.4, Result("a", "PD101", predicted=True, roots=(b"/srv",))))
    story.until(20)
    story.play((20, Result("a", "PD101", predicted=True, roots=(b"/srv",))))
    story.play((30, Changed(path=b"/srv")))
    assert story.until(32) == ["31 check a drift"]
    story.play((32, Result("a", predicted=True, roots=(b"/srv",))))
    assert told(story) == ["1.4 +PD101 a", "32 -PD101 a"]


def test_it_is_given_up() -> None:
    """Two minutes later, or at once when it is removed or no list has it."""
    for rows in ([], [(9, stop("a", "a"))]):
        story = looping()
        story.play((1.4, Result("a", "PD101", predicted=True)), *rows)
        story.until(121)
        assert story.names() == ["a"]
        story.until(122)
        assert story.names() == []
        story.until(300)
        assert told(story) == ["1.4 +PD101 a", "241.25 -PD101 a"]
    removed = looping()
    removed.play((9, Happened(action=Action.GONE, container=seen("a"))))
    assert removed.names() == []
    unlisted = looping()
    unlisted.play((9, swept()))
    assert unlisted.names() == []


def test_nobody_is_given_up_while_its_engine_is_away() -> None:
    story = looping()
    story.play((2, disconnected()))
    story.until(1000)
    assert story.names() == ["a"]
    story.play((1000, connected()))
    assert story.names() == []


def test_a_list_knows_who_waits_and_who_runs() -> None:
    story = looping()
    story.play((1.4, Result("a", "PD101", predicted=True, started="t2")))
    story.play((9, Result("a", "PD101", predicted=True, started="t2")))
    story.play((100, swept(restarting("a", started="t2"))))
    story.until(200)
    assert story.names() == ["a"], "the engine has not given it up"
    assert story.play((200, swept(seen("a", "a", "t3"))))[-1] == "200 check a started"
    story.play((201, Result("a", started="t3")), (400, swept(seen("a", "a", "t3"))))
    assert story.names() == ["a"]
    assert told(story) == ["1.4 +PD101 a", "201 -PD101 a"]


def test_restarts_in_a_row_do_not_put_off_the_next_look() -> None:
    """Ten starts a second for a minute: then it is judged within a second."""
    story = Story()
    story.play(UP)
    for n in range(600):
        story.play((1 + n / 10, start("a")))
    story.until(62)
    story.play((62, Result("a")), (62.1, Result("a")), (66, Result("a")))
    assert story.play((70, start("a"))) == ["70 check a started"]


def test_who_waits_when_the_engine_is_connected_is_judged_stopped() -> None:
    commands = []
    story = Story()
    for command in story.reconciler.handle(connected(restarting("a")), 0, 0):
        commands.append(command)
    assert [c.stopped for c in commands if isinstance(c, Check)] == [True]


def test_one_that_was_removed_is_not_waited_for() -> None:
    """``docker run --rm`` in a loop of its own: another container each time."""
    story = Story(Limits(checks=4))
    story.play(UP)
    for n in range(9):
        name = f"c{n}"
        story.play((n, start(name, "web")), (n + 0.05, stop(name, "web")))
        story.play((n + 0.06, Happened(action=Action.GONE, container=seen(name, "web"))))
        assert story.names() == []
