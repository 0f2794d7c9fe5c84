"""From a report to the jobs of a repair: which findings, by which remedies, where.

Without a name everything is chosen that is *refused* to the container: errors, and the warnings
of a rule that says no (entries that cannot be changed or deleted, a variable's path).  What is
allowed too much, or will go wrong later, or is only worth knowing, is repaired when its remedy is
named.  By default a remedy is taken that is proven, takes nothing from anybody and needs nothing
done to the container; a remedy that is named is taken as it is.
"""

from __future__ import annotations

from msgspec import Struct

from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.plan import Job
from permdoctor.diagnosis.report import Finding, Remedy, Report

OPT_OUT = "permdoctor.fix"
"""The label by which a container says ``off``: it may opt out, never in."""


class Chosen(Struct, frozen=True, kw_only=True):
    """A finding, the remedy that is to repair it, and where: a path of the host."""

    finding: Finding
    remedy: Remedy
    path: bytes


class NotFixable(Struct, frozen=True, kw_only=True):
    """A finding that permdoctor does not repair: why, and what a person can do."""

    finding: Finding
    reason: str
    hint: str = ""


class Choice(Struct, frozen=True, kw_only=True):
    """What is to be done.  ``jobs`` have one path each, none below another's tree.

    ``optional`` is what would be repaired, too, if its remedy were named (``--remedy``).  ``left``
    is what is refused and stays so.
    """

    jobs: tuple[Job, ...] = ()
    chosen: tuple[Chosen, ...] = ()
    optional: tuple[Chosen, ...] = ()
    left: tuple[NotFixable, ...] = ()


def jobs_of(report: Report, *, mounts: tuple[bytes, ...] = (), remedy: str | None = None) -> Choice:
    """The jobs for one container.

    ``mounts`` are targets (paths inside); empty means all.  ``remedy`` is a stable name of the
    report (``chown-directory``).  Raises ``UsageError`` for a mount or a remedy that this report
    does not have; the hint names the nearest.
    """
    raise NotImplementedError


def job_for(facts: Facts, path: bytes) -> Job:
    """``--path PATH --for CONTAINER``: everything in the tree that the container's processes need
    and are refused.  ``path`` is the resolved path on the host.
    """
    raise NotImplementedError
