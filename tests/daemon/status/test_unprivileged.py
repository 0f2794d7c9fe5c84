"""`permdoctor check` for who has not the rights: the service is asked."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import jsonschema
import pytest

from permdoctor.app import service
from permdoctor.app.check import CheckRequest, check
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.render import json as report_json
from permdoctor.render import service_json
from permdoctor.render.layout import plain
from permdoctor.render.service_json import View
from tests.acceptance.test_rights import as_user
from tests.cli.process import NO_ENGINE
from tests.daemon.status.served import GROUP, USER, Serve, as_root, broken_check, command
from tests.lab.engine import Engine
from tests.lab.lab import Lab
from tests.render.builders import broken, result


@pytest.fixture
def config(place: Path) -> str:
    file = place / "c.toml"
    file.write_text(f'[service]\nsocket = "{place}/s"\n[engines]\nhosts = ["{NO_ENGINE}"]\n')
    return str(file)


@as_root
@pytest.mark.parametrize("form", ["table", "explain", "json"])
def test_check_asks_the_service(serve: Serve, config: str, form: str) -> None:
    serve(answer=broken_check, group=str(GROUP))
    args = ("check", "trainer", "--config", config, "--format", form)
    assert command(*args)[0] == 3, "root looks itself"
    with contextlib.suppress(PermdoctorError):
        service.checked(config, "x", View())
    status, out, err = as_user(USER, GROUP, lambda: command(*args))
    assert err == f"permdoctor: uid {USER} may not look itself: this is the service's answer\n"
    assert status == 1
    direct = service_json.checked(result(broken()), View(form=form))  # type: ignore[arg-type]
    if form == "json":
        assert out == direct.decode()
    else:
        document = service_json.decode(direct)
        assert isinstance(document, service_json.doc.ViewDoc)
        assert out == plain(service_json.lines_of(document))
        assert "PD101" in out


@as_root
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--need", "/x=read"), id="a need of its own"),
        pytest.param(("--deep",), id="deep"),
        pytest.param(("--host", NO_ENGINE), id="another engine"),
    ],
)
def test_what_the_service_does_not_know_is_not_asked(
    serve: Serve, config: str, more: tuple[str, ...]
) -> None:
    serve(group=str(GROUP))
    args = ("check", "trainer", *more, "--config", config)
    command(*args)
    status, out, err = as_user(USER, GROUP, lambda: command(*args))
    assert status == 3
    assert "service" not in out + err


@as_root
def test_check_asks_the_service_for_each_of_several(serve: Serve, config: str) -> None:
    def answer(name: str, view: View) -> bytes:
        if name == "nosuch":
            raise UsageError("no container is called nosuch", hint="trainer")
        return broken_check(name, view)

    serve(answer=answer, group=str(GROUP))
    args = ("check", "trainer", "nosuch", "trainer", "--config", config)
    command(*args, "--format", "json")
    status, out, err = as_user(USER, GROUP, lambda: command(*args, "--format", "json"))
    document = json.loads(out)
    jsonschema.validate(document, report_json.schema())
    assert [r["container"]["name"] for r in document["reports"]] == ["trainer", "trainer"]
    assert "no container is called nosuch" in err
    assert status == 1
    status, out, _ = as_user(USER, GROUP, lambda: command(*args))
    assert (status, out.count("error PD101")) == (1, 2)
    alone = ("check", "nosuch", "--config", config)
    status, out, err = as_user(USER, GROUP, lambda: command(*alone))
    assert (status, out) == (2, "")
    assert err.startswith("permdoctor: no container is called nosuch\n")


@as_root
@pytest.mark.parametrize("served", [False, True], ids=["does not run", "not in the group"])
def test_without_the_service_the_refusal_is_as_before(
    serve: Serve, config: str, served: bool
) -> None:
    if served:
        serve(group=str(GROUP))
    args = ("check", "trainer", "--config", config)
    as_root_sees = command(*args)
    assert as_user(USER, USER, lambda: command(*args)) == as_root_sees


@pytest.mark.engine
def test_the_same_result_as_root_s(lab: Lab, dockerd: Engine, serve: Serve, place: Path) -> None:
    """A user of the engine cannot look into containers; the service can."""
    model = lab.directory(0, 0, 0o755)
    box = dockerd.run("-u", "1001:1001", "-v", f"{model}:/app/model", name="asked")
    (place / "c.toml").write_text(
        f'[service]\nsocket = "{place}/s"\n[engines]\nhosts = ["{dockerd.host}"]\n'
    )
    args = ("check", "asked", "--config", str(place / "c.toml"))

    def answer(name: str, view: View) -> bytes:
        request = CheckRequest(names=(name,), hosts=(dockerd.host,))
        return service_json.checked(check(request), view)

    group = os.stat(dockerd.socket).st_gid
    try:
        root_sees = command(*args)
        alone = as_user(USER, group, lambda: command(*args))
        serve(answer=answer, group=str(group))
        asked = as_user(USER, group, lambda: command(*args))
    finally:
        box.rm()
    assert root_sees[0] == 1
    assert alone[1].startswith("asked: not judged")
    assert asked[:2] == root_sees[:2]
