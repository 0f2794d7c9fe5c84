"""When a container is judged again though nothing seems to have happened.

Each has a moment of its own in every period, by its id, so that the work is spread whenever they
were started.  Moments are few, and ``TOGETHER`` containers share one: what a check reads of the
whole machine (the processes, the engine's list) serves those that come soon after it, and costs as
much as three checks without.
"""

from __future__ import annotations

import math
from typing import Final

from permdoctor.daemon.bounds import part_of
from permdoctor.daemon.events import ContainerRef

TOGETHER: Final = 25

_LEAST: Final = 1.0


def next_round(ref: ContainerRef, now: float, period: float, count: int) -> float:
    """Its next moment: after ``now``, at the latest ``period`` seconds (and ``_LEAST``) later.
    ``count`` containers are judged by turns.
    """
    moments = max(1, count // TOGETHER)
    phase = math.floor(part_of(ref) * moments) / moments
    at = period * (math.floor(now / period - phase) + 1 + phase)
    return at if at >= now + _LEAST else at + period
