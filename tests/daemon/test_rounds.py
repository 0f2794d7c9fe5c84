"""Moments at which containers are judged again."""

from __future__ import annotations

from collections import Counter

import pytest

from permdoctor.daemon.events import ContainerRef
from permdoctor.daemon.rounds import TOGETHER, next_round

HOUR = 3600.0


def refs(count: int) -> list[ContainerRef]:
    return [ContainerRef(engine="e", id=f"{n:064x}") for n in range(count)]


@pytest.mark.parametrize("now", [0.0, 5.2, 3599.5, 3600.0, 7e5 + 0.3])
@pytest.mark.parametrize("count", [1, 100, 10_000])
def test_it_comes_within_a_period(now: float, count: int) -> None:
    for ref in refs(50):
        at = next_round(ref, now, HOUR, count)
        assert now + 1 <= at <= now + HOUR + 1
        again = next_round(ref, at + 0.05, HOUR, count)
        assert again - at == pytest.approx(HOUR)


@pytest.mark.parametrize(("count", "moments"), [(20, 1), (100, 4), (10_000, 400)])
def test_some_share_a_moment_and_not_all(count: int, moments: int) -> None:
    """Whenever they were judged before."""
    whens = (next_round(r, 7.0 * n, HOUR, count) for n, r in enumerate(refs(count)))
    at = Counter(round(when, 3) % HOUR for when in whens)
    assert len(at) == moments
    assert max(at.values()) < 3 * TOGETHER
