"""When who is judged: tables of (time, event), and the commands with their times."""

from __future__ import annotations

import pytest

from permdoctor.daemon.events import Changed, Disconnected, MapsChanged, Reloaded, Restored, Rules
from permdoctor.daemon.limits import Limits

from .story import (
    ENGINE,
    Result,
    Row,
    Story,
    change,
    connected,
    disconnected,
    found,
    ref,
    seen,
    start,
    stop,
    swept,
)

UP: Row = (0, connected())
OTHER = "unix:///run/user/1000/docker.sock"


def settled(story: Story, *ids: str, **fields: object) -> None:
    """These run, and were judged twice without a finding."""
    story.play((0, connected(*ids)))
    story.play(*((0.1, Result(i, **fields)) for i in ids))
    story.play(*((9, Result(i, **fields)) for i in ids))
    story.lines.clear()


JUDGED = [
    pytest.param(
        [UP, (1, start("a")), (1.1, Result("a")), (6.1, Result("a")), (60, stop("a"))],
        ["1 check a started", "6 check a settled"],
        id="at its start, and when it has settled",
    ),
    pytest.param(
        [(0, connected("a", "b")), (0.1, Result("b")), (0.2, Result("a"))],
        ["0 check a started", "0 check b started"],
        id="what runs when an engine answers",
    ),
    pytest.param(
        [(0, connected("a")), (0.1, Result("a")), (2, swept("a", "b")), (2.1, stop("a"))],
        ["0 check a started", "2 check b started"],
        id="what a list shows that nobody told of",
    ),
    pytest.param(
        [UP, (1, start("a")), (1.1, start("a")), (1.2, start("a")), (3, Result("a"))],
        ["1 check a started", "3 check a started"],
        id="starts one after the other: once more, when they are over",
    ),
    pytest.param(
        [UP, (1, start("a", "a", "t1")), (1.1, start("a", "a", "t1")), (2, Result("a"))],
        ["1 check a started"],
        id="an event that came twice",
    ),
    pytest.param(
        [UP, (1, start("a", "a", "t1")), (2, start("a", "a", "t2")), (3, Result("a"))],
        ["1 check a started", "3 check a started"],
        id="another run while it is checked: again, but not two at once",
    ),
    pytest.param(
        [UP, (1, start("a")), (2, stop("a")), (3, start("a")), (4, Result("a"))],
        ["1 check a started", "4 check a started"],
        id="stopped and started while it is checked",
    ),
    pytest.param(
        [UP, (1, start("a")), (2, stop("a")), (3, Result("a")), (4, start("b"))],
        ["1 check a started", "4 check b started"],
        id="stopped while it is checked: forgotten",
    ),
    pytest.param(
        [UP, (1, start("a")), (2, Result("a", gone=True)), (90, swept())],
        ["1 check a started"],
        id="the check says that it is gone",
    ),
    pytest.param(
        [UP, (1, change("a")), (2, Result("a", gone=True)), (9, stop("b"))],
        ["1 check a started"],
        id="an event of one that nobody knew",
    ),
    pytest.param(
        [UP, (1, start("a", "x", "t2")), (2, stop("a", "x", "t1")), (9, Result("a"))],
        ["1 check a started", "7 list", "9 check a settled"],
        id="the end of a run that was over before does not end this one",
    ),
    pytest.param(
        [(0, start("a")), (3, connected("a")), (4, Result("a"))],
        ["3 check a started"],
        id="before its engine answers: when it does",
    ),
    pytest.param(
        [(0, connected("a")), (0.1, Result("a", started="t1")), (2, swept(seen("a", "a", "t1")))],
        ["0 check a started"],
        id="the check knows which run it judged",
    ),
    pytest.param(
        [(0, connected("a")), (0.1, Result("a", started="t1")), (2, swept(seen("a", "a", "t2")))],
        ["0 check a started", "2 check a started"],
        id="a list with another run than was judged",
    ),
]


@pytest.mark.parametrize(("rows", "lines"), JUDGED)
def test_judged(rows: list[Row], lines: list[str]) -> None:
    assert Story().play(*rows) == lines


