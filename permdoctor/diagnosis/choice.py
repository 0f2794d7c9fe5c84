"""From a report to the jobs of a repair: which findings, by which remedies, where.

Without a name everything is chosen that is *refused* to the container: errors, and the warnings
of a rule that says no (entries that cannot be changed or deleted, a variable's path).  What is
allowed too much, what will go wrong later and what is only worth knowing is repaired when its
remedy is named.

By default the best remedy is taken that takes nothing from anybody and needs nothing done to the
container; where it does not help all entries, the next with it; where several subjects are refused
the same object, all such remedies, so that one that cannot own it gets an ACL entry.  A remedy
that is named is taken as it is, even if it breaks somebody: the report said whom.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.needs import Need, clean_path
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.diagnose import need_of
from permdoctor.diagnosis.entries import entry_recipes
from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.parties import parties_of
from permdoctor.diagnosis.plan import Job
from permdoctor.diagnosis.recipes import (
    Claim,
    Grant,
    Party,
    Recipe,
    Scope,
    object_recipes,
)
from permdoctor.diagnosis.report import Finding, Remedy, Report, Severity
from permdoctor.diagnosis.unfixable import (
    OPT_OUT,
    NotFixable,
    command_of,
    forbidden,
    left_alone,
)
from permdoctor.errors import NotThereError, UsageError
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable

__all__ = ["OPT_OUT", "Choice", "Chosen", "NotFixable", "is_refused", "job_for", "jobs_of"]


class Chosen(Struct, frozen=True, kw_only=True):
    """A finding, a remedy that is to repair it, and where: a path of the host."""

    finding: Finding
    remedy: Remedy
    path: bytes


class Choice(Struct, frozen=True, kw_only=True):
    """What is to be done.  ``jobs`` have one path each, none in another's tree.

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
    findings = _findings(report, mounts)
    if remedy is not None:
        _must_know("remedy", remedy, {r.name for f in findings for r in f.remedies})
        found = [c for f in findings for c in _named(report, f, remedy)]
    else:
        found = [c for f in findings if is_refused(f) for c in _default(report, f, findings)]
    wanted = [c for c in found if isinstance(c, Chosen)]
    jobs, nested = _without_nested(_jobs(report, wanted, named=remedy is not None))
    chosen = tuple(c for c in found if isinstance(c, Chosen) and c.path not in nested)
    left = [c for c in found if isinstance(c, NotFixable)]
    left += [
        NotFixable(finding=c.finding, reason=nested[c.path], hint="repair it after this")
        for c in found
        if isinstance(c, Chosen) and c.path in nested and nested[c.path]
    ]
    optional = () if remedy is not None else tuple(_optional(report, findings))
    return Choice(jobs=jobs, chosen=chosen, optional=optional, left=tuple(left))


def is_refused(finding: Finding) -> bool:
    """Whether something that the container needs is refused to it: what is repaired unnamed."""
    if finding.severity is Severity.WARNING:
        return finding.verdict is not None and not finding.verdict.allowed
    return finding.severity is Severity.ERROR


# -- which findings, which remedies ------------------------------------------------------------


def _findings(report: Report, mounts: tuple[bytes, ...]) -> tuple[Finding, ...]:
    targets = {clean_path(m) for m in mounts}
    known = {printable(m.target) for m in report.mounts}
    for target in sorted(targets):
        _must_know("mount", printable(target), known)
    return tuple(f for f in report.findings if not targets or f.target in targets)


def _must_know(what: str, name: str, known: set[str]) -> None:
    if name in known:
        return
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    rest = sorted(known - set(near))
    raise NotThereError(
        f"this container's report has no {what} {printable(name)}",
        hint=f"it has {', '.join((*near, *rest))}" if known else f"it has no {what} at all",
    )


def _named(report: Report, finding: Finding, name: str) -> Iterator[Chosen | NotFixable]:
    for remedy in finding.remedies:
        if remedy.name != name:
            continue
        reason = forbidden(report)
        if reason or finding.host_path is None or not remedy.recipes:
            yield NotFixable(
                finding=finding,
                reason=reason or f"{name} is for people: {remedy.title}",
                hint=command_of(remedy),
            )
        else:
            yield Chosen(finding=finding, remedy=remedy, path=finding.host_path)


def _default(
    report: Report, finding: Finding, findings: tuple[Finding, ...]
) -> Iterator[Chosen | NotFixable]:
    harmless = [r for r in finding.remedies if r.recipes and r.helps and not r.by_hand]
    reason = forbidden(report)
    if reason or not harmless or finding.host_path is None:
        yield left_alone(report, finding, reason)
        return
    helped: set[int] = set()
    for remedy in harmless:
        if remedy.helps - helped or _shared(finding, findings):
            yield Chosen(finding=finding, remedy=remedy, path=finding.host_path)
            helped |= remedy.helps


