"""Engines whose events are lost, and engines that are not watched any more."""

from __future__ import annotations

from itertools import pairwise

import pytest

from permdoctor.alerts.alert import AlertStatus
from permdoctor.daemon.events import Left, Lost

from .story import ENGINE, Result, Row, Story, change, connected, found, start, swept

OTHER = "unix:///run/user/1000/docker.sock"
LOST = Lost(engine=ENGINE)
LEFT = Left(engine=ENGINE)


def settled() -> Story:
    """``a`` runs, and was judged twice."""
    story = Story(check_again=1e6)
    story.play((0, connected("a")), (0.1, Result("a", "PD101")), (9, Result("a", "PD101")))
    story.lines.clear()
    return story


LOSSES = [
    pytest.param(
        [(20, LOST), (20.1, swept("a"))],
        ["20 list", "20.1 check a lost events"],
        id="who runs, and then how they are",
    ),
    pytest.param(
        [(20, LOST), (20, LOST), (20, LOST), (20.1, swept("a"))],
        ["20 list", "20.1 check a lost events", "30 list"],
        id="again while the list is on its way: once more, but not at once",
    ),
    pytest.param(
        [(20, LOST), (20.1, swept("a", "b"))],
        ["20 list", "20.1 check b started", "20.1 check a lost events"],
        id="who was started meanwhile goes first",
    ),
    pytest.param([(20, Lost(engine=OTHER))], [], id="of an engine that nobody knows"),
]


@pytest.mark.parametrize(("rows", "lines"), LOSSES)
def test_lost_events(rows: list[Row], lines: list[str]) -> None:
    story = settled()
    assert [*story.play(*rows), *story.until(60)] == lines


@pytest.mark.parametrize("every", [0.5, 5.0, 11.0])
def test_events_that_are_lost_all_the_time_judge_nobody_all_the_time(every: float) -> None:
    """As those of a container with labels that are longer than an event may be."""
    story = settled()
    lists, checks, done = [], [], 0
    while story.now < 1000:
        story.play((story.now + every, LOST))
        while done < len(story.lines):
            at, what = story.lines[done].split(" ", 1)
            done += 1
            if what == "list":
                lists.append(float(at))
                story.give(swept("a"))
            else:
                checks.append(float(at))
                story.play((story.now, Result("a", "PD101")))
    assert all(after - before >= 9.9 for before, after in pairwise(lists))
    assert 60 <= len(lists) <= 101, "it is listed all the same"
    assert 3 <= len(checks) <= 8, checks


def test_an_engine_that_left_leaves_nothing() -> None:
    story = settled()
    story.play((10, connected("b", engine=OTHER)), (11, Result("b", "PD101", engine=OTHER)))
    story.tells.clear()
    story.play((20, LEFT))
    (over,) = story.tells
    assert (over.alert.status, over.alert.problem.engine) == (AlertStatus.RESOLVED, ENGINE)
    assert over.why == "its engine is not watched any more"
    state = story.reconciler.state()
    assert [e.engine for e in state.engines] == [OTHER]
    assert story.names() == ["b"]
    assert len(state.firing) == 1


def test_its_check_that_comes_back_is_nobodys() -> None:
    story = Story()
    story.play((0, connected("a")), (1, LEFT), (2, Result("a", "PD101")))
    assert (story.tells, story.reconciler.state().engines) == ([], ())
    story.play((3, LEFT), (4, connected("a")), (5, Result("a", "PD101")))
    assert [t.alert.status for t in story.tells] == [AlertStatus.FIRING], "it came back"


def test_a_health_check_takes_a_tenth_of_a_worker() -> None:
    """Whatever it finds: a container may be another each time."""
    story = Story()
    story.play((0, connected()), (0.5, start("a")))
    busy, now, n = 0.0, 1.0, 0
    seconds = 5.0
    while now < 600:
        if story.checks:
            busy, now, n = busy + seconds, now + seconds, n + 1
            one = found("PD101", f"/{n}")
            story.play((now, Result("a", one, seconds=seconds)))
            story.checks.clear()
        story.play((now, change("a")))
        now += 0.5
    assert 0.03 < busy / now < 0.12