SETTLED = [
    pytest.param([(10, change("a"))], ["11 check a stirred"], id="an exec"),
    pytest.param(
        [(10, change("a")), (10.5, change("a")), (10.9, change("a"))],
        ["11 check a stirred"],
        id="debounced, and not put off for ever",
    ),
    pytest.param([(10, change("a", "new"))], ["11 check a renamed"], id="renamed"),
    pytest.param([(10, start("a"))], ["10 check a started"], id="another run"),
    pytest.param([(10, Changed(path=b"/srv/data"))], ["11 check a drift"], id="its root"),
    pytest.param([(10, Changed(path=b"/srv/data/x/y"))], ["11 check a drift"], id="below it"),
    pytest.param([(10, Changed(path=b"/srv/database"))], [], id="beside it"),
    pytest.param([(10, Changed(path=b"/srv"))], [], id="above it"),
    pytest.param([(10, Changed(path=b""))], [], id="no path at all"),
    pytest.param([(10, MapsChanged(path=b"/etc/subuid"))], ["11 check a maps"], id="id maps"),
    pytest.param(
        [(10, Reloaded(rules=Rules(host="h")))], ["11 check a reloaded"], id="the configuration"
    ),
    pytest.param(
        [(10, disconnected()), (12, connected("a"))],
        ["12 check a reconnected"],
        id="its engine is back: events may have been lost",
    ),
    pytest.param(
        [(10, disconnected()), (11, change("a")), (50, connected("a"))],
        ["50 check a stirred"],
        id="not while its engine is away",
    ),
    pytest.param([(10, swept("a"))], [], id="a list in which nothing is new"),
]


@pytest.mark.parametrize(("rows", "lines"), SETTLED)
def test_judged_again(rows: list[Row], lines: list[str]) -> None:
    story = Story()
    settled(story, "a", roots=(b"/srv/data",))
    story.play(*rows)
    story.until(60)
    assert [line for line in story.lines if "watch" not in line] == lines


def test_a_new_run_before_a_second_look() -> None:
    """But what has waited for long goes first."""
    story = Story(Limits(checks=1))
    settled(story, "a", "b", "c")
    rows: list[Row] = [(20, MapsChanged(path=b"/etc/subgid")), (21.5, start("new"))]
    assert story.play(*rows, (22, Result("a"))) == ["21 check a maps", "22 check new started"]
    assert story.play((26.5, start("d")), (27, Result("new"))) == ["27 check b maps"]


def test_after_an_hour() -> None:
    """At the latest: each hour has its moments."""
    story = Story(Limits(checks=4, check_deadline=1e6), sweep=1e6)
    settled(story, "a", "b", "c", "d")
    lines = story.until(9 + 3600)
    assert sorted(line.split(" ", 1)[1] for line in lines) == [f"check {i} again" for i in "abcd"]
    assert {line.split()[0] for line in lines} == {"3600"}


@pytest.mark.parametrize(
    ("event", "looks"),
    [
        pytest.param(change("a"), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600], id="checks"),
        pytest.param(
            Changed(path=b"/srv/data/x"), [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60], id="writes"
        ),
    ],
)
def test_what_never_brings_anything_new_is_looked_at_later(event: object, looks: list[int]) -> None:
    """Health checks are events, too.  How long after each event it is looked at."""
    story = Story(sweep=1e6)
    settled(story, "a", roots=(b"/srv/data",))
    waited = []
    at = 20.0
    for _ in looks:
        story.play((at, event))
        story.next()
        waited.append(round(story.now - at))
        story.play((story.now, Result("a", roots=(b"/srv/data",))))
        at = story.now + 1
    assert waited == looks


def test_what_takes_long_is_looked_at_seldom() -> None:
    """But not at first: it may have been slow only because everybody was judged."""
    story = Story(sweep=1e6)
    settled(story, "a", roots=(b"/srv",))
    story.play((10, Changed(path=b"/srv/x")))
    story.next()
    story.play((12, Result("a", roots=(b"/srv",), seconds=5.0)))
    story.play((20, Changed(path=b"/srv/x")))
    assert story.until(80) == ["70 check a drift"]
    story.play((81, Result("a", "PD101", roots=(b"/srv",), seconds=5.0)))
    story.play((100, Changed(path=b"/srv/x")))
    assert story.until(160) == ["105 check a drift"]


