"""Two repairs or undos of one tree: the second is refused, and told who holds it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from permdoctor.diagnosis.plan import Reason
from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.errors import PermdoctorError
from permdoctor.repair import change
from permdoctor.repair.store import Busy, Store
from tests.lab.lab import Lab
from tests.lab.patience import within
from tests.repair.crash import snapshot, supervise, work
from tests.repair.crash.supervise import Run

TO = ToOwner(name="to", scope=Scope.ALL, uid=7777, gid=7777)


class Trees:
    """``tree`` with ``tree/sub`` in it, and ``other`` beside; one store."""

    def __init__(self, base: Path) -> None:
        self.base, self.store = base, str(base / "state")
        for name in ("tree", "tree/sub", "other"):
            (base / name).mkdir()
            (base / name / "f").touch()
        time.sleep(0.06)
        self.before = snapshot.take(str(base / "tree"))

    def repair(self, *names: str, between: Callable[[], object] | None = None) -> work.Done:
        roots = [str(self.base / n) for n in names]
        return work.repair(self.store, *roots, recipe=TO, between=between)

    @contextlib.contextmanager
    def held(self, what: Callable[[Callable[[], object]], object]) -> Iterator[Run]:
        """``what`` runs in a process of its own and stays in the middle of it."""
        ready, held = os.pipe(), os.pipe()

        def wait() -> None:
            os.write(ready[1], b"x")
            os.close(held[1])
            os.read(held[0], 1)

        try:
            with Run(lambda: what(wait)) as run:
                os.close(ready[1])
                assert os.read(ready[0], 1) == b"x", run.end()
                yield run
        finally:
            for fd in (ready[0], *held):
                os.close(fd)


@pytest.fixture
def there(lab: Lab) -> Trees:
    return Trees(lab.fs("tmpfs"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("tree",), ("tree",), id="same"),
        pytest.param(("tree",), ("tree/sub",), id="below"),
        pytest.param(("tree/sub",), ("tree",), id="above"),
        pytest.param(("other", "tree"), ("tree",), id="one-of-two"),
        pytest.param(("tree",), ("other", "tree/sub"), id="one-of-the-seconds"),
        pytest.param(("tree/f",), ("tree",), id="a-file-in-it"),
    ],
)
def test_a_second_repair_is_refused(
    first: tuple[str, ...], second: tuple[str, ...], there: Trees
) -> None:
    with there.held(lambda wait: there.repair(*first, between=wait)) as run:
        with pytest.raises(Busy) as busy:
            supervise.run(lambda: there.repair(*second))
        (holder,) = Store(there.store).records()
        assert str(run.pid) in busy.value.message or holder.id in busy.value.message
        assert busy.value.exit_status == 3
        assert busy.value.hint
        assert not snapshot.diff(there.before, snapshot.take(str(there.base / "tree")))
        run.kill()
        run.end()
    done = supervise.run(lambda: there.repair(*second))
    assert done.outcome.complete


def test_the_same_tree_by_another_path(there: Trees) -> None:
    alias = there.base / "alias"
    alias.mkdir()
    subprocess.run(["mount", "--bind", there.base / "tree", alias], check=True)
    try:
        with (
            there.held(lambda wait: there.repair("tree", between=wait)),
            pytest.raises(Busy),
        ):
            supervise.run(lambda: there.repair("alias"))
    finally:
        subprocess.run(["umount", alias], check=True)


def test_unrelated_trees_at_once(there: Trees) -> None:
    with there.held(lambda wait: there.repair("tree", between=wait)):
        assert supervise.run(lambda: there.repair("other")).outcome.complete


def test_neighbours_whose_names_begin_alike(there: Trees) -> None:
    (there.base / "tree2").mkdir()
    with there.held(lambda wait: there.repair("tree", between=wait)):
        assert supervise.run(lambda: there.repair("tree2")).outcome.complete


@pytest.mark.parametrize("first", ["repair", "undo"])
def test_repair_and_undo_exclude_each_other(first: str, there: Trees) -> None:
    done = supervise.run(lambda: there.repair("tree"))
    os.chown(there.base / "tree" / "f", 5, 5)
    time.sleep(0.06)
    now = snapshot.take(str(there.base / "tree"))

    def held(wait: Callable[[], object]) -> work.Done:
        if first == "repair":
            return there.repair("tree", between=wait)
        return work.undo(there.store, done.id, between=wait)

    with there.held(held):
        for second in (
            lambda: there.repair("tree"),
            lambda: there.repair("tree/sub"),
            lambda: work.undo(there.store, done.id),
        ):
            with pytest.raises(Busy):
                supervise.run(second)
        assert not snapshot.diff(now, snapshot.take(str(there.base / "tree")))


def test_two_that_start_at_the_same_time(there: Trees) -> None:
    """One of them does it; whoever came second is refused or finds nothing to do."""
    for _ in range(5):
        with Run(lambda: there.repair("tree")) as one, Run(lambda: there.repair("tree")) as two:
            ended = [one.end(), two.end()]
        assert sum(e.error is None for e in ended) >= 1
        for e in ended:
            assert e.error is None or isinstance(e.error, Busy), e.error
        applied = [e.value.outcome for e in ended if e.value and e.value.outcome]
        assert sum(o.applied for o in applied) == len(there.before)
        assert all(o.complete for o in applied)
        (id_,) = [e.value.id for e in ended if e.value and e.value.outcome]
        supervise.run(lambda id_=id_: work.undo(there.store, id_))
        assert not snapshot.diff(there.before, snapshot.take(str(there.base / "tree")))


def test_busy_is_an_error_of_ours() -> None:
    assert issubclass(Busy, PermdoctorError)


def test_very_many_that_are_kept_fresh_are_not_waited_for_one_by_one(
    there: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever touches them all the time cannot hold it up: 25 waits, not thousands."""
    files = [there.base / "tree" / f"g{n}" for n in range(200)]
    for file in files:
        file.touch()
    time.sleep(0.06)

    def touch() -> None:
        for file in files:
            file.chmod(0o600)
            file.chmod(0o644)
        monkeypatch.setattr(change, "is_fresh", lambda *_: True)

    with within(60, "a wait for each of them is 300 s"):
        done = supervise.run(lambda: there.repair("tree", between=touch))
    assert done.outcome is not None
    assert [(x.reason, x.count) for x in done.outcome.left] == [(Reason.FRESH, 200)]
