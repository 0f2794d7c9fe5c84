"""PD404: an engine that does not answer."""

from __future__ import annotations

import pytest

from permdoctor.alerts.alert import AlertStatus
from permdoctor.daemon.events import Disconnected, Left, Reloaded, Restored, Rules, Silence
from permdoctor.daemon.limits import Limits
from permdoctor.diagnosis.report import Severity

from .story import ENGINE, Result, Row, Story, connected, disconnected, swept

UP = connected()
FALLS = ((10, disconnected()), (131, disconnected()))

STORIES = [
    pytest.param([(10, disconnected()), (100, UP)], [], id="not for long"),
    pytest.param([*FALLS], ["130 +PD404 "], id="for two minutes"),
    pytest.param([*FALLS, (500, UP)], ["130 +PD404 ", "500 -PD404 "], id="and back"),
    pytest.param(
        [*FALLS, (500, UP), (510, disconnected()), (700, UP)],
        ["130 +PD404 ", "500 -PD404 ", "630 +PD404 ", "760 -PD404 "],
        id="again within the hour: its end is damped",
    ),
    pytest.param(
        [
            row
            for at in (10, 510, 1010, 1510)
            for row in ((at, disconnected()), (at + 130, UP), (at + 450, swept()))
        ],
        [
            *("130 +PD404 ", "140 -PD404 "),
            *("630 +PD404 ", "700 -PD404 "),
            *("1130 +PD404 ", "1260 -PD404 "),
            *("1630 +PD404 ", "1820 -PD404 "),
        ],
        id="again and again: later each time",
    ),
    pytest.param(
        [(10, disconnected()), (20, Reloaded(rules=Rules(host="h"))), (100, UP)],
        [],
        id="a reload meanwhile",
    ),
    pytest.param(
        [*FALLS, (500, Left(engine=ENGINE))],
        ["130 +PD404 ", "500 -PD404 "],
        id="taken out of the configuration",
    ),
    pytest.param(
        [*FALLS, (1200, disconnected()), (1300, Left(engine=ENGINE))],
        ["130 +PD404 ", "1300 -PD404 "],
        id="longer than it is remembered: it is away all the same",
    ),
]


@pytest.mark.parametrize(("rows", "lines"), STORIES)
def test_away(rows: list[Row], lines: list[str]) -> None:
    story = Story(Limits(forget=1000.0))
    story.play((0, UP))
    story.lines.clear()
    said = [*story.play(*rows), *story.until(story.now + 400)]
    assert [line for line in said if "PD404" in line] == lines


def test_who_never_answered() -> None:
    """A dockerd that fails at boot, or a socket's name that is wrong."""
    story = Story()
    rows = [(at, disconnected()) for at in range(0, 500, 30)]
    assert story.play(*rows, (500, UP)) == ["120 +PD404 ", "500 -PD404 "]


def test_why_is_said_as_it_is_now() -> None:
    story = Story()
    story.play((0, UP), *FALLS, (300, Disconnected(engine=ENGINE, why="Permission denied")))
    story.until(400)
    (alert,) = story.reconciler.state().firing
    assert "Permission denied" in alert.detail
    assert len(story.tells) == 1, "quietly"


def test_what_is_said_of_it() -> None:
    story = Story()
    story.play((0, UP), *FALLS)
    (tell,) = story.tells
    alert = tell.alert
    assert (alert.problem.engine, alert.problem.container, alert.problem.target) == (ENGINE, "", "")
    assert alert.host_path == "/run/docker.sock"
    assert f"endpoint: {ENGINE}" in alert.detail
    assert "end of stream" in alert.detail
    assert alert.severity is Severity.WARNING


def test_its_containers_problems_stay() -> None:
    story = Story()
    story.play((0, connected("a")), (1, Result("a", "PD101")), *FALLS)
    assert sorted(a.problem.code for a in story.reconciler.state().firing) == ["PD101", "PD404"]


@pytest.mark.parametrize("code", ["PD404", "PD1*"])
def test_a_silence_holds(code: str) -> None:
    story = Story(silences=(Silence(reason="upgrade", code=code, path="/run/*"),))
    story.play((0, UP), *FALLS)
    assert bool(story.tells) is (code != "PD404")


def test_a_silence_that_comes_later() -> None:
    story = Story()
    story.play((0, UP), *FALLS)
    silent = Rules(host="h", silences=(Silence(reason="upgrade", code="PD404"),))
    assert story.play((200, Reloaded(rules=silent))) == ["200 -PD404 "]
    assert story.tells[-1].why == "ignored: upgrade"
    assert story.play((300, Reloaded(rules=Rules(host="h")))) == ["300 +PD404 "]


def test_it_is_told_below_no_severity_that_was_not_asked_for() -> None:
    story = Story(min_severity=Severity.ERROR)
    story.play((0, UP), *FALLS)
    assert story.tells == []


@pytest.mark.parametrize("order", ["restored first", "connected first", "away"])
def test_after_a_restart_of_the_service(order: str) -> None:
    """It fires until the engine answers."""
    before = Story()
    before.play((0, UP), *FALLS)
    restored = Restored(firing=before.reconciler.state().firing)
    rows = {
        "restored first": ((0, restored), (1, disconnected()), (400, swept()), (400, UP)),
        "connected first": ((0, UP), (1, restored)),
        "away": ((0, restored), (1, disconnected()), (400, disconnected())),
    }[order]
    story = Story()
    story.play(*rows)
    story.until(1000)
    firing = [a.problem.code for a in story.reconciler.state().firing]
    assert firing == (["PD404"] if order == "away" else [])
    assert [t.alert.status for t in story.tells] == [AlertStatus.RESOLVED] * (order != "away")
