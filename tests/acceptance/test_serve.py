"""One service, and everything real: engines of every kind, a webhook receiver, an Alertmanager and
a Prometheus with the rules that ship.

Containers of the acceptance cases start while it runs.  Then engines are killed, and problems are
mended; at each step everybody must say what ``check`` says.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.stage import SECRET, Row, Stage, verified
from tests.acceptance.test_docker import CASES, Case
from tests.alerts import test_alertmanager
from tests.alerts.receiver import Receiver, answer, receiving
from tests.cli.process import permdoctor
from tests.daemon.service import Service
from tests.daemon.test_prometheus import Prometheus, free_port
from tests.lab.engine import Engine, start_docker, start_remapped, start_rootless
from tests.lab.lab import Lab
from tests.lab.needs import MissingError, need_tools
from tests.lab.patience import until
from tests.lab.podman import start_podman

pytestmark = pytest.mark.engine

TCP = free_port()

KINDS: dict[str, Callable[[Path, Path], Engine]] = {
    "plain": start_docker,
    "remapped": lambda base, image: start_remapped(base, image, [(165536, 65536)]),
    "rootless": start_rootless,
    "podman": start_podman,
    "tcp": lambda base, image: start_docker(
        base, image, f"--host=tcp://127.0.0.1:{TCP}", "--tls=false"
    ),
}


def case(beginning: str) -> Case:
    return next(c for c in CASES if c.id.startswith(beginning))


SAVE, GROUP, WORKERS, WELL = case("S4"), case("C1 label"), case("C11"), case("S1 ")
MORTAL = case("C14")
"""Not started again with its engine, as all the others are."""

AWAY = Row(container="", code="PD404", target="")

ANYWHERE = (SAVE, WORKERS, WELL)
REMAPPED = (*ANYWHERE, GROUP, case("C6"), case("C12"))
EACH = {c.codes: c for c in reversed(CASES)}.values()
"""One for whatever may be found."""

PLAYED = (
    *(("plain", c) for c in dict.fromkeys((*ANYWHERE, GROUP, MORTAL, *EACH))),
    *(("remapped", c) for c in REMAPPED),
    *((kind, c) for kind in ("rootless", "podman", "tcp") for c in ANYWHERE),
)


@pytest.fixture(scope="module")
def stage(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everybody there, and every container started after the service was."""
    base, port = tmp_path_factory.mktemp("serve"), free_port()
    with ExitStack() as stack:
        prometheus = start_prometheus(base, port, stack)
        alertmanager = start_alertmanager(base, stack)
        receiver = stack.enter_context(receiving(answer(200)))
        engines, absent = start_engines(lab, stack)
        if "plain" in absent:
            pytest.skip(absent["plain"])
        hosts = {kind: engine.host for kind, engine in engines.items()}
        if "tcp" in hosts:
            hosts["tcp"] = f"tcp://127.0.0.1:{TCP}"
        service = Service(
            base / "service",
            *hosts.values(),
            damp="2",
            listen=f"127.0.0.1:{port}",
            more=sinks(base, receiver, alertmanager),
        )
        stack.callback(service.stop, 60.0)
        service.start()
        until(lambda: connected(service) == len(hosts), say=lambda: service.log)
        made = Stage(
            lab=lab, engines=engines, hosts=hosts, absent=absent, service=service,
            receiver=receiver, alertmanager=alertmanager, prometheus=prometheus, stack=stack,
        )  # fmt: skip
        made.play([(kind, c) for kind, c in PLAYED if kind in engines], mortal=MORTAL)
        yield made


def start_engines(lab: Lab, stack: ExitStack) -> tuple[dict[str, Engine], dict[str, str]]:
    """Those that there are, and why there are no others."""
    engines: dict[str, Engine] = {}
    absent: dict[str, str] = {}
    pool = stack.enter_context(ThreadPoolExecutor(len(KINDS)))
    stack.callback(lambda: list(pool.map(lambda engine: engine.stop(), engines.values())))
    tarball = lab.image

    def start(kind: str) -> None:
        try:
            engines[kind] = KINDS[kind](lab.root / f"serve-{kind}", tarball)
        except MissingError as e:
            absent[kind] = str(e)

    list(pool.map(start, KINDS))
    return {kind: engines[kind] for kind in KINDS if kind in engines}, absent


def start_alertmanager(base: Path, stack: ExitStack) -> str:
    try:
        need_tools("prometheus-alertmanager")
    except MissingError:
        return ""
    (base / "alertmanager").mkdir()
    return stack.enter_context(test_alertmanager.running(base / "alertmanager"))


def start_prometheus(base: Path, port: int, stack: ExitStack) -> Prometheus | None:
    try:
        need_tools("prometheus")
    except MissingError:
        return None
    (base / "prometheus").mkdir()
    started = Prometheus(base / "prometheus", port)
    stack.callback(started.close)
    return started


