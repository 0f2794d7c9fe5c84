"""A judgement that does not know everything: what it cannot see is neither there nor gone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from permdoctor.daemon.events import Reloaded, RepairRule, Restored, Unknown
from permdoctor.daemon.found import roots_of, unknown_of
from permdoctor.diagnosis.diagnose import diagnose
from tests.diagnosis.build import bind, directory, entries, facts, subject

from .story import Done, Result, Story, change, connected, found

SILENT = (Unknown(target="/dead"),)
BELOW = (Unknown(target="/dead", codes=frozenset({"PD201"})),)
PARTLY = (Unknown(target="/dead", codes=frozenset({"PD201"}), partial=True),)
AT = {"target": "/dead"}


def told(story: Story) -> list[str]:
    return [x.split(" ", 1)[1] for x in story.lines if "PD" in x]


def settled(*findings: object) -> Story:
    """Judged twice; /dead has two problems, /data none."""
    story = Story(sweep=1e6, check_again=1e6, damp=0)
    both = (found("PD101", **AT), found("PD201", **AT))
    story.play((0, connected("a")), (1, Result("a", *both)), (6, Result("a", *both)))
    story.lines.clear()
    return story


def test_what_is_not_seen_is_not_resolved() -> None:
    """And what is seen is told, at once."""
    story = settled()
    story.play((100, change("a")))
    story.play((102, Result("a", "PD101", found("PD403", **AT), unknown=SILENT)))
    assert told(story) == ["+PD101 a", "+PD403 a"]
    assert story.findings("a") == ["PD101*", "PD101*", "PD403*", "PD201*"]
    state = story.reconciler.state().containers[0]
    assert (state.judged, state.failed) == (True, "")


def test_it_is_resolved_when_it_is_seen_to_be_gone() -> None:
    story = settled()
    story.play((100, change("a")), (102, Result("a", found("PD403", **AT), unknown=SILENT)))
    story.until(108)
    story.play((108, Result("a")))
    assert sorted(told(story)) == ["+PD403 a", "-PD101 a", "-PD201 a", "-PD403 a"]


def test_its_root_answers_and_what_lies_below_it_does_not() -> None:
    story = settled()
    story.play((100, change("a")), (102, Result("a", unknown=BELOW)))
    assert told(story) == ["-PD101 a"]
    assert story.findings("a") == ["PD201*"]


@pytest.mark.parametrize(
    ("target", "kept"),
    [("/dead", True), ("/dead/below", True), ("/deadly", False), ("/", False)],
)
def test_what_lies_where(target: str, kept: bool) -> None:
    story = Story(sweep=1e6, damp=0)
    story.play((0, connected("a")), (1, Result("a", found("PD208", target))))
    story.play((6, Result("a", unknown=SILENT)))
    assert told(story) == (["+PD208 a"] if kept else ["+PD208 a", "-PD208 a"])


def test_nor_after_a_restart_of_the_service() -> None:
    """Only the alerts are known then."""
    firing = settled().reconciler.state().firing
    story = Story(sweep=1e6, damp=0)
    story.play((0, Restored(firing=firing)), (1, connected("a")))
    story.play((2, Result("a", unknown=SILENT)))
    assert told(story) == []
    story.play((3, Reloaded(rules=story.rules)))
    assert told(story) == []
    story.play((7, Result("a", unknown=BELOW)))
    assert told(story) == ["-PD101 a"]


def test_it_is_looked_at_again_later_each_time() -> None:
    story = settled()
    story.play((100, change("a")))
    times = []
    while len(times) < 12:
        if any(" check a " in line for line in story.next()):
            times.append(story.now)
            story.play((story.now, Result("a", unknown=SILENT)))
    waits = [round(b - a) for a, b in pairwise(times)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]


REPAIR = RepairRule(container="*", remedy="acl-user", roots=("/srv",), max_entries=10)


def test_it_is_not_repaired() -> None:
    story = Story(sweep=1e6, repairs=(REPAIR,), repairs_per_hour=0)
    broken = found("PD101", **AT, fixable=("acl-user",))
    story.play((0, connected("a")), (1, Result("a", broken)), (6, Result("a", unknown=SILENT)))
    assert story.findings("a") == ["PD101*"]
    story.play((7, Reloaded(rules=Story(repairs=(REPAIR,)).rules)))
    assert story.repair is None
    story.until(11)
    story.play((12, Result("a", broken)))
    assert story.repair is not None


def test_it_proves_no_repair() -> None:
    story = Story(sweep=1e6, repairs=(REPAIR,), damp=0)
    broken = found("PD101", **AT, fixable=("acl-user",))
    story.play((0, connected("a")), (1, Result("a", broken)), (2, Done()))
    story.play((3, Result("a", unknown=SILENT)))
    assert told(story) == ["+PD101 a"]
    story.until(9)
    story.play((9, Result("a")))
    assert told(story) == ["+PD101 a", "-PD101 a"]


# -- a tree that was not read to its end: who fills it decides how far one gets ------------------

MINE = directory("1000:1000", 0o755)


def test_a_budget_that_was_not_enough() -> None:
    """What lies below is unknown, but for that itself; and it is watched all the same."""
    read = entries(("x", MINE, 3), parent=MINE)
    cut = entries(("x", MINE, 3), parent=MINE, stopped="stopped at 3 entries")
    of = facts(subject("1000:1000"), bind("/all", MINE, tree=read), bind("/some", MINE, tree=cut))
    (unknown,) = unknown_of(of)
    assert (unknown.target, unknown.partial) == ("/some", True)
    assert {"PD111", "PD201", "PD202", "PD203", "PD204"} <= unknown.codes
    assert not {"PD101", "PD305"} & unknown.codes
    assert roots_of(diagnose(of), (unknown,)) == (b"/srv/source",)


def test_what_it_did_not_come_to_is_not_resolved() -> None:
    """Its root was read, and is well."""
    story = settled()
    story.play((100, change("a")), (102, Result("a", "PD305", unknown=PARTLY)))
    assert told(story) == ["-PD101 a"]
    assert story.findings("a") == ["PD201*", "PD305"]
    story.play((200, change("a")), (202, Result("a")))
    assert told(story) == ["-PD101 a", "-PD201 a"]


def test_what_it_came_to_is_as_it_is_now() -> None:
    story = settled()
    now = found("PD201", **AT, title="other words")
    story.play((100, change("a")), (102, Result("a", now, unknown=PARTLY)))
    story.until(103)
    assert [a.title for a in story.reconciler.state().firing] == ["other words"]


def test_a_mount_below_it_was_read() -> None:
    story = Story(sweep=1e6, damp=0)
    story.play((0, connected("a")), (1, Result("a", found("PD201", "/dead/below"))))
    story.play((6, Result("a", unknown=PARTLY)))
    assert told(story) == ["+PD201 a", "-PD201 a"]


def test_asking_again_gives_no_more() -> None:
    story = settled()
    story.play((100, change("a")), (102, Result("a", unknown=PARTLY)))
    assert story.until(5000) == []


@pytest.mark.parametrize(("seen", "repaired"), [(True, True), (False, False)])
def test_only_what_it_came_to_is_repaired(seen: bool, repaired: bool) -> None:
    story = Story(sweep=1e6, repairs=(REPAIR,), repairs_per_hour=0)
    broken = found("PD201", **AT, fixable=("acl-user",))
    story.play((0, connected("a")), (1, Result("a", broken)))
    story.play((6, Result("a", *((broken,) if seen else ()), unknown=PARTLY)))
    story.play((7, Reloaded(rules=Story(repairs=(REPAIR,)).rules)))
    assert (story.repair is not None) is repaired
