"""Several engines: one name on two of them, and two names of one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.app.check import CheckRequest, check
from permdoctor.app.configuration import concerns
from permdoctor.app.engines import AmbiguousNameError
from permdoctor.app.explain import explain
from permdoctor.app.fix import fixing
from permdoctor.app.request import FixRequest
from permdoctor.config import Config, Engines
from permdoctor.container.container import EngineInfo
from permdoctor.daemon.claims import PATIENCE, Claims
from permdoctor.errors import UsageError
from permdoctor.render.table import table
from tests.daemon.engine import StandIn
from tests.daemon.scene import REFUSED, Actor, cast
from tests.daemon.service import Service
from tests.lab.lab import Lab
from tests.lab.patience import until


@pytest.fixture(scope="module")
def actors(lab: Lab) -> Iterator[tuple[Actor, Actor]]:
    with cast(lab) as pair:
        yield pair


@pytest.fixture
def engines(tmp_path: Path, actors: tuple[Actor, Actor]) -> Iterator[tuple[StandIn, StandIn]]:
    """``twin`` runs on both: the second one's may write, the first one's may not."""
    with StandIn(tmp_path / "a.sock") as first, StandIn(tmp_path / "b.sock") as second:
        first.start(first.add("twin", actors[0].pid, mounts=actors[0].mounts))
        second.start(second.add("single", actors[1].pid, mounts=actors[1].mounts))
        second.start(second.add("twin", actors[1].pid, mounts=actors[1].mounts))
        yield first, second


def hosts(engines: tuple[StandIn, ...]) -> tuple[str, ...]:
    return tuple(e.host for e in engines)


# --- one name, two containers ---


def test_both_are_shown(engines: tuple[StandIn, StandIn]) -> None:
    result = check(CheckRequest(names=("twin",), hosts=hosts(engines)))
    assert [r.container.engine.endpoint for r in result.reports] == list(hosts(engines))
    first, second = [x.text for x in table(result) if x.text.startswith("twin")]
    assert first.startswith(f"twin on {engines[0].host}: 1 error")
    assert second.startswith(f"twin on {engines[1].host}: ok")


def test_one_that_fails_does_not_hide_the_other(engines: tuple[StandIn, StandIn]) -> None:
    (twin,) = engines[0].containers.values()
    twin.pid = 1 << 30
    result = check(CheckRequest(names=("twin",), hosts=hosts(engines)))
    assert [r.container.engine.endpoint for r in result.reports if r.judged] == [engines[1].host]


def test_an_id_is_one_container(engines: tuple[StandIn, StandIn]) -> None:
    """But who is called like the beginning of one goes before it."""
    (twin,) = engines[0].containers.values()
    twin.id = "ab" * 32
    engines[0].containers = {twin.id: twin}
    for asked in (twin.id, twin.id[:12]):
        result = check(CheckRequest(names=(asked,), hosts=hosts(engines)))
        assert [r.container.id for r in result.reports] == [twin.id]
    engines[1].start(engines[1].add(twin.id[:12], twin.pid, mounts=twin.mounts))
    result = check(CheckRequest(names=(twin.id[:12],), hosts=hosts(engines)))
    assert [r.container.name for r in result.reports] == [twin.id[:12]]


@pytest.mark.parametrize("command", ["explain", "fix"])
def test_what_is_for_one_asks_which(engines: tuple[StandIn, StandIn], command: str) -> None:
    def ask(names: tuple[str, ...]) -> None:
        if command == "explain":
            explain(container="twin", pid=None, path=b"/data", hosts=names)
            return
        with fixing(FixRequest(name="twin", hosts=names)):
            pass

    with pytest.raises(AmbiguousNameError) as raised:
        ask(hosts(engines))
    first, second = hosts(engines)
    assert raised.value.message == f"2 engines have a container twin: {first}, {second}"
    assert raised.value.hint == f"say which: --host {first}"
    ask((first,))


def test_nobody_knows_it(engines: tuple[StandIn, StandIn]) -> None:
    with pytest.raises(UsageError, match="no container is called nobody on any of 2 engines"):
        check(CheckRequest(names=("nobody",), hosts=hosts(engines)))


def test_both_through_the_service(engines: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    service = Service(tmp_path / "service", *hosts(engines)).start()
    try:
        until(lambda: service.findings() == {("twin", REFUSED)}, say=lambda: service.log)
        document = service.get("/v1/check/twin")
        assert [r["container"]["engine"] for r in document["reports"]] == list(hosts(engines))
    finally:
        service.stop()


# --- two names, one engine ---


def test_a_symlink_is_no_other_engine(engines: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    (tmp_path / "link.sock").symlink_to(engines[0].path)
    names = (engines[0].host, str(tmp_path / "link.sock"))
    assert len(check(CheckRequest(names=("twin",), hosts=names)).reports) == 1
    assert len(check(CheckRequest(all=True, hosts=names)).reports) == 1
    config = Config(engines=Engines(hosts=names))
    assert list(concerns(config)) == [
        f"engines.hosts: {names[1]} is {names[0]} once more: the engine is asked once"
    ]


@pytest.fixture
def two_doors(engines: tuple[StandIn, StandIn]) -> tuple[StandIn, StandIn]:
    """Of one engine."""
    first, second = engines
    first.id = second.id = "ABCD:1234"
    second.containers = first.containers
    return engines


def test_two_sockets_of_one_engine(two_doors: tuple[StandIn, StandIn]) -> None:
    names = hosts(two_doors)
    assert len(check(CheckRequest(names=("twin",), hosts=names)).reports) == 1
    assert len(check(CheckRequest(all=True, hosts=names)).reports) == 1
    explain(container="twin", pid=None, path=b"/data", hosts=names)


def test_they_are_watched_once(two_doors: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    (tmp_path / "link.sock").symlink_to(two_doors[0].path)
    service = Service(tmp_path / "service", *hosts(two_doors), str(tmp_path / "link.sock")).start()
    try:
        until(lambda: service.log.count("an engine has two names") == 2, say=lambda: service.log)
        until(lambda: service.findings() == {("twin", REFUSED)}, say=lambda: service.log)
        (engine,) = service.get("/v1/status")["engines"]
        assert engine["endpoint"] == two_doors[0].host
        assert service.log.count("problem found") == 1
    finally:
        service.stop()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def info(id_: str = "A", pid: int | None = 7) -> EngineInfo:
    return EngineInfo(endpoint="unix:///x", id=id_, pid=pid)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(info("A"), info("B"), id="another id"),
        pytest.param(info(), info(pid=8), id="who says so is another process"),
        pytest.param(info(""), info(""), id="engines without one"),
    ],
)
def test_engines_that_are_two(first: EngineInfo, second: EngineInfo) -> None:
    claims = Claims(Clock())
    assert (claims.claim(first, "a"), claims.claim(second, "b")) == ("", "")


def test_the_first_name_has_it_while_it_answers() -> None:
    """The other one takes its place when it does not come back, though the engine is there."""
    clock = Clock()
    claims = Claims(clock)
    assert (claims.claim(info(), "a"), claims.claim(info(), "b")) == ("", "a")
    claims.leave("a")
    clock.now += 3600
    assert claims.claim(info(), "b") == "a", "the engine was away, too"
    clock.now += PATIENCE - 1
    assert claims.claim(info(), "b") == "a"
    assert claims.claim(info(), "a") == "", "it is back"
    claims.leave("a")
    assert claims.claim(info(), "b") == "a"
    clock.now += PATIENCE
    assert (claims.claim(info(), "b"), claims.claim(info(), "a")) == ("", "b")


def test_who_was_named_first_is_waited_for() -> None:
    claims = Claims(Clock())
    claims.expect(("a", "b"))
    said: list[str] = []
    later = threading.Thread(target=lambda: said.append(claims.claim(info(), "b")))
    later.start()
    assert claims.claim(info(), "a") == ""
    claims.tried("a")
    later.join(60)
    assert said == ["a"]


def test_a_name_that_is_given_up_holds_nothing() -> None:
    claims = Claims(Clock())
    claims.expect(("a", "b"))
    claims.tried("a")
    assert claims.claim(info(), "a") == ""
    claims.expect(("b",))
    assert claims.claim(info(), "b") == ""
