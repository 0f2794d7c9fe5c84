"""What is served in these tests, and the command in this process."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable

import jsonschema
import pytest
from msgspec.structs import replace

from permdoctor.alerts.counters import Counters
from permdoctor.cli.run import run
from permdoctor.daemon.shown import Facts
from permdoctor.daemon.state import State
from permdoctor.daemon.status import StatusServer
from permdoctor.diagnosis.report import Severity
from permdoctor.render import service_json
from permdoctor.render.service_json import View
from tests.daemon.states import NOW, alert, container, finding, state
from tests.render.builders import broken, result

USER, GROUP = 5000, 6000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FACTS = Facts(
    host="lab",
    started=NOW - 3600,
    sinks={"pager": Counters(sent=3, dropped=1)},
    waiting={"pager": 2},
    tells_from=Severity.WARNING,
)


def busy() -> State:
    return state(
        container("web", finding("PD302", Severity.INFO, title="New files belong to 33:33")),
        container(
            "trainer",
            finding("PD201", Severity.WARNING, "/data", title="/data: 3 entries", count=3),
            finding(remedies=("chown 1001:1001 /srv", "x"), detail=("owner 0:0",)),
            finding("PD204", Severity.WARNING, "/tmp", ignored="accepted by ops", title="open"),
        ),
        container("db", judged=False),
        firing=(alert(),),
        checking=1,
        watched=4,
    )


def broken_check(name: str, view: View) -> bytes:
    """What a worker answers."""
    one = broken()
    named = replace(one, container=replace(one.container, name=name))
    return service_json.checked(result(named), view)


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    """Of the answers' schema: made once, it takes longer than what it looks at."""
    return jsonschema.Draft202012Validator(service_json.schema())


def unexpected(name: str, view: View) -> bytes:
    raise AssertionError(name)


Serve = Callable[..., StatusServer]
Done = tuple[int, str, str]


def command(*args: str) -> Done:
    """permdoctor in this process: status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(list(args))
    return status, out.getvalue(), err.getvalue()
