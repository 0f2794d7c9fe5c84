"""A report as the reconciler takes it: what was found, in the words of an alert, and where.

Pure.  Several subjects that are refused the same thing are several findings of one problem; the
reconciler tells them together.  Everything here is printable; host and engine are the
reconciler's to fill in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from permdoctor.alerts.alert import Problem
from permdoctor.container.container import Container, MountKind
from permdoctor.container.subject import Basis
from permdoctor.daemon.events import Found, Unknown
from permdoctor.diagnosis.codes import CODES
from permdoctor.diagnosis.diagnose import is_unread
from permdoctor.diagnosis.facts import BindFacts, Facts
from permdoctor.diagnosis.report import Finding, Remedy, Report
from permdoctor.diagnosis.unfixable import forbidden
from permdoctor.kernel.filesystems import PSEUDO
from permdoctor.kernel.text import printable
from permdoctor.render.names import who_in_full
from permdoctor.render.table import samples, why_refused

UNJUDGED: Final = "PD403"
_BELOW: Final = frozenset({"PD111", "PD201", "PD202", "PD203", "PD204", "PD305", "PD306"})
"""What is found by reading a tree, and not by its root alone."""

_PARTLY_READ: Final = _BELOW - {"PD305"}

_WATCHED: Final = (MountKind.BIND, MountKind.VOLUME)
_HOST: Final = "host"
_SHOWN: Final = 3
_PREDICTED: Final = "it starts again and again, and was judged from its configuration"
_REFUSED: Final = "it does not run, and was judged from its configuration"


def found_of(report: Report) -> tuple[Found, ...]:
    """One for each finding, in the report's order: worst first."""
    repairable = not forbidden(report)
    return tuple(_found(report, finding, repairable=repairable) for finding in report.findings)


def roots_of(report: Report, unknown: tuple[Unknown, ...] = ()) -> tuple[bytes, ...]:
    """The host's paths of its mounts, as far as they can be watched: binds and volumes that are
    not ``unknown``.
    """
    silent = {u.target for u in unknown if not u.partial}
    seen = (m for m in report.mounts if not m.deleted and printable(m.target) not in silent)
    paths = (m.host_path for m in seen if m.kind in _WATCHED)
    return tuple(dict.fromkeys(p for p in paths if p is not None and p != b"/"))


def writes_of(facts: Facts) -> tuple[bytes, ...]:
    """The host's paths of the directories that are mounted writable: what is seen there is no
    longer so when somebody was there.
    """
    paths = (
        b.bind.host_path
        for b in facts.binds
        if b.bind.kind in _WATCHED and not b.bind.mount.read_only and _is_directory(b)
    )
    return tuple(dict.fromkeys(p for p in paths if p is not None and p != b"/"))


def asked_writes(container: Container) -> tuple[bytes, ...]:
    """The same of one that is over, by what it was started with: sources as the engine has them."""
    sources = (m.source for m in container.mounts if m.kind in _WATCHED and not m.read_only)
    return tuple(dict.fromkeys(s for s in sources if s is not None and s != b"/"))


def unknown_of(facts: Facts) -> tuple[Unknown, ...]:
    """The mounts of whose root, or of what lies below it, nothing or not everything was read: a
    container says itself how much there is before what it does not want to be seen.
    """
    return tuple(u for b in facts.binds if (u := _unknown(b)) is not None)


def _unknown(of: BindFacts) -> Unknown | None:
    target = printable(of.bind.target)
    if is_unread(of):
        return Unknown(target=target)
    if _is_unread_below(of):
        return Unknown(target=target, codes=_BELOW)
    if of.tree is not None and of.tree.coverage.stopped:
        return Unknown(target=target, codes=_PARTLY_READ, partial=True)
    return None


def unjudged(report: Report, unknown: tuple[Unknown, ...]) -> Iterator[Found]:
    """PD403 for each of them of which nothing else is said."""
    said = {printable(f.target) for f in report.findings if f.target is not None}
    for mount in report.mounts:
        target = printable(mount.target)
        if target not in {u.target for u in unknown if not u.codes} or target in said:
            continue
        why = next((s for s in report.skipped if f" {target} (" in s.what), None)
        reason = "nobody knows why" if why is None else why.reason
        host_path = "" if mount.host_path is None else printable(mount.host_path)
        yield Found(
            problem=_problem(report, UNJUDGED, target),
            severity=CODES[UNJUDGED].severity,
            title=f"{target} cannot be judged: {reason}",
            detail=tuple(x for x in (f"filesystem: {mount.fstype}", why and why.hint) if x),
            host_path=host_path,
        )


def _is_unread_below(of: BindFacts) -> bool:
    return _is_directory(of) and of.bind.fstype not in PSEUDO and of.tree is None


def _is_directory(of: BindFacts) -> bool:
    root = None if of.walk is None else of.walk.object
    return root is not None and root.inode.is_dir


def _problem(report: Report, code: str, target: str) -> Problem:
    return Problem(
        host="",
        engine=report.container.engine.endpoint,
        container=printable(report.container.name),
        code=code,
        target=target,
    )


def _found(report: Report, finding: Finding, *, repairable: bool) -> Found:
    target = finding.target if finding.target is not None else finding.path
    subject = None if finding.subject is None else report.subjects[finding.subject]
    return Found(
        problem=_problem(report, finding.code, printable(target)),
        severity=finding.severity,
        title=finding.title,
        who="" if subject is None else who_in_full(subject),
        detail=_detail(report, finding),
        remedies=tuple(_line(r) for r in finding.remedies[:_SHOWN] if r.commands or r.title),
        fixable=_fixable(finding) if repairable else (),
        host_path=printable(finding.host_path) if finding.host_path is not None else "",
        count=finding.count,
    )


def _detail(report: Report, finding: Finding) -> tuple[str, ...]:
    why = why_refused(finding, report)
    such = samples(finding) if finding.samples else ""
    lines = (why, *finding.detail, such, _processes(report, finding), _basis(report))
    return tuple(line for line in lines if line)


def _basis(report: Report) -> str:
    """Of what runs nothing need be said."""
    if report.basis is not Basis.PREDICTED:
        return ""
    return _REFUSED if report.container.error else _PREDICTED


def _processes(report: Report, finding: Finding) -> str:
    """Their names; each start of a container gives them other numbers."""
    if finding.subject is None:
        return ""
    of = report.subjects[finding.subject].processes
    names = tuple(dict.fromkeys(printable(p.comm) for p in of))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"in: {', '.join(names[:_SHOWN])}{more}" if names else ""


def _line(remedy: Remedy) -> str:
    """Shell lines for the host as they are; what is to be done elsewhere says where."""
    if not remedy.commands:
        return f"# {remedy.title}"
    lines = "; ".join(remedy.commands)
    return lines if remedy.where == _HOST else f"# {remedy.title}: {lines}"


def _fixable(finding: Finding) -> tuple[str, ...]:
    """What the service may do itself: it takes from nobody, and leaves nothing to do by hand."""
    names = (
        r.name for r in finding.remedies if r.recipes and r.helps and not r.by_hand and not r.breaks
    )
    return tuple(dict.fromkeys(names)) if finding.host_path is not None else ()
