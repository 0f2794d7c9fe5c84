"""Findings for which nothing is repaired, and why."""

from __future__ import annotations

from msgspec import Struct

from permdoctor.diagnosis.report import Finding, Remedy, Report
from permdoctor.kernel.filesystems import FAKED_OWNERS, SERVER_DECIDES, is_fuse
from permdoctor.kernel.text import printable

OPT_OUT = "permdoctor.fix"
"""The label by which a container says ``off``: it may opt out, never in."""


class NotFixable(Struct, frozen=True, kw_only=True):
    """A finding that permdoctor does not repair: why, and what a person can do."""

    finding: Finding
    reason: str
    hint: str = ""


def opted_out(report: Report) -> bool:
    """Whether the container's label says that nothing is to be repaired for it."""
    said = report.container.label(OPT_OUT) or ""
    return said.strip().lower() in ("off", "false", "no", "0")


def forbidden(report: Report) -> str:
    """What forbids every repair; empty: nothing does."""
    if not opted_out(report):
        return ""
    said = printable(report.container.label(OPT_OUT) or "")
    return f"the container's label {OPT_OUT}={said} says no"


def left_alone(report: Report, finding: Finding, reason: str) -> NotFixable:
    """A finding for which nothing is done unnamed."""
    fixable = next((r for r in finding.remedies if r.recipes), None)
    if reason or fixable is None:
        hint = command_of(finding.remedies[0]) if finding.remedies else ""
        return NotFixable(finding=finding, reason=reason or _nature(report, finding), hint=hint)
    harmed = [i.who for i in fixable.impacts if i.breaks]
    return NotFixable(
        finding=finding,
        reason=f"{fixable.name} would take from {', '.join(harmed)}"
        if harmed
        else f"{fixable.name} leaves something to do: {'; '.join(fixable.by_hand)}",
        hint=f"--remedy {fixable.name} does it all the same",
    )


def command_of(remedy: Remedy) -> str:
    return remedy.commands[0] if remedy.commands else remedy.title


_WHERE = {
    "container": "the way the container is started",
    "compose": "the compose file",
    "dockerfile": "the image",
}


def _nature(report: Report, finding: Finding) -> str:
    """Why nothing on the host can be changed for it."""
    mount = next((m for m in report.mounts if m.target == finding.target), None)
    best = next(iter(finding.remedies), None)
    if finding.host_path is None and finding.path:
        return "it does not lie on a mount of the host"
    if mount is not None and mount.idmapped:
        return "it is seen through an idmapped mount: its ids there are not the host's"
    if mount is not None and mount.fstype in SERVER_DECIDES:
        return f"{printable(mount.fstype)}: its server decides"
    if mount is not None and (mount.fstype in FAKED_OWNERS or is_fuse(mount.fstype)):
        return f"{printable(mount.fstype)}: the owner is an option of its mount"
    if best is not None and best.where in _WHERE:
        return f"only {_WHERE[best.where]} can be changed"
    return "nothing that permdoctor changes would help"