def sinks(base: Path, receiver: Receiver, alertmanager: str) -> str:
    secret = base / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    text = f'[[alerts.webhook]]\nurl = "{receiver.url}/"\nsecret_file = "{secret}"\n'
    text += "per_minute = 6000\n"
    if alertmanager:
        text += f'[[alerts.alertmanager]]\nurls = ["{alertmanager}"]\nresend_seconds = 2\n'
        text += "per_minute = 6000\n"
    return text


def connected(service: Service) -> int:
    return service.log.count('event="engine connected"')


def everybody_says_so(stage: Stage) -> None:
    """The service what ``check`` says, and the others what the service says."""
    stage.settle()
    due = stage.due()
    until(lambda: set(open_at_webhook(stage)) == due, say=lambda: stage.service.log[-4000:])
    if stage.alertmanager:
        until(lambda: stage.at_alertmanager() == due)
    if stage.prometheus is not None:
        found = stage.found()
        until(lambda: stage.at_prometheus() == found)
        errors = {f.row for f in found if f.severity == "error"}
        until(lambda: stage.rule_fires_for() == errors)


def open_at_webhook(stage: Stage) -> Counter[Row]:
    return stage.at_webhook("firing") - stage.at_webhook("resolved")


@pytest.mark.parametrize("kind", KINDS)
def test_what_starts_is_judged_as_check_judges_it(kind: str, stage: Stage) -> None:
    if kind in stage.absent:
        pytest.skip(stage.absent[kind])
    stage.settle(kind)
    errors = {f.row for f in stage.found(kind) if f.severity == "error"}
    at = {(row.container, row.target) for row in errors}
    assert {(stage.named(kind, SAVE), "/app/model"), (stage.named(kind, WORKERS), "/data")} <= at
    assert stage.named(kind, WELL) not in {container for container, _ in at}


def test_everybody_is_told(stage: Stage) -> None:
    everybody_says_so(stage)
    assert stage.shown() == stage.due()
    assert all(verified(request) for request in stage.receiver.requests)
    assert set(stage.at_webhook("firing").values()) == {1}


def test_prometheus_and_alertmanager_took_part(stage: Stage) -> None:
    """Else the others of this file say less."""
    for tool in ("prometheus-alertmanager", "prometheus"):
        try:
            need_tools(tool)
        except MissingError as e:
            pytest.skip(str(e))
    assert stage.rule_fires_for()
    assert stage.at_alertmanager()


def test_engines_die_and_come_back(stage: Stage) -> None:
    """People are told that they are away; what ended and what was mended meanwhile is known, and
    the rest is not told anew.
    """
    stage.remove((kind, c) for kind, c in PLAYED if c not in (*ANYWHERE, GROUP, MORTAL))
    everybody_says_so(stage)
    mortal = [kind for kind in stage.engines if kind != "rootless"]
    before = connected(stage.service)
    told, resolved = stage.at_webhook("firing"), stage.at_webhook("resolved")
    over = rows_of(stage, "plain", GROUP) | rows_of(stage, "plain", MORTAL)
    assert len(over) == 2
    for kind in mortal:
        stage.engines[kind].kill(everything=kind == "plain")
    until(lambda: away(stage) == {stage.hosts[kind] for kind in mortal})
    until(lambda: open_at_webhook(stage)[AWAY] == len(mortal))
    os.chmod(stage.sources[stage.named("plain", GROUP)], 0o775)
    for kind in mortal:
        stage.engines[kind].revive()
    until(lambda: connected(stage.service) == before + len(mortal), say=lambda: stage.service.log)
    everybody_says_so(stage)
    assert stage.at_webhook("firing") - told == Counter({AWAY: len(mortal)})
    assert set(stage.at_webhook("resolved") - resolved) == over | {AWAY}


def test_what_is_mended_is_over_everywhere(stage: Stage) -> None:
    """By ``permdoctor fix``, and by an administrator who does what the finding says."""
    everybody_says_so(stage)
    over = set()
    for kind, host in stage.hosts.items():
        name = stage.named(kind, SAVE)
        over |= (rows := rows_of(stage, kind, SAVE))
        assert rows
        if kind in ("plain", "remapped"):
            source = str(stage.sources[name])
            words = ("fix", name, "--host", host, "--config", str(stage.service.config))
            done = permdoctor(*words, "--apply", "--yes", "--allow", source)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            findings = [f for f in stage.findings() if f["container"] == name]
            (line,) = {f["remedies"][0] for f in findings if f["severity"] == "error"}
            subprocess.run(["bash", "-c", line], check=True)
    everybody_says_so(stage)
    assert not over & stage.due()
    assert over <= set(stage.at_webhook("resolved"))


def rows_of(stage: Stage, kind: str, of: Case) -> set[Row]:
    return {row for row in stage.due() if row.container == stage.named(kind, of)}


def away(stage: Stage) -> set[str]:
    engines = stage.service.get("/v1/status")["engines"]
    return {e["endpoint"] for e in engines if not e["connected"]}
