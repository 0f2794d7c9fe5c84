"""What is told, once: ``+`` fires, ``~`` has changed, ``-`` is over."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.daemon.episodes import Episodes
from permdoctor.daemon.events import Found, Reloaded, Restored, Rules, Silence, Tell
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.silences import ignored
from permdoctor.diagnosis.report import Severity

from .story import (
    ENGINE,
    EPOCH,
    Result,
    Row,
    Story,
    change,
    connected,
    disconnected,
    found,
    seen,
    start,
    stop,
    swept,
)

UP: Row = (0, connected())
OTHER = "unix:///run/user/1000/docker.sock"


def told(story: Story) -> list[str]:
    return [line for line in story.lines if line.split()[1][0] in "+~-"]


def looked(story: Story, at: float, *findings: Any, id_: str = "a") -> None:
    """An event, and the judgement after it."""
    story.play((at, change(id_)))
    story.next()
    story.play((story.now, Result(id_, *findings)))


TOLD = [
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (6, Result("a", "PD101"))],
        ["1 +PD101 a"],
        id="once",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (6, Result("a"))],
        ["1 +PD101 a", "6 -PD101 a"],
        id="until a check does not find it any more",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (6, Result("a", failed="EIO"))],
        ["1 +PD101 a"],
        id="a check that failed resolves nothing",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (2, stop("a")), (100, start("b"))],
        ["1 +PD101 a"],
        id="gone, but not for long",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (2, stop("a")), (123, start("b"))],
        ["1 +PD101 a", "122 -PD101 a"],
        id="gone for long enough",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (2, swept()), (123, start("b"))],
        ["1 +PD101 a", "122 -PD101 a"],
        id="gone, by a list",
    ),
    pytest.param(
        [
            (0, connected(seen("1", "web"))),
            (1, Result("1", "PD101")),
            (2, stop("1")),
            (3, start("2", "web")),
            (4, Result("2", "PD101")),
            (300, stop("x")),
        ],
        ["1 +PD101 web"],
        id="another container of the same name has it, too",
    ),
    pytest.param(
        [
            (0, connected(seen("1", "web"))),
            (1, Result("1", "PD101")),
            (2, stop("1")),
            (3, start("2", "web")),
            (4, Result("2")),
        ],
        ["1 +PD101 web", "4 -PD101 web"],
        id="another container of the same name has it not",
    ),
    pytest.param(
        [
            (0, connected("a")),
            (1, Result("a", "PD101")),
            (2, stop("a")),
            (3, start("a")),
            (300, stop("b")),
        ],
        ["1 +PD101 a"],
        id="back, and not judged since",
    ),
    pytest.param(
        [
            (0, connected("a")),
            (1, Result("a", "PD101")),
            (2, stop("a")),
            (3, disconnected()),
            (900, connected()),
            (1019, stop("b")),
        ],
        ["1 +PD101 a", "123 +PD404 ", "900 -PD404 "],
        id="nobody is gone while the engine is away, nor at once when it is back",
    ),
    pytest.param(
        [
            (0, connected("a")),
            (1, Result("a", "PD101")),
            (3, disconnected()),
            (900, connected()),
            (1021, stop("b")),
        ],
        ["1 +PD101 a", "123 +PD404 ", "900 -PD404 ", "1020 -PD101 a"],
        id="gone while the engine was away",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD302")), (6, Result("a", "PD302", "PD204"))],
        ["6 +PD204 a"],
        id="below the least severity: shown, not told",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", found(count=1))), (6, Result("a", found(count=9)))],
        ["1 +PD101 a"],
        id="another count is no news",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", found(target="/x"), found(target="/y")))],
        ["1 +PD101 a", "1 +PD101 a"],
        id="two mounts are two problems",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", found(title="x"), found(title="y")))],
        ["1 +PD101 a"],
        id="two findings of one code at one mount are one",
    ),
    pytest.param(
        [(0, connected("a")), (1, Result("a", "PD101")), (2, change("a", "b")), (130, stop("x"))],
        ["1 +PD101 a", "122 -PD101 a"],
        id="renamed, and not judged since: that name is nobody's",
    ),
    pytest.param(
        [
            (0, connected("a")),
            (1, Result("a", "PD101")),
            (2, change("a", "b")),
            (4, Result("a", "PD101")),
            (130, stop("x")),
        ],
        ["1 +PD101 a", "4 +PD101 b", "122 -PD101 a"],
        id="renamed: another name, another problem",
    ),
    pytest.param(
        [
            (0, connected("a")),
            (0, connected("a", engine=OTHER)),
            (1, Result("a", "PD101")),
            (1, Result("a", "PD101", engine=OTHER)),
            (2, swept()),
            (200, stop("x")),
        ],
        ["1 +PD101 a", "1 +PD101 a", "122 -PD101 a"],
        id="of two engines",
    ),
]


@pytest.mark.parametrize(("rows", "lines"), TOLD)
def test_told(rows: list[Row], lines: list[str]) -> None:
    story = Story(Limits(checks=4, check_deadline=1e6))
    story.play(*rows)
    assert told(story) == lines


def test_forty_restarts_are_one_alert() -> None:
    """By restarts of one container, and by ever new ones of the same name."""
    story = Story()
    story.play(UP)
    at = 10.0
    for n in range(40):
        id_ = f"c{n % 2 * n}"
        assert story.play((at, start(id_, "web"))) or story.next()
        story.play((story.now, Result(id_, "PD101")), (story.now + 1, stop(id_, "web")))
        at = story.now + min(2**n, 60)
    assert told(story) == ["10 +PD101 web"]
    assert story.until(at + 200)[-1].endswith("-PD101 web")


def test_flapping_is_damped() -> None:
    """Each time that it has ended within an hour it has to stay away for longer."""
    story = Story(damp=60.0, sweep=1e6)
    story.play((0, connected("a")), (0, Result("a")), (10, Result("a")))
    for n in range(100):
        looked(story, story.now + 20, *(["PD101"] if n % 2 else []))
    assert len(told(story)) <= 6
    looked(story, story.now + 20)
    assert len(story.reconciler.state().firing) == 1
    story.until(story.now + 700)
    assert story.reconciler.state().firing == ()


def test_back_before_it_was_away_for_long_enough() -> None:
    story = Story(damp=60.0, sweep=1e6, check_again=1e6)
    story.play((0, connected("a")), (0, Result("a", "PD101")), (10, Result("a")))
    for at, *codes in ((20, "PD101"), (30,), (80, "PD101"), (90,), (140, "PD101")):
        looked(story, at, *codes)
    assert [line.split(" ", 1)[1] for line in told(story)] == ["+PD101 a", "-PD101 a", "+PD101 a"]
    assert story.until(3000) == []
    assert len(story.reconciler.state().firing) == 1


def test_calm_after_an_hour() -> None:
    story = Story(sweep=1e6, check_again=1e6)
    story.play((0, connected("a")), (0, Result("a", "PD101")), (10, Result("a")))
    looked(story, 4000, "PD101")
    looked(story, 4010)
    assert [line.split(" ", 1)[1] for line in told(story)] == ["+PD101 a", "-PD101 a"] * 2


@pytest.mark.parametrize(
    ("severities", "lines"),
    [
        pytest.param("we", ["+warning", "~error"], id="it rises"),
        pytest.param("ewe", ["+error", "~warning", "~error"], id="it falls, and comes back"),
        pytest.param("ei", ["+error", "-error"], id="it falls below the least that is told"),
        pytest.param("iw", ["+warning"], id="it rises above it"),
        pytest.param("wiew", ["+warning", "-warning", "+error", "~warning"], id="and again"),
    ],
)
def test_severity(severities: str, lines: list[str]) -> None:
    of = {"e": Severity.ERROR, "w": Severity.WARNING, "i": Severity.INFO}
    story = Story(sweep=1e6)
    story.play((0, connected("a")), (0, Result("a")), (10, Result("a")))
    for n, letter in enumerate(severities):
        looked(story, 100.0 * (n + 1), found("PD201", severity=of[letter]))
    alerts = [t.alert for t in story.tells]
    marks = ["-" if a.ended is not None else "~" if a.revision else "+" for a in alerts]
    assert [m + a.severity.name.lower() for m, a in zip(marks, alerts, strict=True)] == lines
    assert len({a.id for a in alerts}) == len(alerts)


def test_a_rise_is_the_same_episode() -> None:
    story = Story()
    story.play((0, connected("a")))
    story.play((1, Result("a", found("PD201"))))
    story.play((6, Result("a", found("PD201", severity=Severity.ERROR, count=7))))
    first, second = (t.alert for t in story.tells)
    assert first.episode == second.episode
    assert first.id != second.id
    assert (second.started, second.count) == (EPOCH + 1, 7)


def as_who(who: int, **more: Any) -> Found:
    """The container was made anew, to run as somebody else."""
    remedies = (f"chown {who} /srv",)
    return found(title=f"{who} cannot write", who=f"{who}:{who}", remedies=remedies, **more)


def story_of_changes(*rows: Row, damp: float = 60.0) -> Story:
    story = Story(damp=damp, sweep=1e6, check_again=1e6)
    story.play((0, connected("a")), (0, Result("a", as_who(1))), (10, Result("a", as_who(1))))
    for at, event in rows:
        looked(story, at, *event)
    return story


def test_another_who_is_another_revision() -> None:
    """Whoever reads the alert at night reads the command that helps now."""
    story = story_of_changes((99, [as_who(2)]))
    first, second = (t.alert for t in story.tells)
    assert (second.title, second.who) == ("2 cannot write", "2:2")
    assert second.remedies == ("chown 2 /srv",)
    assert (first.revision, second.revision) == (0, 1)
    assert first.id != second.id
    assert (first.episode, first.problem) == (second.episode, second.problem)
    assert story.reconciler.state().firing == (second,)
    assert [log.event for log in story.logs if "problem" in log.event] == [
        "problem found",
        "problem changed",
    ]


def test_another_count_is_told_quietly() -> None:
    """For who is told again anyway; nobody is called."""
    story = story_of_changes((99, [as_who(1, count=5001, detail=("such as x",))]))
    assert told(story) == ["0 +PD101 a"]
    (again,) = (t.alert for t in story.quiet)
    assert (again.count, again.detail) == (5001, ("such as x",))
    assert again.id == story.tells[0].alert.id


class Judged:
    """Episodes of one name, judged whenever the test says."""

    def __init__(self) -> None:
        self.episodes = Episodes(limit=9)
        self.said: list[tuple[float, Alert, bool]] = []

    def at(self, now: float, *findings: Found) -> None:
        while (due := self.episodes.due()) is not None and due <= now:
            self._hear(due, self.episodes.advance(due, EPOCH + due))
        told = {f.problem.fingerprint: f for f in findings}
        self._hear(now, self.episodes.judged(("", ""), told, {}, now=now, wall=EPOCH, damp=60.0))

    def _hear(self, now: float, tells: list[Tell]) -> None:
        self.said += [(now, t.alert, t.quiet) for t in tells]


def test_changes_are_told_once_a_while() -> None:
    judged = Judged()
    for second in range(200):
        judged.at(second, as_who(second // 7, count=second))
    assert [at for at, _, _ in judged.said] == [0, 60, 120, 180]
    assert [a.revision for _, a, _ in judged.said] == [0, 1, 2, 3]
    judged.at(600, as_who(28, count=199))
    at, last, _ = judged.said[-1]
    assert (at, last.who, last.count) == (240, "28:28", 199), "the last is not lost"


def test_counts_are_told_once_a_while() -> None:
    judged = Judged()
    for second in range(1000):
        judged.at(second, as_who(1, count=second))
    assert len(judged.said) == 17
    assert {a.revision for _, a, _ in judged.said} == {0}
    assert [quiet for _, _, quiet in judged.said] == [False] + [True] * 16


def test_what_changes_and_changes_back_is_no_news() -> None:
    story = story_of_changes((20, [as_who(2)]), (30, [as_who(1)]))
    story.until(500)
    assert told(story) == ["0 +PD101 a"]
    assert story.quiet == []


def test_the_end_is_told_in_the_last_words() -> None:
    """Although they had to wait."""
    story = story_of_changes((20, [as_who(2)]), (30, []))
    first, end = (t.alert for t in story.tells)
    assert (end.title, end.remedies) == ("2 cannot write", ("chown 2 /srv",))
    assert (end.status, end.revision) == (AlertStatus.RESOLVED, first.revision)
    assert story.until(500) == []


def test_what_stays_away_does_not_change() -> None:
    """It is not told in other words while it may be over."""
    judged = Judged()
    for at, *findings in ((0, as_who(1)), (9,), (20, as_who(1)), (30, as_who(2)), (31,)):
        judged.at(at, *findings)
    judged.at(200)
    assert [at for at, _, _ in judged.said] == [0, 9, 20, 91]
    end = judged.said[-1][1]
    assert (end.status, end.who) == (AlertStatus.RESOLVED, "2:2")


def test_worse_is_told_at_once() -> None:
    story = Story(damp=60.0, sweep=1e6)
    bad, mild = (found("PD201", severity=s) for s in (Severity.ERROR, Severity.WARNING))
    story.play((0, connected("a")), (0, Result("a", mild)), (10, Result("a", mild)))
    looked(story, 12, bad)
    assert story.now < 15
    assert told(story)[-1].endswith("~PD201 a")
    looked(story, 20, mild)
    looked(story, 30, bad)
    story.until(500)
    assert len(told(story)) == 2, "it was as bad before"


def test_an_alert_says_everything() -> None:
    story = Story()
    one = found(title="t", detail=("d",), remedies=("chown 1 /srv",), host_path="/srv/x", count=3)
    story.play((0, connected(seen("1", "web\x1b"))), (2, Result("1", one)), (6, Result("1")))
    fires, ends = (t.alert for t in story.tells)
    assert fires == Alert(
        problem=Problem(
            host="h", engine=ENGINE, container="web\\x1b", code="PD101", target="/data"
        ),
        status=AlertStatus.FIRING,
        severity=Severity.ERROR,
        title="t",
        detail=("d",),
        remedies=("chown 1 /srv",),
        host_path="/srv/x",
        count=3,
        started=EPOCH + 2,
    )
    assert ends == replace(fires, status=AlertStatus.RESOLVED, ended=EPOCH + 6)


def test_another_episode_has_another_id_although_the_clock_was_set_back() -> None:
    story = Story(damp=0.0, sweep=1e6)
    story.play((0, connected("a")), (0, Result("a", "PD101")), (10, Result("a")))
    story.wall -= 100
    looked(story, 100 - 1, "PD101")
    ids = [t.alert.id for t in story.tells]
    assert len(set(ids)) == len(ids) == 3


def test_too_many_problems() -> None:
    story = Story(Limits(problems=3))
    story.play((0, connected("a")))
    story.play((1, Result("a", *(found(target=f"/{n}") for n in range(9)))))
    assert len(story.reconciler.state().firing) == len(story.tells) == 3
    assert story.findings("a") == ["PD101*"] * 3 + ["PD101"] * 6


# -- silences ---------------------------------------------------------------------------------

SHOWN = found("PD101", "/data", host_path="/srv/data")
LABELS = (("team", "ml"), ("permdoctor.fix", "off"))


@pytest.mark.parametrize(
    ("silence", "matches"),
    [
        pytest.param({"code": "PD101"}, True, id="code"),
        pytest.param({"code": "PD1*"}, True, id="code, glob"),
        pytest.param({"code": "pd101"}, False, id="case counts"),
        pytest.param({"code": "PD10"}, False, id="as a whole"),
        pytest.param({"container": "web-*"}, True, id="container"),
        pytest.param({"container": "web"}, False, id="another container"),
        pytest.param({"label": "team"}, True, id="label"),
        pytest.param({"label": "team=ml"}, True, id="label with its value"),
        pytest.param({"label": "team=m*"}, True, id="glob of a value"),
        pytest.param({"label": "team=web"}, False, id="another value"),
        pytest.param({"label": "tea"}, False, id="another label"),
        pytest.param({"label": "ml"}, False, id="a value is no label"),
        pytest.param({"path": "/srv/*"}, True, id="path of the host"),
        pytest.param({"path": "/data"}, True, id="path inside"),
        pytest.param({"path": "/srv"}, False, id="a path above is another"),
        pytest.param({"code": "PD101", "container": "db"}, False, id="all must match"),
        pytest.param({"expires": EPOCH + 1}, True, id="still"),
        pytest.param({"expires": EPOCH}, False, id="no more"),
        pytest.param({}, True, id="everything"),
    ],
)
def test_silence(silence: dict[str, Any], matches: bool) -> None:
    rule = Silence(reason="why", **silence)
    assert ignored((rule,), SHOWN, "web-1", LABELS, EPOCH) == ("why" if matches else "")


def test_what_is_ignored_is_shown_with_the_reason() -> None:
    story = Story(silences=(Silence(reason="known", code="PD204"),))
    story.play((0, connected("a")), (1, Result("a", "PD101", "PD204")))
    assert told(story) == ["1 +PD101 a"]
    assert story.findings("a") == ["PD101*", "(PD204: known)"]


def test_a_silence_that_ends_while_the_problem_lasts() -> None:
    silence = Silence(reason="until noon", expires=EPOCH + 1000)
    story = Story(silences=(silence,), sweep=1e6)
    story.play((0, connected("a")), (0, Result("a", "PD101")), (10, Result("a", "PD101")))
    assert story.until(999) == []
    assert story.until(1001) == ["1000 +PD101 a"]
    assert story.tells[0].alert.started == EPOCH + 1000


def test_a_silence_that_begins_while_it_fires() -> None:
    """Who wrote it does not want to hear of it: it is resolved, and says why."""
    story = Story(sweep=1e6)
    story.play((0, connected("a")), (0, Result("a", "PD101")))
    rules = replace(story.rules, silences=(Silence(reason="accepted"),))
    story.play((2, Reloaded(rules=rules)))
    assert told(story) == ["0 +PD101 a", "2 -PD101 a"]
    assert story.tells[1].alert.detail == ("ignored: accepted",)
    line = story.logs[-1]
    assert line.event == "problem not told any more"
    assert ("why", "ignored: accepted") in line.fields
    story.play((3, Reloaded(rules=story.rules)))
    assert told(story)[2:] == ["3 +PD101 a"], "and that is no flapping"


def test_the_clock_is_set() -> None:
    """Forward over a silence's end, and back."""
    story = Story(silences=(Silence(reason="r", expires=EPOCH + 9e4),), sweep=1e6)
    story.play((0, connected("a")), (0, Result("a", "PD101")), (10, Result("a", "PD101")))
    story.wall += 9e4
    assert story.play((20, change("b", "b", engine="x"))) == ["20 +PD101 a"]
    story.wall -= 9e4
    assert story.play((30, change("b", "b", engine="x"))) == ["30 -PD101 a"]