def test_something_new_is_looked_at_soon_again() -> None:
    story = Story(sweep=1e6)
    settled(story, "a", roots=(b"/srv",))
    at = 10.0
    for _ in range(6):
        story.play((at, Changed(path=b"/srv/x")))
        story.until(at + 70)
        story.play((at + 70, Result("a", roots=(b"/srv",))))
        at += 71
    story.play((at, Changed(path=b"/srv/x")))
    assert story.until(at + 70)[0].startswith(f"{at + 60:g} check")
    story.play((at + 70, Result("a", "PD201", roots=(b"/srv",))))
    story.play((at + 80, Changed(path=b"/srv/x")))
    assert story.until(at + 90) == [f"{at + 81:g} check a drift"]


def test_one_of_each_waits_and_no_more_than_may_are_under_way() -> None:
    story = Story(Limits(checks=2))
    ids = [f"c{n}" for n in range(5)]
    story.play((0, connected(*ids)))
    for _ in range(3):
        story.play(*((1, change(i)) for i in ids))
    state = story.reconciler.state()
    assert story.lines == ["0 check c0 started", "0 check c1 started"]
    assert (state.checking, state.waiting) == (2, 3)
    assert story.play((1.5, Result("c1"))) == ["1.5 check c2 started"]
    assert story.play((1.6, Result("c0"))) == ["1.6 check c3 started"]


def test_a_check_that_fails_is_tried_again_later_and_later() -> None:
    story = Story(sweep=1e6)
    story.play((0, connected("a")), (0, Result("a", failed="no /proc")))
    at = []
    for _ in range(10):
        due = story.reconciler.due()
        assert due is not None
        story.play((due, change("a")))
        at.append(story.now)
        story.play((due, Result("a", failed="no /proc")), (due + 1, change("a")))
    assert at == [5, 15, 35, 75, 155, 315, 635, 1275, 2175, 3075]
    assert story.reconciler.state().containers[0].failed == "no /proc"
    assert story.reconciler.state().containers[0].failures == 11
    assert len([line for line in story.logs if line.event == "check failed"]) == 11


def test_an_engine_that_goes_is_said_once() -> None:
    """And not by each of its containers, that is just being checked."""
    story = Story()
    story.play((0, connected("a", "b")))
    story.play(*((1, Result(i, failed="no such socket", away=True)) for i in "ab"))
    story.play((2, disconnected()))
    assert [x.event for x in story.logs if x.level == "warning"] == ["engine disconnected"]


def test_a_check_that_hangs_is_given_up() -> None:
    story = Story(Limits(checks=2, check_deadline=10.0), sweep=1e6)
    rows: list[Row] = [(0, connected("h1", "h2", "h3", "ok"))]
    assert story.play(*rows) == ["0 check h1 started", "0 check h2 started"]
    assert story.until(11) == ["10 check h3 started", "10 check ok started"]
    assert story.reconciler.state().containers[0].failed == "no answer within 10 s"


def test_what_hung_before_takes_half_of_the_places_only() -> None:
    story = Story(Limits(checks=2, check_deadline=10.0), sweep=1e6)
    story.play((0, connected("h1", "h2")))
    assert story.until(20) == ["15 check h1 retry"]
    assert story.play((20, start("new"))) == ["20 check new started"]
    story.play((21, Result("new")))
    assert story.until(26) == ["25 check h2 retry", "25 check new settled"]


def test_the_result_of_a_run_that_is_over_is_dropped() -> None:
    story = Story()
    story.play((0, connected("a")), (1, start("a")), (2, Result("a", "PD101")))
    assert story.lines == ["0 check a started", "2 check a started"]
    assert story.findings("a") == []
    assert not story.reconciler.state().containers[0].judged


def test_a_result_that_comes_late_is_better_than_none() -> None:
    story = Story(Limits(checks=2, check_deadline=10.0))
    story.play((0, connected("a")))
    story.until(11)
    assert story.play((11, Result("a", "PD101")))[0] == "11 +PD101 a"
    state = story.reconciler.state().containers[0]
    assert (state.judged, state.failed) == (True, "")


def test_what_an_engine_that_is_away_could_not_answer_is_no_failure() -> None:
    story = Story()
    story.play((0, connected("a")), (1, disconnected()), (2, Result("a", failed="EPIPE")))
    assert story.until(40) == []
    assert story.play((40, connected("a"))) == ["40 check a started"]


def test_roots_that_nobody_watched_are_looked_at_again() -> None:
    """What changed there while it was checked for the first time nobody saw."""
    story = Story(Limits(checks=1))
    story.play((0, connected("slow", "a")), (30, Result("slow")))
    assert story.lines[1:] == ["30 check a started"]
    story.play((40, Result("a", roots=(b"/srv",))), (40.5, Result("slow")))
    story.until(60)
    assert story.lines[2:] == ["40 watch /srv", "40 check slow settled", "41 check a settled"]


