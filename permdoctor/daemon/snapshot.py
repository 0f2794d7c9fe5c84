"""The reconciler's ``State``, from what it knows at this moment."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.daemon import results
from permdoctor.daemon.connections import Connection
from permdoctor.daemon.desk import Desk
from permdoctor.daemon.roster import Record
from permdoctor.daemon.state import ContainerState, EngineState, FindingState, State


def snapshot(desk: Desk) -> State:
    """O(n) in containers."""
    watched = desk.roots.watched
    return State(
        containers=tuple(_container(desk, record) for record in desk.roster),
        engines=tuple(_engine(one) for one in desk.connections),
        firing=desk.episodes.firing(),
        checking=len(desk.checks),
        waiting=desk.checks.overdue(desk.now),
        watched=watched,
        unwatched=len(desk.roots) - watched,
        directories=desk.watching.directories,
        blind=_blind(desk)[: desk.limits.text],
        left_out=sum(one.left_out for one in desk.connections),
        repairs=desk.repairs.begun(desk.now),
    )


def _blind(desk: Desk) -> str:
    beyond = f"more than {desk.limits.roots:,} paths are mounted" if desk.roots.beyond else ""
    return desk.watching.why or beyond


def _container(desk: Desk, record: Record) -> ContainerState:
    return ContainerState(
        ref=record.ref,
        name=record.name,
        started=record.started,
        labels=record.labels,
        findings=tuple(_findings(desk, record)),
        roots=record.roots,
        down=record.ended,
        judged=record.judged,
        checking=desk.checks.busy(record.ref),
        checked=record.checked,
        seconds=record.seconds,
        failed=record.failed,
        failures=record.failures,
        due=desk.checks.due_at(record.ref),
    )


def _findings(desk: Desk, record: Record) -> Iterator[FindingState]:
    hindered = results.hindered(desk, record)
    for of in record.findings:
        problem = of.found.problem
        why = hindered.get((problem.code, problem.target, of.found.host_path), "")
        yield replace(of, repair=why) if why and not of.ignored else of


def _engine(one: Connection) -> EngineState:
    return EngineState(
        engine=one.engine,
        connected=one.connected,
        why=one.why,
        since=one.since,
        swept=one.swept,
    )
