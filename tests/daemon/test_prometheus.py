"""The rules and the dashboard that ship, and a real Prometheus that reads our metrics."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from permdoctor.daemon.exporter import MetricsServer
from permdoctor.daemon.health import Health
from permdoctor.daemon.metrics import Metrics
from tests.daemon.states import container, finding, state
from tests.daemon.test_metrics import full
from tests.lab.needs import MissingError, need_tools

SYSTEMD = Path(__file__).parent.parent.parent / "systemd"
RULES = SYSTEMD / "prometheus" / "permdoctor.rules.yml"
UNIT_TESTS = SYSTEMD / "prometheus" / "permdoctor.test.yml"
DASHBOARD = json.loads((SYSTEMD / "grafana" / "permdoctor.json").read_text("utf-8"))

METRIC = re.compile(r"(?<![\w:])(permdoctor_\w+|process_\w+)")
RECORD = re.compile(r"^      - record: (\S+)$", re.M)
ALERT = re.compile(r"^      - alert: (\S+)$", re.M)
LABELS = re.compile(r"(permdoctor_\w+)\{([^}]*)\}")
BY = re.compile(r"\bby \(([^)]*)\)")


def existing() -> set[str]:
    """The names of the series that Prometheus will know."""
    lines = full().text().decode().splitlines()
    return {re.split(r"[{ ]", x)[0] for x in lines if not x.startswith("#")}


def known_labels() -> set[str]:
    text = full().text().decode()
    return set(re.findall(r'[{,](\w+)="', text)) | {"instance", "job"}


def expressions() -> list[tuple[str, str]]:
    """(panel, PromQL) of the dashboard."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    try:
        need_tools("promtool")
    except MissingError as e:
        pytest.skip(str(e))
    return subprocess.run(["promtool", *args], capture_output=True, text=True, check=False)