# -- lists ------------------------------------------------------------------------------------


def test_lists_are_asked_for() -> None:
    story = Story(sweep=100.0)
    story.play((0, connected()))
    assert story.until(150) == ["100 list"]
    assert story.until(320) == ["260 list"], "not answered within a minute, and then as usual"
    story.play((320, swept()))
    assert story.until(450) == ["420 list"]
    story.play((430, disconnected()))
    assert story.until(1000) == ["550 +PD404 "]


def test_an_old_list_does_not_overrule_what_was_heard_since() -> None:
    """Events that came after it was asked for may be newer; then another one is asked for."""
    story = Story(sweep=100.0)
    story.play((0, connected("a")), (0, Result("a")), (10, Result("a")))
    story.play((100.1, start("new")), (100.2, swept("a")))
    assert story.names() == ["a", "new"]
    assert story.until(106) == ["105.2 list"]
    story.play((106, swept("a")))
    assert story.names() == ["a"]


@pytest.mark.parametrize("late", [False, True])
def test_a_list_that_comes_late_does_not_overrule_a_newer_one(late: bool) -> None:
    """It was asked for before the engine was connected to anew, or a minute ago."""
    story = Story(sweep=100.0)
    story.play((0, connected("a")), (0, Result("a")), (10, Result("a")))
    assert "100 list" in story.until(101)
    if late:
        story.play((150, start("b")), (165, change("a")))
    else:
        story.play((102, disconnected()), (103, connected("a", "b")))
    story.play((166, swept("a")))
    assert story.names() == ["a", "b"]
    assert "171 list" in story.until(172), "and it is listed again soon"


def test_a_list_that_comes_late_is_no_connection() -> None:
    story = Story(sweep=100.0)
    story.play((0, connected("a")))
    story.until(101)
    story.play((102, disconnected()), (103, swept("a")))
    (engine,) = story.reconciler.state().engines
    assert not engine.connected


def test_what_is_not_in_a_list_is_gone() -> None:
    story = Story()
    settled(story, "a", "b", roots=(b"/srv",))
    story.play((20, swept("b")))
    assert story.names() == ["b"]
    story.play((21, swept()))
    assert story.lines[-1] == "21 watch"
    assert story.reconciler.state().watched == 0


def test_an_engine_that_is_away_is_said_once() -> None:
    """For each reason; it is tried again all the time."""
    story = Story()

    def away(at: float, why: str) -> None:
        story.play((at, Disconnected(engine=ENGINE, why=why)))

    for at in range(100):
        away(at, "no such socket")
    story.play((100, connected()))
    for at in range(101, 200, 3):
        away(at, "it hung up")
        away(at + 1, "no such socket")
    story.play((200, connected()))
    for at in range(201, 300):
        away(at, f"{at}")
    assert [(x.event, dict(x.fields)["why"]) for x in story.logs if "connected" not in x.event] == [
        ("engine does not answer", "no such socket"),
        ("engine does not answer", "no such socket"),
        *(("engine does not answer", f"{at}") for at in range(202, 209)),
    ]
    lost = [dict(x.fields)["why"] for x in story.logs if x.event == "engine disconnected"]
    assert lost == ["it hung up", "201"]


def test_a_list_is_about_one_engine() -> None:
    story = Story()
    story.play((0, connected("a")), (0, connected("b", engine=OTHER)))
    story.play((1, swept(seen("b", engine=ENGINE), engine=OTHER)))
    assert story.names() == ["a"], "and what it says of another one is not believed"


def test_containers_that_do_not_run_are_none() -> None:
    story = Story()
    stopped = seen("a")
    rows = swept(type(stopped)(ref=stopped.ref, name="a", running=False))
    assert story.play(UP, (1, rows)) == []


def test_two_of_one_name_are_asked_for() -> None:
    """A rename was missed: the newer one has the name, the next list says more."""
    story = Story()
    story.play((0, connected(seen("1", "web"))), (0, Result("1", "PD101")))
    assert story.play((1, start("2", "web")), (1.1, Result("2"))) == [
        "1 check 2 started",
        "1.1 -PD101 web",
    ]
    assert story.findings("1") == ["PD101"]
    assert story.until(6.5) == ["5 check 1 settled", "6 list", "6 check 2 settled"]
    story.play((6.5, swept(seen("1", "old"), seen("2", "web"))))
    assert story.play((7, Result("1", "PD101"))) == ["7 +PD101 old"]