def _shared(finding: Finding, findings: tuple[Finding, ...]) -> bool:
    """Whether another subject is refused the same object, or entries of the same tree."""
    return any(
        f.host_path == finding.host_path and f.subject != finding.subject
        for f in findings
        if is_refused(f)
    )


def _optional(report: Report, findings: tuple[Finding, ...]) -> Iterator[Chosen]:
    if forbidden(report):
        return
    for f in findings:
        if is_refused(f) or f.host_path is None:
            continue
        for r in f.remedies:
            if r.recipes:
                yield Chosen(finding=f, remedy=r, path=f.host_path)


# -- the jobs ----------------------------------------------------------------------------------


def _jobs(report: Report, chosen: list[Chosen], *, named: bool) -> dict[bytes, Job]:
    """One a path, in the order of the findings; what breaks nobody is to break nobody."""
    recipes: dict[bytes, dict[Recipe, None]] = {}
    for c in chosen:
        for recipe in c.remedy.recipes:
            if isinstance(recipe, Grant) and not (named and c.remedy.breaks):
                recipe = replace(recipe, careful=True)
            recipes.setdefault(c.path, {})[recipe] = None
    identity = {m.host_path: (m.dev, m.ino) for m in report.mounts}
    jobs = {}
    for path, wanted in recipes.items():
        dev, ino = identity.get(path, (0, 0))
        jobs[path] = Job(path=path, recipes=tuple(wanted), dev=dev, ino=ino)
    return jobs


def _without_nested(jobs: dict[bytes, Job]) -> tuple[tuple[Job, ...], dict[bytes, str]]:
    """The jobs without those in another's tree, and why these cannot be done at the same time.

    One whose recipes are the outer's, too, is simply done with it.
    """
    kept: dict[bytes, Job] = {}
    refused: dict[bytes, str] = {}
    for path in sorted(jobs):
        outer = next((o for o in kept.values() if _covers(o, path)), None)
        if outer is None:
            kept[path] = jobs[path]
        elif not {_essence(r) for r in jobs[path].recipes} <= {_essence(r) for r in outer.recipes}:
            refused[path] = f"it lies in {printable(outer.path)}, which is repaired as a whole"
    return tuple(kept[p] for p in jobs if p in kept), refused


def _covers(outer: Job, path: bytes) -> bool:
    deep = any(r.scope is not Scope.ROOT for r in outer.recipes)
    return deep and is_beneath(path, outer.path)


def _essence(recipe: Recipe) -> Recipe:
    """What it does and for whom, whichever mount of the same tree it is seen through."""
    if not isinstance(recipe, Grant):
        return recipe
    return replace(recipe, claim=replace(recipe.claim, mount=Mount(), spare=()))


def job_for(facts: Facts, path: bytes) -> Job:
    """``--path PATH --for CONTAINER``: everything in the tree that the container's processes need
    and are refused: to read and write, or what is asked of the mount on which it lies.  In the
    order of the remedies; nothing is taken from anybody.  ``path`` is the resolved path on the
    host.  Raises ``UsageError`` where the container sees it through an idmapped mount.
    """
    under = [b for b in facts.binds if _is_above(b.bind.host_path, path)]
    bind = max(under, key=lambda b: len(b.bind.host_path or b""), default=None)
    mount = Mount() if bind is None else bind.bind.mount
    if mount.idmap is not None or mount.idmap_unknown:
        raise UsageError(
            f"the container sees {printable(path)} through an idmapped mount",
            hint="say whose it is to be in host ids: --to UID:GID",
        )
    need = Need.WRITE if bind is None else need_of(facts, bind.bind).need
    subjects = [s for s in facts.subjects if not _is_visitor(s)] or facts.subjects
    recipes: list[Recipe] = []
    for s in subjects:
        own = tuple(
            Party(cred=o.cred, mount=mount, need=need) for o in facts.subjects if o is not s
        )
        spare = tuple(dict.fromkeys((*own, *parties_of(facts, path, but=s))))
        claim = Claim(cred=s.cred, mount=mount, need=need, spare=spare)
        recipes.extend((*object_recipes(claim), *entry_recipes(claim)))
    careful = [replace(r, careful=True) if isinstance(r, Grant) else r for r in recipes]
    walk = None if bind is None or bind.bind.host_path != path else bind.walk
    return Job(
        path=path,
        recipes=tuple(careful),
        dev=0 if walk is None else walk.dev,
        ino=0 if walk is None else walk.ino,
    )


def _is_above(source: bytes | None, path: bytes) -> bool:
    return source is not None and is_beneath(path, source)


def _is_visitor(subject: Subject) -> bool:
    """A ``docker exec`` session: not what the container is for."""
    return bool(subject.processes) and all(p.via_exec for p in subject.processes)
