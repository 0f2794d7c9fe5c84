"""``docs/alerts.md``: what it says is so, and its receiver takes what is sent."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from permdoctor import config
from permdoctor.alerts import alertmanager, journald, pagerduty, webhook
from permdoctor.alerts.document import MAX_LINES, MAX_TEXT, schema_text
from permdoctor.alerts.secret import Secret
from permdoctor.alerts.sink import sinks_of
from tests.daemon.test_metrics import full

from .build import alert
from .receiver import Request, receiving

MANUAL = Path(__file__).parent.parent.parent / "docs" / "alerts.md"
SECRET = "whsec_" + base64.b64encode(b"\x00key\xff" * 5).decode()

Verify = Callable[[dict[str, str], bytes, str], bool]


def section(title: str) -> str:
    """What stands under a heading, up to the next one as high."""
    text = MANUAL.read_text("utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.M | re.S)
    assert found is not None, title
    return found[2]


def rows(title: str) -> list[list[str]]:
    """The cells of its table, without the head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def block(title: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", section(title), re.S)
    assert found is not None
    return found[1]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


@pytest.fixture(scope="module")
def verified() -> Verify:
    """The receiver that the page shows."""
    scope: dict[str, Any] = {}
    exec(block("The signature", "python"), scope)
    return scope["verified"]  # type: ignore[no-any-return]


def sent(secret: str) -> Request:
    with receiving() as receiver:
        (sink,) = sinks_of([config.Webhook(url=receiver.url, secret_env="KEY")], {"KEY": secret})
        sink.send([alert(title="h\u00e9 \U0001f600")])
        return receiver.requests[0]


@pytest.mark.parametrize(
    ("secret", "theirs", "taken"),
    [
        pytest.param(SECRET, SECRET, True, id="the same"),
        pytest.param(f"whsec_{'A' * 43}=\n{SECRET}", SECRET, True, id="the key is being changed"),
        pytest.param(f"whsec_{'A' * 43}=", SECRET, False, id="another key"),
        pytest.param("some words", SECRET, False, id="a key of words"),
    ],
)
def test_its_receiver(verified: Verify, secret: str, theirs: str, taken: bool) -> None:
    request = sent(secret)
    assert verified(request.headers, request.body, theirs) is taken


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"body": b"{}"}, id="another body"),
        pytest.param({"webhook-id": "x"}, id="another id"),
        pytest.param({"webhook-timestamp": str(int(time.time()) - 9)}, id="another time"),
    ],
)
def test_its_receiver_takes_nothing_else(verified: Verify, change: dict[str, Any]) -> None:
    request = sent(SECRET)
    body = change.get("body", request.body)
    assert not verified(request.headers | change, body, SECRET)


def test_its_receiver_takes_nothing_old(verified: Verify) -> None:
    stamp = str(int(time.time()) - 400)
    assert not verified(webhook.signed(Secret(SECRET), "id", stamp, b"{}"), b"{}", SECRET)


def test_the_key_that_it_makes(verified: Verify, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    file = tmp_path / "webhook.key"
    line = block("The signature", "sh").replace("/etc/permdoctor/webhook.key", str(file))
    subprocess.run(["sh", "-ec", line], check=True)
    with receiving() as receiver:
        (sink,) = sinks_of([config.Webhook(url=receiver.url, secret_file=str(file))], {})
        sink.send([alert()])
        (request,) = receiver.requests
    assert verified(request.headers, request.body, file.read_text().strip())


def test_its_fields_are_the_schema_s() -> None:
    fields = {name for row in rows("The alert as JSON") for name in named(row[0])}
    properties = json.loads(schema_text())["$defs"]["AlertDocument"]["properties"]
    assert fields == set(properties)
    text = section("The alert as JSON")
    assert f"{MAX_TEXT} characters a string" in text
    assert f"{MAX_LINES} lines a list" in text


def test_its_envelope() -> None:
    example, real = json.loads(block("Webhooks", "json")), webhook.envelope(alert())
    assert list(example) == list(real)
    constant = ("specversion", "source", "type", "time", "datacontenttype", "dataschema")
    assert {k: example[k] for k in constant} == {k: real[k] for k in constant}
    assert re.fullmatch("[0-9a-f]{32}-[0-9]{13}-firing-0", example["id"])
    assert re.fullmatch("[0-9a-f]{32}-[0-9]{13}-firing-0", alert().id)


def test_its_names_are_those_of_the_sinks() -> None:
    of = alert(who="w")
    posted = alertmanager.posted(of, 0)
    labels = {name for row in rows("Alertmanager") for name in named(row[0])}
    assert labels == set(posted["labels"])  # type: ignore[call-overload]
    (annotations,) = re.findall("Annotations: (.*?)\\.", section("Alertmanager"), re.S)
    assert named(annotations) == set(posted["annotations"])  # type: ignore[call-overload]
    (details,) = re.findall("`custom_details` holds(.*?)\\.", section("PagerDuty"), re.S)
    assert named(details) == set(pagerduty.event(of)["payload"]["custom_details"])  # type: ignore[index]
    assert journald.MESSAGE_ID in section("The journal")


def test_its_metrics_are_those_that_are_exported() -> None:
    exported = {}
    for family in text_string_to_metric_families(full().text().decode("utf-8")):
        if family.name.startswith("permdoctor_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            exported[name] = {key for s in family.samples for key in s.labels} - {"le"}
    assert {row[0].strip("`"): named(row[1]) for row in rows("Metrics")} == exported
