"""``[[ignore]]``: which findings are known, and why: they are shown, and count for nothing.

Pure.  All that a rule gives must match.  Its globs are as ``fnmatch``'s, whole and with case; ``*``
matches ``/``, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from msgspec.structs import replace

from permdoctor.diagnosis.report import Finding, Report
from permdoctor.kernel.text import printable

Labels = tuple[tuple[str, str], ...]


class Rule(Protocol):
    """``label`` is KEY or KEY=VALUE; empty: whatever the labels are."""

    @property
    def reason(self) -> str: ...

    @property
    def code(self) -> str: ...
    @property
    def container(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def path(self) -> str: ...


def covers(rule: Rule, code: str, container: str, labels: Labels, paths: Iterable[str]) -> bool:
    """Whether the rule is about such a finding.  ``paths`` are its places, on the host and inside;
    one of them is enough.
    """
    return (
        fnmatchcase(code, rule.code)
        and fnmatchcase(container, rule.container)
        and any(fnmatchcase(path, rule.path) for path in paths)
        and _has_label(rule.label, labels)
    )


def marked(report: Report, rules: Sequence[Rule]) -> Report:
    """The report with ``ignored`` in the findings that a rule covers."""
    return replace(report, findings=tuple(_marked(f, report, rules) for f in report.findings))


def _marked(finding: Finding, report: Report, rules: Sequence[Rule]) -> Finding:
    container = report.container
    target = finding.target if finding.target is not None else finding.path
    host = printable(finding.host_path) if finding.host_path is not None else ""
    paths = (host, printable(target))
    name = printable(container.name)
    for rule in rules:
        if covers(rule, finding.code, name, container.labels, paths):
            return replace(finding, ignored=rule.reason)
    return finding


def _has_label(glob: str, labels: Labels) -> bool:
    if not glob:
        return True
    if "=" in glob:
        return any(fnmatchcase(f"{key}={value}", glob) for key, value in labels)
    return any(fnmatchcase(key, glob) for key, _ in labels)
