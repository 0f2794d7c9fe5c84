"""Starts that the engine refuses: it says nothing of them, so they are looked for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from permdoctor.daemon.events import Action, Happened, RepairRule, Seen

from .story import Result, Row, Story, connected, found, ref, seen, start, stop, swept

UP: Row = (0, connected())


def created(id_: str = "a") -> Happened:
    return Happened(action=Action.CREATE, container=replace(seen(id_), running=False))


def removed(id_: str = "a") -> Happened:
    return Happened(action=Action.GONE, container=replace(seen(id_), running=False))


def refused(id_: str = "a", name: str = "") -> Seen:
    return replace(seen(id_, name), running=False, refused=True)


def told(story: Story) -> list[str]:
    return [line for line in story.lines if line.split()[1][0] in "+-"]


def looked_for() -> Story:
    """``a`` was made and not started, and is judged."""
    story = Story(damp=10.0)
    story.play(UP, (1, created()), (6.1, swept(refused())))
    story.play((6.2, Result("a", "PD115", predicted=True)))
    story.play((12, Result("a", "PD115", predicted=True)))
    return story


@pytest.mark.parametrize("after", [start("a"), removed()], ids=["started", "removed"])
def test_what_goes_on_at_once_is_not_listed(after: Happened) -> None:
    story = Story()
    story.play(UP, (1, created()), (1.5, after))
    assert "list" not in " ".join(story.until(200))


def test_what_is_not_started_is_looked_for() -> None:
    story = looked_for()
    assert story.lines == [
        "6 list",
        "6.1 check a started",
        "6.2 +PD115 a",
        "11.1 check a settled",
    ]
    assert story.stopped[ref("a")], "by its configuration"


def test_what_is_started_later_is_looked_for_later() -> None:
    """As compose does with what depends on others; in the end the sweeps see it."""
    story = Story(sweep=100.0)
    story.play(UP, (1, created()))
    seen_at = []
    while story.now < 500:
        seen_at += [round(story.now) for line in story.next() if "list" in line]
        story.play((story.now, swept()))
    assert seen_at[:6] == [6, 16, 36, 76, 156, 256]


def test_many_are_looked_for_at_once() -> None:
    story = Story()
    story.play(UP, *((1 + n / 100, created(f"c{n}")) for n in range(100)))
    assert story.until(10) == ["6 list"]


def test_it_stays_until_it_is_started() -> None:
    """However long that takes."""
    story = looked_for()
    for at in range(300, 3000, 300):
        story.play((at, swept(refused())))
    assert story.findings("a") == ["PD115*"]
    story.play((3000, start("a")))
    assert not story.stopped[ref("a")]
    story.play((3001, Result("a")), (3010, stop("a")))
    assert told(story)[1:] == ["3001 -PD115 a"]
    assert story.names() == []


@pytest.mark.parametrize("gone", [removed(), swept()], ids=["an event", "a list"])
def test_it_is_over_when_it_is_removed(gone: Happened) -> None:
    story = looked_for()
    story.play((20, gone))
    assert story.names() == []
    assert told(story)[1:] + story.until(41) == ["40 -PD115 a"], (
        "unless another has its name by then"
    )


def test_who_was_refused_before_the_service_was_started() -> None:
    story = Story()
    assert story.play((0, connected("b", refused()))) == ["0 check b started", "0 check a started"]
    assert (story.stopped[ref("a")], story.stopped[ref("b")]) == (True, False)


def test_nobody_repairs_for_what_never_ran() -> None:
    """Else whoever may make containers that cannot start has what he likes changed."""
    rule = RepairRule(container="*", remedy="acl-user", roots=("/srv",), max_entries=10)
    story = Story(repairs=(rule,))
    bad = found("PD101", fixable=("acl-user",), host_path="/srv/data")
    story.play((0, connected(refused())), (1, Result("a", bad, predicted=True)))
    assert story.repair is None
    (state,) = story.reconciler.state().containers
    assert [f.repair for f in state.findings] == ["not done: it was never started"]
    story.play((6, Result("a", bad, predicted=True)), (10, start("a")), (11, Result("a", bad)))
    assert story.repair is not None


def test_one_that_was_known_to_run() -> None:
    """Its end and its next start were not heard of."""
    story = Story()
    story.play((0, connected("a")), (1, Result("a")), (6, Result("a")))
    assert story.play((10, swept(refused()))) == ["10 check a refused"]
    assert story.stopped[ref("a")]