def test_a_set_clock_is_noticed_within_an_hour() -> None:
    story = Story(silences=(Silence(reason="r", expires=EPOCH + 9e6),), sweep=1e6)
    story.play((0, connected()))
    due = story.reconciler.due()
    assert due is not None
    assert due <= 3600


def test_another_least_severity() -> None:
    story = Story()
    story.play((0, connected("a")), (0, Result("a", "PD101", "PD204")))
    story.play((1, Reloaded(rules=replace(story.rules, min_severity=Severity.ERROR))))
    assert told(story) == ["0 +PD101 a", "0 +PD204 a", "1 -PD204 a"]
    story.play((2, Reloaded(rules=replace(story.rules, min_severity=Severity.INFO))))
    assert told(story)[3:] == ["2 +PD204 a"]


# -- after a restart of the service -----------------------------------------------------------


def firing(name: str = "a", code: str = "PD101", **more: Any) -> Alert:
    problem = Problem(host="h", engine=ENGINE, container=name, code=code, target="/data")
    fields: dict[str, Any] = {
        "status": AlertStatus.FIRING,
        "severity": Severity.ERROR,
        "title": "as it was",
        "host_path": "/srv/data",
        "started": EPOCH - 500,
    }
    return Alert(problem=problem, **(fields | more))


