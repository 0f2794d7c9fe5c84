"""What cannot be kept is neither forgotten nor without end."""

from __future__ import annotations

from msgspec.structs import replace

from permdoctor.alerts.alert import Alert, AlertStatus
from permdoctor.daemon.events import Tell
from permdoctor.daemon.unsaid import Unsaid
from tests.alerts.build import alert, resolved


def ids(queue: Unsaid) -> list[str]:
    found = []
    while len(queue):
        found.append(queue.first().id)
        queue.said()
    return found


def episode(number: int, started: float) -> Alert:
    return alert(number, started=started)


def test_few_are_kept_as_they_are() -> None:
    queue = Unsaid(many=10)
    alerts = [alert(1), resolved(alert(1)), alert(2)]
    for each in alerts:
        queue.add(Tell(alert=each))
    assert ids(queue) == [a.id for a in alerts]
    assert queue.left_out == 0


def test_of_many_what_is_over_is_left_out() -> None:
    queue = Unsaid(many=10)
    before = alert(1)  # told when there was room
    queue.add(Tell(alert=replace(before, count=7), quiet=True))
    queue.add(Tell(alert=resolved(before)))
    for n in range(100):
        begun = episode(2, 1000.0 + n)
        queue.add(Tell(alert=begun))
        queue.add(Tell(alert=replace(begun, revision=1)))
        queue.add(Tell(alert=resolved(begun)))
    last = episode(2, 2000.0)
    queue.add(Tell(alert=last))
    queue.add(Tell(alert=replace(last, revision=1)))
    assert len(queue) <= 20
    left, kept = queue.left_out, ids(queue)
    assert kept[0] == resolved(before).id, "its beginning was told"
    assert kept[-1] == replace(last, revision=1).id, "it is there"
    assert left + sum("resolved" in each for each in kept[1:]) == 100


def test_it_grows_with_the_problems_alone() -> None:
    queue = Unsaid(many=10)
    for n in range(10_000):
        which = episode(n % 50, float(n // 50))
        queue.add(Tell(alert=which))
        queue.add(Tell(alert=replace(which, status=AlertStatus.RESOLVED, ended=1e9)))
        assert len(queue) <= 2 * 50 + 3 * 10
