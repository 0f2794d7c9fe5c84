"""How far the reconciler goes, whatever comes: counts, lengths, and seconds."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """``checks`` is how many may be begun and not be back yet: more than there are workers, so that
    none of these has nothing to do.

    A check or a repair that has not come back after its deadline (seconds) is given up; one that
    failed is tried again after ``backoff_least``, twice that, and so on up to ``backoff_most``.
    An engine of which only alerts of before speak is forgotten with these after ``forget`` seconds.
    """

    checks: int = 2
    check_deadline: float = 120.0
    repair_deadline: float = 7200.0
    list_deadline: float = 60.0
    backoff_least: float = 5.0
    backoff_most: float = 900.0
    forget: float = 86400.0

    engines: int = 32
    containers: int = 10_000
    problems: int = 10_000
    roots: int = 4096
    """Host paths under watch."""
    findings: int = 200
    """Of one container: the worst."""
    roots_each: int = 256
    labels: int = 256
    text: int = 1024
    """Characters of one name, sentence or line."""
    lines: int = 32
    """Of a finding's details, and of its remedies."""
