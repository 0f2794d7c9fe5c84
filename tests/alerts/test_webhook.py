"""The webhook's envelope against CloudEvents' schema, its signature against another's HMAC."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from permdoctor import config
from permdoctor.alerts import webhook
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import MAX_TEXT, SCHEMA_FILE, alert_json, schema_text
from permdoctor.alerts.sink import RetryError, sinks_of
from permdoctor.errors import UsageError

from .build import alert, resolved
from .receiver import Receiver, answer, receiving

SHIPPED = Path(webhook.__file__).parent / SCHEMA_FILE

CLOUD_EVENT = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"type": "string", "minLength": 1, "format": "uri"},
        "subject": {"type": "string", "minLength": 1},
        "time": {
            "type": "string",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
        },
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
    "additionalProperties": False,
}
"""The rules of CloudEvents 1.0 (spec.md, formats/json-format.md)."""


def tell(receiver: Receiver, *alerts: Alert, secret: str = "") -> None:
    of = config.Webhook(url=f"{receiver.url}/hook", secret_env="KEY" if secret else "")
    (sink,) = sinks_of([of], {"KEY": secret})
    for one in alerts:
        sink.send([one])


@pytest.mark.parametrize("of", [alert(), resolved(alert())], ids=["firing", "resolved"])
def test_the_envelope(of: Alert) -> None:
    with receiving() as receiver:
        tell(receiver, of)
        (request,) = receiver.requests
    assert request.target == "/hook"
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    event = request.json
    jsonschema.validate(event, CLOUD_EVENT)
    assert event["id"] == of.id
    assert event["type"] == f"permdoctor.alert.{of.status}"
    jsonschema.validate(event["data"], json.loads(SHIPPED.read_text("utf-8")))
    assert "webhook-signature" not in request.headers


def test_the_shipped_schema_is_that_of_the_type() -> None:
    assert SHIPPED.read_text("utf-8") == schema_text()


@pytest.mark.parametrize(
    "change",
    [{"host": "a b/\udc80\ud800\u00e9"}, {"container": "x" * 9000}, {"engine": "tcp://[::1]:2375"}],
    ids=["no UTF-8", "long", "TCP"],
)
def test_names_that_are_hard_to_say(change: dict[str, Any]) -> None:
    from msgspec.structs import replace

    of = alert(detail=("y" * 9000,) * 500)
    of = replace(of, problem=replace(of.problem, **change))
    event = json.loads(json.dumps(webhook.envelope(of)))
    jsonschema.validate(event, CLOUD_EVENT)
    assert event["source"].isascii()
    assert len(alert_json(of)) < 40 * MAX_TEXT


def test_another_hmac_agrees() -> None:
    """OpenSSL computes it from what was received."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    key = b"\x01binary key\xff" * 2
    secret = f"whsec_{base64.b64encode(key).decode()}\nan old key of words"
    with receiving() as receiver:
        tell(receiver, alert(), secret=secret)
        (request,) = receiver.requests
    headers = request.headers
    assert headers["webhook-id"] == alert().id
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    expected = []
    for each in (key, b"an old key of words"):
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt",
             f"hexkey:{each.hex()}"],
            input=content, capture_output=True, check=True,
        )  # fmt: skip
        expected.append("v1," + base64.b64encode(done.stdout).decode())
    assert headers["webhook-signature"].split() == expected


def test_a_retry_is_signed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from permdoctor.alerts.secret import Secret

    first, second = (
        webhook.signed(Secret("key"), "id", stamp, b"{}")["webhook-signature"]
        for stamp in ("1", "2")
    )
    assert first != second


def test_a_key_that_is_none() -> None:
    of = config.Webhook(url="http://127.0.0.1/", secret_env="KEY")
    with pytest.raises(UsageError, match="no base64 follows") as raised:
        sinks_of([of], {"KEY": "whsec_!!s3cr3t!!"})
    assert "s3cr3t" not in str(raised.value)


def test_neither_the_path_nor_the_secret_is_shown() -> None:
    behave = answer(500, body=b"key s3cr3t-key is wrong")
    with receiving(behave) as receiver:
        of = config.Webhook(url=f"{receiver.url}/T0K3N?also=T0K3N", secret_env="KEY")
        (sink,) = sinks_of([of], {"KEY": "s3cr3t-key"})
        with pytest.raises(RetryError) as raised:
            sink.send([alert()])
    shown = f"{raised.value!r} {raised.value.__context__!r} {sink!r}"
    assert "s3cr3t" not in shown
    assert "T0K3N" not in shown
