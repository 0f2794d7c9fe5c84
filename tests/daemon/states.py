"""States of the service by hand: each builder fills in what a case leaves open."""

from __future__ import annotations

import hashlib
from typing import Any

from permdoctor.alerts.alert import Alert, AlertStatus, Problem
from permdoctor.daemon.events import ContainerRef, Found
from permdoctor.daemon.state import ContainerState, EngineState, FindingState, State
from permdoctor.diagnosis.report import Severity

ENGINE = "unix:///run/docker.sock"
NOW = 1_800_000_000.0


def problem(container: str = "trainer", code: str = "PD101", target: str = "/app/model") -> Problem:
    return Problem(host="lab", engine=ENGINE, container=container, code=code, target=target)


def finding(
    code: str = "PD101",
    severity: Severity = Severity.ERROR,
    target: str = "/app/model",
    *,
    ignored: str = "",
    **more: Any,
) -> FindingState:
    found = Found(
        problem=problem(code=code, target=target),
        severity=severity,
        **({"title": f"{target}: 1001:1001 cannot write here", "host_path": "/srv"} | more),
    )
    return FindingState(found=found, since=NOW - 60, told=not ignored, ignored=ignored)


def container(name: str = "trainer", *findings: FindingState, **more: Any) -> ContainerState:
    fields: dict[str, Any] = {
        "ref": ContainerRef(engine=ENGINE, id=hashlib.sha256(repr(name).encode()).hexdigest()),
        "judged": True,
        "checked": NOW - 30,
    }
    return ContainerState(name=name, findings=findings, **(fields | more))


def engine(endpoint: str = ENGINE, **more: Any) -> EngineState:
    fields: dict[str, Any] = {"connected": True, "since": NOW - 600, "swept": NOW - 100}
    return EngineState(engine=endpoint, **(fields | more))


def state(*containers: ContainerState, **more: Any) -> State:
    return State(containers=containers, **({"engines": (engine(),)} | more))


def alert(severity: Severity = Severity.ERROR) -> Alert:
    return Alert(
        problem=problem(), status=AlertStatus.FIRING, severity=severity, title="t", started=NOW
    )
