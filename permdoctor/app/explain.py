"""``explain``: one path, walked component by component, and what may be done at its end."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.app.collect import Collector, Options
from permdoctor.app.engines import connected, find
from permdoctor.config import Config
from permdoctor.container.needs import Need, clean_path
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.explanation import ExplainedOperation, Explanation
from permdoctor.diagnosis.facts import Facts, Walk
from permdoctor.diagnosis.hostpath import host_path_of
from permdoctor.engines.process import container_of_process
from permdoctor.errors import CannotCheckError
from permdoctor.kernel import operations as op
from permdoctor.kernel.inode import FileType
from permdoctor.kernel.permission import permission
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Errno, Outcome, Rule, Step, Verdict, Want
from permdoctor.kernel.walk import Hop, walk


def explain(
    *,
    container: str | None,
    pid: int | None,
    path: bytes,
    wants: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    probe: bool = False,
    config: Config | None = None,
) -> Explanation:
    """``path`` is absolute inside.  ``wants`` empty: what fits the object there.

    Raises ``UsageError`` for a container nobody knows, ``CannotCheckError`` where the path cannot
    be looked at.
    """
    path = clean_path(path)
    config = config or Config()
    options = Options(needs=((path, Need.READ),), probe=probe, shallow=True, config=config)
    with Collector(options) as collector:
        if container is None:
            assert pid is not None
            facts = collector.facts(None, collector.in_worker(container_of_process, pid))
        else:
            with connected(hosts, config.engines.hosts) as engines:
                facts = collector.facts(*find(engines, container))
        return explanation(facts, path, wants)


def explanation(facts: Facts, path: bytes, wants: tuple[str, ...]) -> Explanation:
    """Facts to Explanation.  Pure but for its place: it belongs to this one command."""
    way = _walk_to(facts, path)
    if way is None:
        reasons = "; ".join(f"{s.what}: {s.reason}" for s in facts.skipped)
        raise CannotCheckError(
            f"{printable(path)} cannot be looked at" + (f" ({reasons})" if reasons else ""),
            hint=next((s.hint for s in facts.skipped if s.hint), None),
        )
    walks = tuple(walk(s.cred, _passed(way), facts.sysctls) for s in facts.subjects)
    return Explanation(
        container=facts.container,
        basis=facts.basis,
        path=path,
        subjects=facts.subjects,
        hops=way.hops,
        walks=walks,
        host_path=host_path_of(facts, way.hops[-1].path),
        missing=way.missing,
        operations=tuple(_operations(facts.subjects, way, wants or _fitting(way))),
        probes=facts.probes,
        skipped=facts.skipped,
    )


def _walk_to(facts: Facts, path: bytes) -> Walk | None:
    walks = [*facts.places, *(b.walk for b in facts.binds if b.walk is not None)]
    return next((w for w in walks if w.path == path), None)


def _passed(way: Walk) -> tuple[Hop, ...]:
    """The hops to search: with a missing end the last directory, too, is searched."""
    return (*way.hops, way.hops[-1]) if way.missing is not None else way.hops


def _fitting(way: Walk) -> tuple[str, ...]:
    if way.object is None:
        return ("create",)
    if way.object.inode.is_dir:
        return ("read", "create", "own")
    return ("read", "write", "delete")


def _operations(
    subjects: tuple[Subject, ...], way: Walk, wants: tuple[str, ...]
) -> Iterator[ExplainedOperation]:
    for i, s in enumerate(subjects):
        for want in dict.fromkeys(wants):
            yield ExplainedOperation(subject=i, want=want, verdict=_operation(s, way, want))


def _operation(subject: Subject, way: Walk, want: str) -> Verdict:
    """The operation after the walk."""
    cred, last = subject.cred, len(way.hops) - 1
    end = way.hops[last]
    if way.object is None:
        if way.beyond or want not in ("create", "write"):
            step = Step(rule=Rule.MISSING, outcome=Outcome.REFUSES, about=str(last))
            return Verdict(errno=Errno.ENOENT, steps=(step,))
        return _at(op.create(cred, end.inode, end.mount), last, last)
    above = next((i for i in range(last - 1, -1, -1) if way.hops[i].link is None), last)
    parent = way.hops[above]
    match want:
        case "read" if end.inode.is_dir:
            verdict = permission(cred, end.inode, end.mount, Want.R, "object")
        case "read":
            verdict = op.open_existing(cred, end.inode, end.mount, op.OpenFlags(want=Want.R))
        case "write" | "create" if end.inode.is_dir:
            return _at(op.create(cred, end.inode, end.mount), last, last)
        case "write" if end.inode.type is FileType.SOCKET:
            verdict = permission(cred, end.inode, end.mount, Want.W, "object")
        case "write":
            verdict = op.open_existing(cred, end.inode, end.mount, op.OpenFlags(want=Want.W))
        case "create":
            verdict = op.create(cred, parent.inode, parent.mount, exists=True)
        case "delete":
            verdict = op.delete(
                cred, parent.inode, end.inode, parent.mount, busy=end.mount_root or above == last
            )
        case "own":
            verdict = op.chmod(cred, end.inode, end.mount)
        case _:
            verdict = op.execute(cred, end.inode, end.mount)
    return _at(verdict, last, above)


def _at(verdict: Verdict, of_object: int, of_parent: int) -> Verdict:
    """Steps named by the index of their hop."""
    hops = {"object": str(of_object), "parent": str(of_parent)}
    steps = tuple(replace(s, about=hops.get(s.about, s.about)) for s in verdict.steps)
    return replace(verdict, steps=steps)
