"""Repairs that nobody asked for: allowed or not, when, how often, and what became of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.daemon.events import (
    Changed,
    Checked,
    Found,
    PastRepair,
    Reloaded,
    RepairRule,
    Restored,
    Rules,
    Seen,
    Silence,
    Tick,
)
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.shown import Facts, Filter, findings
from permdoctor.render import service as render
from permdoctor.render.layout import plain

from .story import (
    ENGINE,
    EPOCH,
    Done,
    Result,
    Row,
    Story,
    change,
    connected,
    found,
    seen,
    start,
    stop,
)

CHOWN = "chown-directory"
ACL = "acl-user"
HOUR = 3600.0


def rule(container: str = "*", remedy: str = CHOWN, **more: Any) -> RepairRule:
    fields: dict[str, Any] = {"roots": ("/srv",), "max_entries": 10}
    return RepairRule(container=container, remedy=remedy, **(fields | more))


def broken(target: str = "/data", *remedies: str, code: str = "PD101", **more: Any) -> Found:
    return found(code, target, fixable=remedies or (CHOWN,), **more)


def lines_of(story: Story) -> list[str]:
    """Repairs, and what is told of them."""
    return [x for x in story.lines if " repair " in x or "PD4" in x]


def story_of(*rules: RepairRule, **more: Any) -> Story:
    limits = more.pop("limits", Limits(checks=8, check_deadline=1e9))
    return Story(limits, repairs=rules or (rule(),), sweep=1e6, **more)


def judged(story: Story, *findings: Found, id_: str = "a") -> None:
    """The check that is wished for, and its result."""
    while not any(f" check {id_} " in line for line in story.next()):
        pass
    story.play((story.now, Result(id_, *findings)))


ALLOWED = [
    pytest.param(rule(), {}, True, id="as the rule says"),
    pytest.param(rule("a*"), {}, True, id="by a glob"),
    pytest.param(rule("b*"), {}, False, id="another container"),
    pytest.param(rule(remedy=ACL), {}, False, id="another remedy"),
    pytest.param(rule(roots=("/srv/data",)), {}, True, id="the root itself"),
    pytest.param(rule(roots=("/srv/data/x",)), {}, False, id="above the root"),
    pytest.param(rule(roots=("/srv/dat",)), {}, False, id="beside the root"),
    pytest.param(rule(roots=("/home", "/srv/")), {}, True, id="one of the roots"),
    pytest.param(rule(), {"labels": (("permdoctor.fix", "off"),)}, False, id="opted out"),
    pytest.param(rule(), {"labels": (("permdoctor.fix", " No "),)}, False, id="opted out, too"),
    pytest.param(rule(), {"labels": (("permdoctor.fix", "on"),)}, True, id="never in"),
    pytest.param(
        rule(),
        {"labels": (*((f"k{n}", "") for n in range(999)), ("permdoctor.fix", "off"))},
        False,
        id="opted out by the last of a thousand labels",
    ),
]


@pytest.mark.parametrize(("allowed", "container", "repaired"), ALLOWED)
def test_allowed(allowed: RepairRule, container: dict[str, Any], repaired: bool) -> None:
    story = story_of(allowed)
    story.play((0, connected(seen("a", **container))), (1, Result("a", broken())))
    assert lines_of(story) == (["1 repair a chown-directory /srv/data"] if repaired else [])


@pytest.mark.parametrize(
    ("host_path", "root"),
    [
        pytest.param("/srv/data", "/srv/data", id="a plain one"),
        pytest.param("/srv/d\xe4ta", "/srv/d\xe4ta", id="in UTF-8"),
        pytest.param("/srv/\\x1b", "", id="with what had to be escaped"),
        pytest.param("/srv/\\\\", "", id="with a backslash"),
        pytest.param("/srv/../etc", "", id="with .."),
        pytest.param("/srv//x", "", id="not clean"),
        pytest.param("srv", "", id="not absolute"),
        pytest.param("", "", id="none"),
    ],
)
def test_paths_that_cannot_be_told_from_their_text_are_not_repaired(
    host_path: str, root: str
) -> None:
    story = story_of(rule(roots=("/",)))
    story.play((0, connected("a")), (1, Result("a", broken(host_path=host_path))))
    assert lines_of(story) == ([f"1 repair a chown-directory {root}"] if root else [])


def test_what_is_ignored_is_not_repaired() -> None:
    story = story_of(silences=(Silence(reason="meant so"),))
    story.play((0, connected("a")), (1, Result("a", broken())))
    assert lines_of(story) == []


def test_once_and_it_helps() -> None:
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())))
    story.play((6, Result("a", broken())), (7, Done()))
    assert story.lines[-1] == "7 check a repaired"
    story.play((8, Result("a")), (9, stop("a")))
    assert lines_of(story) == ["1 repair a chown-directory /srv/data"]
    assert [t.alert.status for t in story.tells] == [AlertStatus.FIRING, AlertStatus.RESOLVED]


UNDO = "repaired by permdoctor: chown-directory, 3 entries; undo: permdoctor undo 3f2a"
SAYS = [
    pytest.param(Done(3), [8], UNDO, id="what was done, and how it is undone"),
    pytest.param(Done(1), [8], UNDO.replace("3 entries", "1 entry"), id="one entry"),
    pytest.param(Done(0, failed="EPERM"), [8], "", id="nothing was done"),
    pytest.param(Done(3), [7.5, 8], UNDO, id="seen by a check that was under way"),
]


@pytest.mark.parametrize(("done", "seen", "said"), SAYS)
def test_the_end_says_so(done: Done, seen: list[float], said: str) -> None:
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())))
    if len(seen) == 1:
        story.play((6, Result("a", broken())))
    story.play((7, done), *((at, Result("a")) for at in seen))
    fired, resolved = (t.alert for t in story.tells)
    assert resolved.detail == (*fired.detail, *((said,) if said else ()))
    logged = [dict(log.fields).get("undo") for log in story.logs if "repair" in log.event]
    assert ("permdoctor undo 3f2a" in logged) is bool(said)


def test_the_end_is_of_a_later_day() -> None:
    """It was there again: whatever ended it then was not that repair."""
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())), (6, Done()))
    story.play((7, Result("a", broken())), (8, Result("a", broken())), (100, change("a")))
    judged(story)
    assert story.lines[-2].endswith("-PD101 a")
    assert not any("repaired by" in line for t in story.tells for line in t.alert.detail)


def test_the_worst_first_and_one_at_a_time() -> None:
    story = story_of()
    two = (broken("/one", code="PD201"), broken("/two"))
    story.play((0, connected("a", "b")), (1, Result("a", *two)), (1, Result("b", broken("/b"))))
    assert lines_of(story) == ["1 repair a chown-directory /srv/two"]
    story.play((2, Done()))
    assert lines_of(story)[1:] == ["2 repair b chown-directory /srv/b"]
    story.play((2.5, Result("a", two[0])), (3, Done()))
    assert lines_of(story)[2:] == ["3 repair a chown-directory /srv/one"]


VAIN = [
    pytest.param(Done(3), "the problem was there again", id="it was changed, and came back"),
    pytest.param(Done(0, failed="EPERM"), "EPERM", id="it failed"),
]


@pytest.mark.parametrize(("done", "why"), VAIN)
def test_in_vain(done: Done, why: str) -> None:
    """It is a finding of its own, and not tried again in this run."""
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())), (2, done))
    story.play((3, Result("a", broken())))
    assert lines_of(story) == ["1 repair a chown-directory /srv/data", "3 +PD401 a"]
    assert why in story.tells[-1].alert.detail[1]
    assert story.findings("a") == ["PD101*", "PD401*"]
    for n in range(5):
        story.play((100.0 * n + 100, change("a")))
        judged(story, broken())
    assert len(lines_of(story)) == 2
    story.play((story.now + 10, change("a")))
    judged(story)
    assert lines_of(story)[2:] == [f"{story.now:g} -PD401 a"]


def test_not_needed_any_more() -> None:
    """Another of that user was repaired first: nothing has failed, and it does not count."""
    story = story_of(repairs_per_hour=2)
    story.play((0, connected("a")), (1, Result("a", broken())), (2, Done(0)), (3, Result("a")))
    assert [x.event for x in story.logs if "repair" in x.event] == [
        "repair begins",
        "repair not needed any more",
    ]
    assert story.reconciler.state().repairs == 0
    story.play((6, Result("a")), (10, change("a")))
    judged(story, broken())
    assert [x.split(" ", 1)[1] for x in lines_of(story)] == [
        "repair a chown-directory /srv/data",
        "repair a chown-directory /srv/data",
    ]


def test_what_is_not_allowed_is_said_and_no_more() -> None:
    """Nothing was tried: it is no failure, and takes nothing of the hour."""
    story = story_of(rule(), rule(remedy=ACL), repairs_per_hour=2)
    bad = broken("/data", CHOWN, ACL)
    story.play((0, connected("a")), (1, Result("a", bad)))
    story.play((2, Done(failed="repair.deny protects it", denied=True)))
    story.play((3, Done(failed="repair.deny protects it", denied=True)))
    story.play((6, Result("a", bad)), (10, change("a")))
    judged(story, bad)
    assert [x.split(" ", 1)[1] for x in lines_of(story)] == [
        "repair a chown-directory /srv/data",
        "repair a acl-user /srv/data",
    ]
    assert logged(story)[-1] == "not done: repair.deny protects it"
    assert story.reconciler.state().repairs == 0
    story.play((story.now + 10, start("a")))
    judged(story, bad)
    assert len(lines_of(story)) == 3, "in another run it is asked again"


def test_a_check_that_was_under_way_proves_nothing() -> None:
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())))
    story.play((6, Done()), (6.5, Result("a", broken())))
    assert lines_of(story) == ["1 repair a chown-directory /srv/data"]
    story.play((7, Result("a")))
    assert lines_of(story) == ["1 repair a chown-directory /srv/data"]


def test_a_repair_that_never_comes_back() -> None:
    story = story_of(limits=Limits(checks=8, check_deadline=1e9, repair_deadline=100.0))
    story.play((0, connected("a")), (1, Result("a", broken())), (5.5, Result("a", broken())))
    assert "101 check a repaired" in story.until(102)
    story.play((102, Result("a", broken())))
    assert lines_of(story)[1:] == ["102 +PD401 a"]


def test_in_vain_until_another_run() -> None:
    """At once in the next one; after that an hour must have passed, and then two."""
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())))
    tried = []
    for _ in range(400):
        if story.repair is not None:
            tried.append(story.now)
            story.play((story.now, Done()), (story.now, Result("a", broken())))
        at = story.now + 60
        story.play((at, start("a")), *[(at, Result("a", broken()))] * 2)
    minutes = [round((at - tried[0]) / 60) for at in tried]
    assert minutes == [0, 1, 61, 181, 361]


def other(story: Story) -> Rules:
    """Another policy, that allows the same."""
    return replace(story.rules, policy="roots = []")


def test_in_vain_whatever_else_changes() -> None:
    """A reload that changes nothing of it is no reason to try again, or to tell anything."""
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())), (2, Done()))
    story.play((3, Result("a", broken())), (4, Reloaded(rules=replace(story.rules, damp=7.0))))
    assert lines_of(story)[1:] == ["3 +PD401 a"]


def test_in_vain_until_the_rules_change() -> None:
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())), (2, Done()))
    story.play((3, Result("a", broken())), (4, Reloaded(rules=other(story))))
    assert lines_of(story)[1:] == [
        "3 +PD401 a",
        "4 -PD401 a",
        "4 repair a chown-directory /srv/data",
    ]


def test_another_remedy_that_is_allowed() -> None:
    story = story_of(rule(), rule(remedy=ACL))
    bad = broken("/data", CHOWN, ACL)
    story.play((0, connected("a")), (1, Result("a", bad)), (2, Done()), (3, Result("a", bad)))
    assert lines_of(story)[1:] == ["3 +PD401 a", "3 repair a acl-user /srv/data"]


def test_in_vain_before_the_service_was_started_again() -> None:
    """A service that crashes again and again does not repair again and again."""
    first = story_of()
    first.play((0, connected("a")), (1, Result("a", broken())), (2, Done()))
    first.play((3, Result("a", broken())))
    story = story_of()
    restored = Restored(firing=first.reconciler.state().firing)
    story.play((0, restored), (1, connected("a")), (2, Result("a", broken())))
    assert lines_of(story) == []
    assert story.findings("a") == ["PD101*", "PD401*"]
    story.play((7, Result("a", broken())), (10, start("a")), (11, Result("a", broken())))
    assert lines_of(story) == ["11 repair a chown-directory /srv/data"]


def past(ago: float, container: str, target: str = "/data", **more: Any) -> PastRepair:
    """A repair of ``broken(target)``, that long before the service was started again."""
    fields = {"remedy": CHOWN, "path": b"/srv" + target.encode(), "code": "PD101", "applied": 1}
    return PastRepair(
        at=EPOCH - ago, engine=ENGINE, container=container, target=target, **(fields | more)
    )


IN_VAIN = "2 +PD401 a"
AGAIN = "2 repair a chown-directory /srv/data"


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        pytest.param(past(10, "a"), [IN_VAIN], id="the same"),
        pytest.param(past(10, "a", applied=0, failed="EPERM"), [IN_VAIN], id="it had failed"),
        pytest.param(past(10, "b"), [AGAIN], id="another container"),
        pytest.param(past(10, "a", "/other"), [AGAIN], id="another mount"),
        pytest.param(past(10, "a", path=b"/srv/moved"), [AGAIN], id="another place"),
        pytest.param(past(10, "a", code="PD102"), [AGAIN], id="another problem"),
    ],
)
def test_not_proven_when_the_service_ended(before: PastRepair, lines: list[str]) -> None:
    """It crashed, or was killed, before a check could say whether the repair had helped."""
    story = story_of()
    story.play((0, Restored(repairs=(before,))), (1, connected("a")), (2, Result("a", broken())))
    assert lines_of(story) == lines


def test_it_had_helped_when_the_service_ended() -> None:
    story = story_of()
    story.play((0, Restored(repairs=(past(10, "a"),))), (1, connected("a")), (2, Result("a")))
    story.play((100, change("a")))
    judged(story, broken())
    assert [line.split(" ", 1)[1] for line in lines_of(story)] == [repair_of("a", "/srv/data")]


def test_in_vain_is_one_finding_whoever_remembers_it() -> None:
    """People were told of it, and the journal knows of it."""
    first = story_of()
    first.play((0, connected("a")), (1, Result("a", broken())), (2, Done()))
    first.play((3, Result("a", broken())))
    firing = first.reconciler.state().firing
    story = story_of()
    story.play((0, Restored(firing=firing, repairs=(past(10, "a"),))), (1, connected("a")))
    story.play((2, Result("a", broken())))
    assert story.findings("a") == ["PD101*", "PD401*"]


# -- how often, and when ----------------------------------------------------------------------


def test_the_cap_of_an_hour() -> None:
    story = story_of(repairs_per_hour=2)
    ids = ("a", "b", "c")
    story.play((0, connected(*ids)), *((1, Result(i, broken(f"/{i}"))) for i in ids))
    story.play((2, Done()), (2, Result("a")), (3, Done()), (3, Result("b")))
    assert len(lines_of(story)) == 2
    story.until(9)
    story.play(*((9, Result(i)) for i in "ab"), (9, Result("c", broken("/c"))))
    assert story.reconciler.state().repairs == 2
    story.play((3000, change("c")))
    judged(story, broken("/c"), id_="c")
    assert len(lines_of(story)) == 2
    while len(lines_of(story)) == 2:
        judged(story, broken("/c"), id_="c")
    assert lines_of(story)[2:] == [f"{HOUR + 1:g} repair c chown-directory /srv/c"]


@pytest.mark.parametrize(
    ("ago", "repaired"),
    [
        pytest.param((HOUR - 100, 10), f"{100:g}", id="when the first is an hour ago"),
        pytest.param((10, HOUR - 100), f"{100:g}", id="in any order"),
        pytest.param((10, -9999), f"{HOUR - 10:g}", id="by a clock that was set back"),
        pytest.param((10,), "2", id="there is room"),
    ],
)
def test_the_cap_of_an_hour_survives_a_restart(ago: tuple[float, ...], repaired: str) -> None:
    story = story_of(repairs_per_hour=2, check_again=1e6)
    before = tuple(past(a, f"gone{a}", f"/gone{a}") for a in ago)
    story.play((0, Restored(repairs=before)), (1, connected("a")), (2, Result("a", broken())))
    assert story.reconciler.state().repairs == len(ago) + (repaired == "2")
    while not lines_of(story):
        story.play((8, Result("a", broken()))) if story.now < 8 else judged(story, broken())
    assert lines_of(story) == [f"{repaired} repair a chown-directory /srv/data"]


def test_no_repairs_an_hour() -> None:
    story = story_of(repairs_per_hour=0)
    story.play((0, connected("a")), (1, Result("a", broken())))
    assert lines_of(story) == []


@pytest.mark.parametrize(
    ("window", "minute", "opens"),
    [
        pytest.param(None, 0, 0, id="always"),
        pytest.param((120, 300), 120, 0, id="its first minute"),
        pytest.param((120, 300), 299, 0, id="its last"),
        pytest.param((120, 300), 300, 1260, id="over"),
        pytest.param((120, 300), 100, 20, id="not yet"),
        pytest.param((1380, 60), 1439, 0, id="over midnight, before it"),
        pytest.param((1380, 60), 59, 0, id="over midnight, after it"),
        pytest.param((1380, 60), 60, 1320, id="over midnight, over"),
        pytest.param((60, 60), 700, 0, id="all day"),
    ],
)
def test_window(window: tuple[int, int] | None, minute: int, opens: int) -> None:
    story = story_of(rule(window=window), check_again=1e6)
    story.wall += minute * 60
    story.play((0, connected("a")), (1, Result("a", broken())), (9, Result("a", broken())))
    if opens:
        assert lines_of(story) == []
        judged(story, broken())
    (line,) = lines_of(story)
    at = float(line.split()[0])
    assert at == 1 if not opens else opens * 60 <= at <= opens * 60 + 1


def test_the_window_is_in_local_time() -> None:
    story = Story(
        Limits(),
        lambda wall: int(wall // 60 + 60) % 1440,
        repairs=(rule(window=(60, 61)),),
    )
    story.play((0, connected("a")), (1, Result("a", broken())))
    assert len(lines_of(story)) == 1


# -- why not ----------------------------------------------------------------------------------

OFF = seen("a", labels=(("permdoctor.fix", "off"),))
WHY_NOT = [
    pytest.param(rule(window=(120, 300)), "a", 6, "waits: outside 02:00-05:00", id="window"),
    pytest.param(
        rule(), OFF, 6, "not done: the container's label permdoctor.fix forbids it", id="label"
    ),
    pytest.param(rule(), "a", 0, "waits: repair.per_hour is 0", id="none an hour"),
    pytest.param(
        rule(remedy=ACL), "a", 6, "not done: no repair.unasked allows chown-directory", id="remedy"
    ),
    pytest.param(
        rule(roots=("/home",)),
        "a",
        6,
        "not done: /srv/data is in none of the roots of repair.unasked",
        id="root",
    ),
    pytest.param(rule("b"), "a", 6, "", id="nobody allowed anything"),
    pytest.param(rule(), "a", 6, "", id="it is repaired"),
]


def why_not(story: Story) -> list[str]:
    (container, *_) = story.reconciler.state().containers
    return [f.repair for f in container.findings]


def logged(story: Story) -> list[str]:
    return [dict(log.fields)["why"] for log in story.logs if log.event == "not repaired"]


@pytest.mark.parametrize(("allowed", "container", "per_hour", "why"), WHY_NOT)
def test_why_not(allowed: RepairRule, container: str | Seen, per_hour: int, why: str) -> None:
    """In the findings, and once in the log."""
    story = story_of(allowed, repairs_per_hour=per_hour)
    story.play((0, connected(container)), (1, Result("a", broken())), (6, Result("a", broken())))
    assert why_not(story) == [why]
    assert logged(story) == ([why] if why else [])


def test_why_not_where_the_label_leaves_nothing_to_offer() -> None:
    """As ``check`` finds it: a container that has opted out has no remedy that can be done."""
    story = story_of(rule())
    bare = replace(broken(), fixable=())
    story.play((0, connected(OFF)), (1, Result("a", bare)), (6, Result("a", bare)))
    assert why_not(story) == ["not done: the container's label permdoctor.fix forbids it"]


def test_why_not_is_shown_to_who_asks() -> None:
    story = story_of(rule(window=(120, 300)))
    story.play((0, connected("a")), (1, Result("a", broken())))
    facts = Facts(host="h", started=EPOCH)
    document = findings(story.reconciler.state(), Filter(), facts, EPOCH)
    assert document.findings[0].repair == "waits: outside 02:00-05:00"
    assert "    repair waits: outside 02:00-05:00" in plain(render.findings(document)).splitlines()


def test_why_not_when_it_was_in_vain() -> None:
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken())), (2, Done()))
    story.play((3, Result("a", broken())))
    assert why_not(story) == ["not done: chown-directory did not help", ""]
    assert logged(story) == ["not done: chown-directory did not help"]


def test_why_not_in_a_fight() -> None:
    story = story_of()
    fight(story, ("a", A), ("b", B), ("a", A))
    assert why_not(story)[0] == "not done: repairs there undo each other"
    assert logged(story)[-1] == "not done: repairs there undo each other"


def test_why_not_by_the_cap() -> None:
    story = story_of(repairs_per_hour=1)
    story.play((0, connected("b", "a")), (1, Result("a", broken())), (2, Done()), (3, Result("a")))
    story.play((4, Result("b", broken("/b"))))
    assert why_not(story) == ["waits: the 1 an hour (repair.per_hour) are used up"]
    assert logged(story) == why_not(story)


# -- fights -----------------------------------------------------------------------------------

A, B = "/srv/shared", "/srv/shared"


def fight(story: Story, *turns: tuple[str, str], **who: str) -> list[str]:
    """Each in turn finds the path broken; a repair helps, until the next turn.  Each is somebody
    else unless told otherwise.
    """
    ids = sorted({i for i, _ in turns})
    story.play((0, connected(*ids)))
    story.play(*((1, Result(i)) for i in ids))
    story.until(9)
    story.play(*((9, Result(i)) for i in ids))
    for n, (id_, path) in enumerate(turns):
        story.play((100.0 * (n + 1), change(id_)))
        judged(story, broken("/data", host_path=path, who=who.get(id_, id_)), id_=id_)
        if story.repair is not None:
            story.play((story.now, Done()), (story.now + 1, Result(id_)))
    return [line.split(" ", 1)[1] for line in lines_of(story)]


def repair_of(id_: str, path: str = A) -> str:
    return f"repair {id_} chown-directory {path}"


FIGHTS = [
    pytest.param([("a", A), ("b", B)], [repair_of("a"), repair_of("b")], id="once each"),
    pytest.param(
        [("a", A), ("b", B), ("a", A)],
        [repair_of("a"), repair_of("b"), "+PD402 a", "+PD402 b"],
        id="a second time: stopped",
    ),
    pytest.param(
        [("a", A), ("b", B), ("a", A), ("b", B), ("a", A)],
        [repair_of("a"), repair_of("b"), "+PD402 a", "+PD402 b"],
        id="and it stays so",
    ),
    pytest.param([("a", A), ("a", A)], [repair_of("a")] * 2, id="nobody to fight with"),
    pytest.param(
        [("a", A), ("b", "/srv/other"), ("a", A)],
        [repair_of("a"), repair_of("b", "/srv/other"), repair_of("a")],
        id="about something else",
    ),
    pytest.param(
        [("a", A), ("b", A + "/sub"), ("a", A)],
        [repair_of("a"), repair_of("b", A + "/sub"), "+PD402 a", "+PD402 b"],
        id="one below the other",
    ),
    pytest.param(
        [("a", A), ("b", B), ("c", A), ("a", A)],
        [repair_of("a"), repair_of("b"), "+PD402 a", "+PD402 b", "+PD402 c"],
        id="three",
    ),
]


@pytest.mark.parametrize(("turns", "lines"), FIGHTS)
def test_fight(turns: list[tuple[str, str]], lines: list[str]) -> None:
    got = fight(story_of(repairs_per_hour=20), *turns)
    repairs = [line for line in lines if line.startswith("repair")]
    assert [line for line in got if line.startswith("repair")] == repairs
    assert sorted(got) == sorted(lines)


def test_two_of_one_user_do_not_fight() -> None:
    """Whoever it is that undoes what both of them want."""
    turns = [("a", A), ("b", B), ("a", A), ("b", B + "/sub")]
    got = fight(story_of(repairs_per_hour=20), *turns, a="1000:1000", b="1000:1000")
    assert [line for line in got if "PD402" in line] == []
    assert len(got) == len(turns)


def test_two_policies_of_one_container() -> None:
    story = story_of(rule(), rule(remedy=ACL))
    story.play((0, connected("a")), (0, Result("a")), (10, Result("a")))
    for n, remedy in enumerate((CHOWN, ACL, CHOWN)):
        story.play((100.0 * (n + 1), change("a")))
        judged(story, broken("/data", remedy))
        if story.repair is not None:
            story.play((story.now, Done()), (story.now + 1, Result("a")))
    assert [line.split(" ", 1)[1] for line in lines_of(story)] == [
        "repair a chown-directory /srv/data",
        "repair a acl-user /srv/data",
        "+PD402 a",
    ]


def test_a_fight_is_over_when_one_is_gone() -> None:
    story = story_of()
    fight(story, ("a", A), ("b", B), ("a", A))
    at = story.now
    story.play((at + 1, stop("b")))
    story.until(at + 130)
    assert [line.split(" ", 1)[1] for line in lines_of(story)[4:]] == [
        "-PD402 b",
        "-PD402 a",
        repair_of("a"),
    ]


def test_a_fight_is_over_when_the_rules_change() -> None:
    story = story_of()
    fight(story, ("a", A), ("b", B), ("a", A))
    story.play((story.now + 1, Reloaded(rules=other(story))))
    assert [line.split(" ", 1)[1] for line in lines_of(story)[4:]] == [
        "-PD402 a",
        "-PD402 b",
        repair_of("a"),
    ]


def test_a_fight_goes_on_after_a_restart_of_the_service() -> None:
    first = story_of()
    fight(first, ("a", A), ("b", B), ("a", A))
    story = story_of()
    rows: list[Row] = [(1, connected("a", "b")), (2, Result("b"))]
    story.play((0, Restored(firing=first.reconciler.state().firing)), *rows)
    story.play((3, Result("a", broken("/data", host_path=A))))
    assert lines_of(story) == []
    assert story.findings("a") == ["PD101*", "PD402*"]
    assert story.findings("b") == ["PD402*"]


def test_a_fight_that_a_restart_came_into() -> None:
    """Nobody was told of one yet."""
    before = (past(300, "a", path=A.encode()), past(200, "b", path=B.encode()))
    story = story_of()
    story.play((0, Restored(repairs=before)), (1, connected("a", "b")))
    story.play(*((at, Result(i)) for at in (2, 9) for i in "ab"), (100, change("a")))
    judged(story, broken("/data", host_path=A))
    assert [line.split(" ", 1)[1] for line in lines_of(story)] == ["+PD402 a", "+PD402 b"]


def test_after_more_than_an_hour_it_is_no_fight() -> None:
    story = story_of(check_again=1e6)
    fight(story, ("a", A), ("b", B))
    story.play((story.now + HOUR, change("a")))
    judged(story, broken("/data", host_path=A))
    assert lines_of(story)[-1].endswith(repair_of("a"))


# -- what helps, and is undone ------------------------------------------------------------------


def undoes(story: Story, until: float, id_: str = "a", every: float = 10.0) -> list[float]:
    """Whoever undoes each repair that often; the times (minutes) of those repairs."""
    bad, repairs, last = True, [], story.now
    while story.now < until:
        if not bad and story.now - last >= every:
            bad, last = True, story.now
            story.play((story.now, Changed(path=b"/srv/data")))
        if story.repair is not None:
            repairs.append(story.now)
            bad, last = False, story.now
            story.play((story.now, Done()))
        answer(story, id_, *[broken()] * bad)
        due = story.reconciler.due()
        story.until(min(story.now + 1, until if due is None else max(due, story.now)))
        story.give(Tick())
    return [at / 60 for at in repairs]


def answer(story: Story, id_: str, *found: Found) -> None:
    """The check that is under way, if there is one."""
    for ref, number in tuple(story.checks.items()):
        if ref.id == id_:
            del story.checks[ref]
            story.give(Checked(number=number, ref=ref, found=found, roots=(b"/srv/data",)))


def test_undone_again_and_again() -> None:
    """Twice at once, then after an hour, after two, after four; a finding says who is suspected."""
    story = story_of(repairs_per_hour=20)
    story.play((0, connected("a")))
    minutes = undoes(story, 10 * HOUR)
    assert len(minutes) == 5
    assert [round(b - a) for a, b in pairwise(minutes)] == [0, 60, 120, 240]
    (alert,) = {
        t.alert.title: t.alert for t in story.tells if t.alert.problem.code == "PD401"
    }.values()
    assert alert.title == "chown-directory helps against PD101 at /data, and somebody undoes it"
    assert alert.detail[1].endswith("times: permdoctor history 3f2a")


def test_what_a_person_has_mended_is_no_help_of_ours() -> None:
    """Repaired, taken back by hand (then it is refused), mended by hand, broken once more: twice
    somebody undid it, and only once what was done by us.
    """
    story = story_of()
    story.play((0, connected("a")))
    for end, bad in ((50, True), (100, False), (150, True), (200, False), (250, True)):
        while story.now < end:
            answer(story, "a", *[broken()] * bad)
            if story.repair is not None:
                refused = "it was taken back" if story.now > 100 else ""
                story.play((story.now, Done(not refused, failed=refused)))
                bad = bool(refused)
            story.until(story.now + 1)
        story.play((end, change("a")))
    assert [line.partition(" ")[2] for line in lines_of(story)] == [
        "repair a chown-directory /srv/data",
        "repair a chown-directory /srv/data",
        "+PD401 a",
        "-PD401 a",
        "repair a chown-directory /srv/data",
        "+PD401 a",
    ]
    assert "did not help" in story.tells[-1].alert.title


def test_it_is_undone_and_the_container_is_another_one() -> None:
    story = story_of(repairs_per_hour=20)
    fight(story, ("a", A), ("a", A), ("a", A))
    story.play((story.now, stop("a")), (story.now + 200, start("b", "a")))
    story.play((story.now, Result("b", broken("/data", host_path=A))))
    assert len([x for x in story.lines if " repair " in x]) == 2


def test_undone_before_the_service_was_started_again() -> None:
    story = story_of()
    before = (past(900, "a"), past(600, "a"), past(300, "a"))
    story.play((0, Restored(repairs=before)), (1, connected("a")), (2, Result("a")))
    story.play((7, Result("a", broken())))
    assert lines_of(story) == ["7 +PD401 a"]


def test_no_container_has_all_repairs_of_the_hour() -> None:
    """It has many places to be repaired, and each repair is undone."""
    story = story_of(repairs_per_hour=6)
    story.play((0, connected("a", "b")), *((at, Result(i)) for at in (1, 6) for i in "ab"))
    for n in range(9):
        story.play((story.now + 100, change("a")))
        judged(story, broken(f"/{n}"))
        if story.repair is not None:
            story.play((story.now, Done()), (story.now + 1, Result("a")))
    story.play((story.now + 100, change("b")))
    judged(story, broken("/b"), id_="b")
    assert [x.split(" ", 1)[1] for x in lines_of(story)] == [
        *(repair_of("a", f"/srv/{n}") for n in range(3)),
        repair_of("b", "/srv/b"),
    ]


def test_a_repair_is_an_event_for_everybody_there() -> None:
    story = story_of()
    story.play((0, connected("a", "b", "c")))
    story.play((1, Result("b", roots=(b"/srv",))), (1, Result("c", roots=(b"/home",))))
    story.until(7)
    story.play((7, Result("b", roots=(b"/srv",))), (7, Result("c", roots=(b"/home",))))
    story.play((8, Result("a", broken(), roots=(b"/srv/data",))), (9, Done()))
    assert [x for x in story.lines if x.startswith("9 ")] == [
        "9 check a settled",
        "9 check b repaired",
    ]


def test_what_the_repair_changes_is_no_reason_to_repair() -> None:
    """Its own changes are seen while it is at work."""
    story = story_of()
    story.play((0, connected("a")), (1, Result("a", broken(), roots=(b"/srv/data",))))
    story.play((1.5, Changed(path=b"/srv/data")), (2.6, Result("a", broken(), roots=(b"/srv",))))
    assert lines_of(story) == ["1 repair a chown-directory /srv/data"]


def test_a_fight_alert_names_the_parties() -> None:
    story = story_of()
    fight(story, ("a", A), ("b", B), ("a", A))
    alerts: dict[str, Alert] = {t.alert.problem.container: t.alert for t in story.tells[-2:]}
    assert set(alerts) == {"a", "b"}
    assert alerts["a"].detail[:2] == (
        "a by chown-directory: /srv/shared",
        "b by chown-directory: /srv/shared",
    )
    assert replace(alerts["a"], problem=alerts["b"].problem) == alerts["b"]
