"""A plan that a limit cut short is none, and says which limit; of several trees it is their sum."""

from __future__ import annotations

import pytest

from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.repair.options import Limits
from tests.lab.lab import Lab
from tests.repair.crash import supervise, work

TO = ToOwner(name="to", scope=Scope.ALL, uid=7777, gid=7777)


@pytest.mark.parametrize(
    ("limits", "stopped"),
    [
        pytest.param(Limits(entries=3), "stopped at 3 entries", id="within-the-first"),
        pytest.param(Limits(entries=6), "stopped at 6 entries", id="after-the-first"),
        pytest.param(Limits(entries=5), "stopped at 5 entries", id="one-less"),
        pytest.param(Limits(entries=8), "stopped at 8 entries", id="within-the-second"),
        pytest.param(Limits(entries=18), "", id="all"),
        pytest.param(Limits(seconds=0), "stopped after 0 seconds", id="no-time"),
    ],
)
def test_of_three_trees(limits: Limits, stopped: str, lab: Lab) -> None:
    base = lab.fs("tmpfs")
    roots = [base / f"t{n}" for n in range(3)]
    for root in roots:
        root.mkdir()
        for n in range(5):
            (root / str(n)).touch()
    done = supervise.run(
        lambda: work.repair(str(base / "state"), *map(str, roots), recipe=TO, limits=limits)
    )
    assert done.summary.stopped == stopped
    assert (done.outcome is None) == bool(stopped)