RESTORED = [
    pytest.param([(1, connected("a")), (2, Result("a", "PD101"))], [], id="still there"),
    pytest.param([(1, connected("a")), (2, Result("a"))], ["2 -PD101 a"], id="gone meanwhile"),
    pytest.param([(1, connected("a")), (2, Result("a", failed="x"))], [], id="nobody knows"),
    pytest.param([(1, connected()), (100, stop("x"))], [], id="not there, not for long"),
    pytest.param([(1, connected()), (122, stop("x"))], ["121 -PD101 a"], id="not there"),
    pytest.param([(500, stop("x"))], [], id="its engine has not answered yet"),
    pytest.param([(86401, stop("x"))], ["86400 -PD101 a"], id="its engine never answers"),
    pytest.param(
        [(1, connected(seen("9", "a"))), (2, Result("9", "PD101"))], [], id="another instance"
    ),
]


@pytest.mark.parametrize(("rows", "lines"), RESTORED)
def test_restored(rows: list[Row], lines: list[str]) -> None:
    story = Story()
    story.play((0, Restored(firing=(firing(),))), *rows)
    assert told(story) == lines
    if not lines:
        (known,) = story.reconciler.state().firing
        assert known.id == firing().id


def test_restored_in_newer_words() -> None:
    """What waited when the service was killed, or has changed since, is told now."""
    story = Story()
    story.play((0, Restored(firing=(firing(revision=3),))), (1, connected("a")))
    story.play((2, Result("a", as_who(2))))
    assert told(story) == ["2 ~PD101 a"]
    assert story.tells[0].alert.id == firing(revision=4).id


