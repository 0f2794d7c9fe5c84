"""Everybody who uses a tree, judged before and after a repair.

A problem is something that is needed and refused, or what was chosen to be repaired.  It is the
same one if code, path and credentials are the same; how many entries it is about may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from permdoctor.app.collect import Collector
from permdoctor.app.pausing import User
from permdoctor.diagnosis.choice import is_refused
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.proposal import Checked
from permdoctor.diagnosis.report import Finding, Report
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.text import printable

MOST = 16
"""Other containers that are judged, as for a check's neighbours."""

Key = tuple[object, ...]


def judged(collector: Collector, user: User) -> Report:
    """The container as it is now.  Raises ``PermdoctorError``."""
    return diagnose(collector.facts(user.engine, user.engine.inspect(user.container.id)))


def judged_or_none(collector: Collector, users: Sequence[User]) -> dict[str, Report]:
    """Reports by container id; one that cannot be judged has none, and is none to compare with."""
    found = {}
    for user in users[:MOST]:
        try:
            found[user.container.id] = judged(collector, user)
        except PermdoctorError:
            continue
    return found


def again(
    collector: Collector,
    user: User,
    before: Report | None,
    problems: Iterable[Finding] | None = None,
) -> Checked:
    """Judge it once more.  ``problems`` are findings of ``before`` that were to be solved."""
    who = printable(user.name)
    if before is None:
        return Checked(who=who, failed="it could not be judged before either")
    try:
        after = judged(collector, user)
    except PermdoctorError as e:
        return Checked(who=who, failed=e.message)
    return compare(who, before, after, problems)


def compare(
    who: str, before: Report, after: Report, problems: Iterable[Finding] | None = None
) -> Checked:
    """Pure.  ``remaining`` are the problems that are still found (``None``: what is refused)."""
    was = {_key(f, before): f for f in before.findings}
    now = {_key(f, after): f for f in after.findings}
    refused = {k: f for k, f in was.items() if is_refused(f)}
    asked = refused if problems is None else {_key(f, before): f for f in problems}
    return Checked(
        who=who,
        before=before.subjects,
        after=after.subjects,
        solved=tuple(f for k, f in {**refused, **asked}.items() if k not in now),
        remaining=tuple(now[k] for k in asked if k in now),
        new=tuple(f for k, f in now.items() if is_refused(f) and k not in was),
        failed="" if after.judged else "too much of it could not be read",
    )


def _key(finding: Finding, report: Report) -> Key:
    cred = None if finding.subject is None else report.subjects[finding.subject].cred
    ids = None if cred is None else (cred.fsuid, cred.fsgid, cred.groups, cred.effective)
    return finding.code, finding.target, finding.path, ids