# -- watching ---------------------------------------------------------------------------------


def test_watch_says_when_the_roots_are_others() -> None:
    story = Story()
    story.play((0, connected("a", "b")))
    assert story.play((0.1, Result("a", roots=(b"/srv/b", b"/srv/a")))) == [
        "0.1 watch /srv/a /srv/b"
    ]
    assert story.play((0.2, Result("b", roots=(b"/srv/c", b"relative", b"")))) == []
    assert story.until(4)[0] == "1.1 watch /srv/a /srv/b /srv/c"
    assert story.play((4, stop("b"))) == ["4 watch /srv/a /srv/b"]


def test_watch_is_bounded() -> None:
    story = Story(Limits(checks=4, roots=2))
    story.play((0, connected("a", "b")), (0.1, Result("a", roots=(b"/z", b"/y"))))
    story.play((1, Result("b", roots=(b"/a",))))
    assert "watch" not in "".join(story.until(4)), "those that came first stay"
    state = story.reconciler.state()
    assert (state.watched, state.unwatched) == (2, 1)
    assert [line.event for line in story.logs].count("too many roots: some are not watched") == 1
    assert story.play((4, stop("a")))[-1] == "4 watch /a"


# -- bounds -----------------------------------------------------------------------------------


def test_too_many_containers() -> None:
    story = Story(Limits(checks=1, containers=3))
    story.play((0, connected(*(f"c{n}" for n in range(9)))))
    assert story.names() == ["c0", "c1", "c2"]
    assert story.reconciler.state().left_out == 6
    story.play((1, swept("c7", "c8")))
    assert story.names() == ["c7", "c8"]
    assert story.reconciler.state().left_out == 0


def test_too_many_engines() -> None:
    story = Story(Limits(engines=2))
    story.play(*((n, start("a", engine=f"unix:///{n}")) for n in range(5)))
    assert len(story.reconciler.state().engines) == 2
    assert len(story.names()) == 2


def test_an_engine_that_stays_away_is_not_forgotten() -> None:
    """Nothing that was told of it is known to be over."""
    story = Story(Limits(forget=1000.0))
    settled(story, "a")
    story.play((10, change("a")), (12, Result("a", "PD101")), (20, disconnected()))
    assert story.until(9000) == ["140 +PD404 "]
    assert [e.engine for e in story.reconciler.state().engines] == [ENGINE]
    assert story.names() == ["a"]


def test_an_engine_that_nobody_watches_any_more_is_forgotten() -> None:
    """Only what was told before the service was started speaks of it."""
    before = Story()
    settled(before, "a")
    before.play((10, change("a")), (12, Result("a", "PD101")))
    story = Story(Limits(forget=1000.0))
    story.play((0, Restored(firing=before.reconciler.state().firing)))
    assert story.until(999) == []
    assert story.until(1100) == ["1000 -PD101 a"]
    assert story.reconciler.state().engines == ()


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(start("i" * 129), id="an id that is none"),
        pytest.param(start(""), id="no id"),
        pytest.param(Result("a"), id="nobody asked"),
        pytest.param(start("a", engine="e" * 2000), id="an engine that is none"),
    ],
)
def test_what_makes_no_sense_does_nothing(event: object) -> None:
    story = Story()
    story.play(UP)
    story.checks[ref("a")] = 7
    assert story.play((1, event)) == []
    assert story.names() == []


def test_what_is_too_long_is_cut() -> None:
    story = Story()
    labels = tuple((f"k{n}", "v" * 9999) for n in range(999))
    many = tuple(found("PD201", f"/d{n}", detail=("x" * 2000,) * 40) for n in range(300))
    story.play((0, connected(seen("a", "n" * 999, labels=labels))))
    story.play((1, Result("a", *many, found("PD101"), roots=tuple(b"/%d" % n for n in range(300)))))
    one = story.reconciler.state().containers[0]
    assert len(one.name) == 255
    assert len(one.labels) == 256
    assert max(len(v) for _, v in one.labels) == 1024
    assert len(one.findings) == 200
    assert one.findings[0].found.problem.code == "PD101", "the worst"
    assert sum(len(line) for line in one.findings[1].found.detail) == 32 * 1024
    assert len(one.roots) == 256