def test_restored_ends_as_the_episode_that_it_was() -> None:
    story = Story()
    story.play((0, Restored(firing=(firing(),))), (1, connected("a")), (2, Result("a")))
    assert story.tells[0].alert == replace(firing(), status=AlertStatus.RESOLVED, ended=EPOCH + 2)


def test_restored_after_the_engine_answered() -> None:
    """Whichever comes first: one problem has one episode, and the older one is over."""
    story = Story()
    story.play((0, connected("a", "b")), (1, Result("a", "PD101")), (1, Result("b")))
    story.play((2, Restored(firing=(firing("a"), firing("b"), firing("c")))))
    assert [t.alert.started - EPOCH for t in story.tells] == [1, -500, -500]
    assert story.lines[-2:] == ["2 -PD101 a", "2 -PD101 b"]
    assert story.until(123)[-1] == "122 -PD101 c"


def test_two_severities_of_one_episode_are_one() -> None:
    story = Story()
    both = (firing(), firing(severity=Severity.WARNING))
    story.play((0, Restored(firing=both)), (1, connected("a")), (2, Result("a")))
    assert told(story) == ["2 -PD101 a"]


def test_restored_is_bounded() -> None:
    """What cannot be kept in mind is resolved, and told again when it is found."""
    story = Story(Limits(problems=2))
    story.play((0, Restored(firing=tuple(firing(f"n{i}") for i in range(5)))))
    assert len(story.reconciler.state().firing) == 2
    assert len(told(story)) == 3


def test_restored_of_another_host_name() -> None:
    story = Story()
    old = firing()
    old = replace(old, problem=replace(old.problem, host="before"))
    story.play((0, Restored(firing=(old,))), (1, connected("a")), (2, Result("a", "PD101")))
    assert told(story) == ["2 -PD101 a", "2 +PD101 a"]
    assert [t.alert.problem.host for t in story.tells] == ["before", "h"]


def test_another_host_name() -> None:
    story = Story()
    story.play((0, connected("a")), (1, Result("a", "PD101")))
    story.play((2, Reloaded(rules=Rules(host="new"))))
    assert told(story)[1:] == ["2 -PD101 a", "2 +PD101 a"]
