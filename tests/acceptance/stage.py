"""One ``permdoctor serve`` over several engines, and everybody who is told: what each of them says,
in one form, so that it can be compared with ``check``.
"""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from permdoctor.app.check import CheckRequest, check
from permdoctor.diagnosis.report import Finding as Reported
from permdoctor.kernel.text import printable
from tests.acceptance.test_docker import CASES, Case, immutable
from tests.alerts.receiver import Receiver, Request
from tests.cli.process import permdoctor
from tests.daemon.service import Service
from tests.daemon.test_prometheus import Prometheus
from tests.lab.engine import Engine
from tests.lab.lab import Lab
from tests.lab.patience import until

SECRET = "sixteen tons and what do you get"


class Row(NamedTuple):
    """What everybody can say of a finding."""

    container: str
    code: str
    target: str


class Finding(NamedTuple):
    row: Row
    severity: str


@dataclass
class Stage:
    """``hosts`` are the engines' endpoints by their kind; ``absent`` why there is none of a kind.
    ``alertmanager`` is a URL, empty without one; ``stack`` what is to be done at the end.
    """

    lab: Lab
    engines: dict[str, Engine]
    hosts: dict[str, str]
    absent: dict[str, str]
    service: Service
    receiver: Receiver
    alertmanager: str
    prometheus: Prometheus | None
    stack: ExitStack
    sources: dict[str, Path] = field(default_factory=dict)

    def play(self, cases: Sequence[tuple[str, Case]], *, mortal: Case) -> None:
        """Start a container of each case on the engine of that kind, several at once.  All but
        ``mortal`` are started again with their engine.
        """
        played = [(kind, self.engines[kind].image(*case.changes), case) for kind, case in cases]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: self._run(*each, again=each[2] is not mortal), played))

    def _run(self, kind: str, image: str, case: Case, *, again: bool) -> None:
        source, name = case.scene(self.lab), self.named(kind, case)
        self.sources[name] = source
        if case.scene is immutable:
            self.stack.callback(subprocess.run, ["chattr", "-i", source], check=True)
        options = [o.replace("{}", str(source)) for o in case.options]
        options += ["--stop-signal=KILL", *(["--restart=always"] if again else [])]
        self.engines[kind].run(*options, image=image, command=case.command, name=name)

    def remove(self, cases: Iterable[tuple[str, Case]]) -> None:
        names: dict[str, list[str]] = {}
        for kind, case in cases:
            names.setdefault(kind, []).append(self.named(kind, case))
        for kind, those in names.items():
            self.engines[kind].docker_process("rm", "-f", *those)

    def named(self, kind: str, case: Case) -> str:
        """What a case's container is called."""
        return f"{kind}-{CASES.index(case)}"

    # -- what is, and who says what ---------------------------------------------------------

    def truth(self, *kinds: str) -> Counter[Finding]:
        """What ``check`` finds in everything that runs there, or why it does not."""
        hosts = tuple(self.hosts[kind] for kind in kinds or self.hosts)
        result = check(CheckRequest(all=True, hosts=hosts))
        if result.failed:
            return Counter(Finding(Row(f.name, "", f.reason), "") for f in result.failed)
        return Counter(
            Finding(Row(r.container.name, f.code, printable(_target(f))), f.severity.name.lower())
            for r in result.reports
            for f in r.findings
        )

    def found(self, *kinds: str) -> Counter[Finding]:
        """What the service has found there."""
        hosts = [self.hosts[kind] for kind in kinds or self.hosts]
        return Counter(
            Finding(_row(f), f["severity"]) for f in self.findings() if f["engine"] in hosts
        )

    def findings(self) -> list[dict[str, Any]]:
        said = self.service.get("/v1/findings")
        assert said["left_out"] == 0
        found: list[dict[str, Any]] = said["findings"]
        return found

    def shown(self) -> set[Row]:
        """``permdoctor findings --format json``, without what is only worth knowing."""
        socket = f"{self.service.base}/status.sock"
        done = permdoctor("findings", "--format", "json", "--socket", socket)
        found = json.loads(done.stdout)["findings"]
        return {_row(f) for f in found if f["severity"] != "info"}

    def due(self) -> set[Row]:
        """What people should know of."""
        return {f.row for f in self.found() if f.severity != "info"}

    def settle(self, *kinds: str) -> None:
        """Until the service says what is so."""
        until(
            lambda: self.found(*kinds) == self.truth(*kinds),
            seconds=90,
            say=lambda: f"{self._wrong()}\n{self.service.log[-4000:]}",
        )

    def _wrong(self) -> str:
        found, truth = self.found(), self.truth()
        return f"too much: {dict(found - truth)}, missing: {dict(truth - found)}"

    # -- who is told ------------------------------------------------------------------------

    def at_webhook(self, status: str) -> Counter[Row]:
        """How often its receiver was told so; each message counts once."""
        told = {r.json["id"]: r.json["data"] for r in list(self.receiver.requests)}
        return Counter(_row(d) for d in told.values() if d["status"] == status)

    def at_alertmanager(self) -> set[Row]:
        url = f"{self.alertmanager}/api/v2/alerts?active=true"
        with urllib.request.urlopen(url, timeout=60) as response:
            return {_row(alert["labels"]) for alert in json.load(response)}

    def at_prometheus(self) -> Counter[Finding]:
        return Counter(
            {
                Finding(_row(labels), labels["severity"]): int(value)
                for labels, value in self._asked("permdoctor_findings")
            }
        )

    def rule_fires_for(self) -> set[Row]:
        """The alert rule that ships."""
        query = 'ALERTS{alertname="PermdoctorFinding", alertstate="firing"}'
        return {_row(labels) for labels, _ in self._asked(query)}

    def _asked(self, query: str) -> list[tuple[dict[str, str], str]]:
        assert self.prometheus is not None
        try:
            found = self.prometheus.api(f"query?query={quote(query)}")["result"]
        except OSError:
            return []  # it has only begun
        return [(each["metric"], each["value"][1]) for each in found]


def verified(request: Request) -> bool:
    """Whether it is signed as Standard Webhooks are, just now."""
    id_, stamp, signature = (
        request.headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
    )
    content = f"{id_}.{stamp}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(SECRET.encode(), content, "sha256")).decode()
    return signature == f"v1,{expected}" and abs(time.time() - int(stamp)) < 120


def _target(of: Reported) -> bytes:
    return of.path if of.target is None else of.target


def _row(of: Mapping[str, Any]) -> Row:
    return Row(of["container"], of["code"], of.get("target", ""))