def test_the_rules_are_right() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_do_what_they_say() -> None:
    done = promtool("test", "rules", str(UNIT_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path) -> None:
    """The tests of the rules look at every alert: without its condition each one fails."""
    rules = RULES.read_text("utf-8")
    alerts = ALERT.findall(rules)
    tests = UNIT_TESTS.read_text("utf-8")
    assert [a for a in alerts if f"alertname: {a}\n" not in tests] == []
    assert [r for r in RECORD.findall(rules) if f"expr: {r}" not in tests] == []
    shutil.copy(UNIT_TESTS, tmp_path)
    broken = rules.replace(" == 0", " == 2").replace(" > 0", " < 0").replace(" == 1 ", " == 7 ")
    (tmp_path / RULES.name).write_text(broken.replace("> 1800", "> 180000000"))
    done = promtool("test", "rules", str(tmp_path / UNIT_TESTS.name))
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert [a for a in alerts if f"alertname: {a}," not in output] == []


def test_every_metric_of_the_rules_exists() -> None:
    text = re.sub(r"^ *#.*$", "", RULES.read_text("utf-8"), flags=re.M)
    exprs = re.findall(r"expr: (.*(?:\n {10,}\S.*)*)", text)
    assert len(exprs) == len(RECORD.findall(text)) + len(ALERT.findall(text))
    assert set(METRIC.findall(" ".join(exprs))) - existing() == set()


@pytest.mark.parametrize(("panel", "expr"), expressions())
def test_every_metric_and_label_of_the_dashboard_exists(panel: str, expr: str) -> None:
    names = METRIC.findall(expr)
    assert names
    assert set(names) <= existing()
    used = {m for _, inside in LABELS.findall(expr) for m in re.findall(r"(\w+)[=!]", inside)}
    used |= {label.strip() for group in BY.findall(expr) for label in group.split(",")}
    assert used <= known_labels()


def test_the_dashboard_shows_every_metric_that_says_how_it_is() -> None:
    """But for those that only help another one."""
    shown = set(METRIC.findall(json.dumps(DASHBOARD)))
    families = {re.sub(r"_(bucket|count|sum)$", "", n) for n in existing()}
    mine = {n for n in families if n.startswith("permdoctor_")}
    shown_families = {re.sub(r"_(bucket|count|sum)$", "", n) for n in shown}
    assert mine - shown_families == {
        "permdoctor_alerts_failing",
        "permdoctor_alerts_refused_total",
        "permdoctor_alerts_resent_total",
        "permdoctor_config_last_reload_success_timestamp_seconds",
        "permdoctor_findings_collapsed_series",
        "permdoctor_workers_lost_total",
    }


def test_the_dashboard_is_laid_out() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {v["name"] for v in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used - {"__rate_interval"} == variables


# --- a real one ---


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
        return port


class Prometheus:
    """It scrapes one port every quarter of a second, with our rules."""

    def __init__(self, directory: Path, target: int) -> None:
        rules = re.sub(r"^        for: .*\n", "", RULES.read_text("utf-8"), flags=re.M)
        (directory / "rules.yml").write_text(rules)
        (directory / "prometheus.yml").write_text(
            "global: {scrape_interval: 250ms, evaluation_interval: 250ms}\n"
            f"rule_files: [{directory}/rules.yml]\n"
            "scrape_configs:\n"
            "  - job_name: permdoctor\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
        )
        self._port = free_port()
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={directory}/prometheus.yml",
             f"--storage.tsdb.path={directory}/data",
             f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn",
             "--scrape.discovery-reload-interval=10ms"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=60
        ) as got:
            return json.load(got)["data"]

    def await_(self, path: str, seconds: float = 15.0) -> Any:
        """The first answer of an instant query that is not empty."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self.api(f"query?query={quote(path)}")["result"]
            except OSError:
                found = []
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return full()


@pytest.fixture(scope="module", autouse=True)
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, metrics: Metrics
) -> Iterator[Prometheus | None]:
    """``None`` where it is not installed.  It looks for its targets five seconds after its start,
    and meanwhile the tests that need none are run.
    """
    try:
        need_tools("prometheus")
    except MissingError:
        yield None
        return
    server = MetricsServer(("127.0.0.1", 0), metrics, Health())
    server.start()
    started = Prometheus(tmp_path_factory.mktemp("prometheus"), server.port)
    yield started
    started.close()
    server.close()


def test_a_real_prometheus_reads_it_and_alerts(
    prometheus: Prometheus | None, metrics: Metrics
) -> None:
    if prometheus is None:
        pytest.skip("needs prometheus: apt-get install prometheus")
    (up,) = prometheus.await_('up{job="permdoctor"} == 1')
    (found,) = prometheus.await_('permdoctor_findings{severity="error"}')
    assert found["value"][1] == "1"
    labels = {k: v for k, v in found["metric"].items() if k not in ("instance", "job", "__name__")}
    assert labels == {
        "container": "trainer", "target": "/app/model", "code": "PD101", "severity": "error"
    }  # fmt: skip
    assert prometheus.await_("instance_severity:permdoctor_findings:sum")
    assert prometheus.await_('ALERTS{alertname="PermdoctorFinding", alertstate="firing"}')
    assert prometheus.await_('ALERTS{alertname="PermdoctorEngineDisconnected"}')

    metadata = prometheus.api("targets/metadata?match_target=" + quote('{job="permdoctor"}'))
    types = {m["metric"]: m["type"] for m in metadata if m["metric"].startswith("permdoctor")}
    assert types["permdoctor_check_duration_seconds"] == "histogram"
    assert types["permdoctor_findings"] == "gauge"

    metrics.observe(state(container("trainer"), container("web", finding())))
    (other,) = prometheus.await_('permdoctor_findings{container="web"}')
    assert prometheus.await_('absent(permdoctor_findings{container="trainer"})')
    assert up["metric"]["instance"] == other["metric"]["instance"]
