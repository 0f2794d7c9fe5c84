"""PagerDuty's Events API v2, before a stand-in that validates by their documentation.

https://developer.pagerduty.com/docs/send-alert-event
"""

from __future__ import annotations

import json
import socket
from typing import Any

import jsonschema
import pytest

from permdoctor import config
from permdoctor.alerts import pagerduty
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.sink import RetryError, Sink, UndeliverableError, sinks_of
from permdoctor.diagnosis.report import Severity
from permdoctor.errors import UsageError

from .build import alert, resolved
from .receiver import Receiver, answer, receiving

KEY = "0123456789abcdef0123456789abcdef"

PAYLOAD = {
    "type": "object",
    "required": ["summary", "source", "severity"],
    "properties": {
        "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
        "source": {"type": "string", "minLength": 1},
        "severity": {"enum": ["critical", "warning", "error", "info"]},
        "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "component": {"type": "string"},
        "group": {"type": "string"},
        "class": {"type": "string"},
        "custom_details": {"type": "object"},
    },
    "additionalProperties": False,
}
EVENT = {
    "type": "object",
    "required": ["routing_key", "event_action"],
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
        "payload": PAYLOAD,
        "client": {"type": "string"},
        "client_url": {"type": "string"},
        "images": {"type": "array"},
        "links": {"type": "array"},
    },
    "additionalProperties": False,
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"required": ["dedup_key"]},
}
MAX_EVENT = 512 << 10


class PagerDuty:
    """Open incidents by ``dedup_key``, how often each was opened, and the events it refused."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.opened: list[str] = []
        self.refused: list[str] = []
        self.receiver: Receiver

    def behave(self, sock: socket.socket) -> None:
        request = self.receiver.requests[-1]
        try:
            assert len(request.body) <= MAX_EVENT
            assert request.target == "/v2/enqueue"
            jsonschema.validate(request.json, EVENT)
        except (AssertionError, jsonschema.ValidationError, json.JSONDecodeError) as e:
            self.refused.append(str(e))
            answer(400, body=b'{"status":"invalid event"}')(sock)
            return
        event: dict[str, Any] = request.json
        key = event["dedup_key"]
        if event["event_action"] == "resolve":
            self.open.pop(key, None)
        elif key not in self.open:
            self.open[key] = event["payload"]["severity"]
            self.opened.append(key)
        answer(202, body=b'{"status":"success"}')(sock)


def sink_at(receiver: Receiver, key: str = KEY) -> Sink:
    of = config.PagerDuty(url=f"{receiver.url}/v2/enqueue", routing_key_env="KEY")
    (sink,) = sinks_of([of], {"KEY": key})
    return sink


def test_an_incident_opens_once_and_closes() -> None:
    service = PagerDuty()
    with receiving(service.behave) as service.receiver:
        sink = sink_at(service.receiver)
        sink.send([alert()])
        sink.send([alert()])
        assert list(service.open) == service.opened == [alert().problem.fingerprint]
        sink.send([resolved(alert())])
        assert service.open == {}
        sink.send([alert(started=alert().started + 3600)])
        assert len(service.opened) == 2
    assert service.refused == []


@pytest.mark.parametrize("severity", list(Severity))
def test_severities(severity: Severity) -> None:
    service = PagerDuty()
    with receiving(service.behave) as service.receiver:
        sink_at(service.receiver).send([alert(severity=severity)])
    assert list(service.open.values()) == [severity.name.lower()]


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(alert(title="x" * 5000), id="a long title"),
        pytest.param(alert(detail=("\u00e9" * 5000,) * 1000), id="much detail"),
    ],
)
def test_what_is_too_long_is_cut(of: Alert) -> None:
    service = PagerDuty()
    with receiving(service.behave) as service.receiver:
        sink_at(service.receiver).send([of])
    assert service.refused == []


def test_a_wrong_event_is_for_good() -> None:
    service = PagerDuty()
    with (
        receiving(service.behave) as service.receiver,
        pytest.raises(UndeliverableError, match="invalid event"),
    ):
        sink_at(service.receiver, "too short").send([alert()])


@pytest.mark.parametrize("status", [200, 204, 429, 500])
def test_only_202_is_an_acceptance(status: int) -> None:
    behave = answer(status, "Retry-After: 9\r\n", f"key {KEY}".encode())
    with receiving(behave) as receiver, pytest.raises(RetryError) as raised:
        sink_at(receiver).send([alert()])
    assert raised.value.after == 9
    assert KEY not in f"{raised.value!r}{sink_at(receiver)!r}"


def test_the_key_does_not_go_in_clear() -> None:
    of = config.PagerDuty(url="http://events.example/v2/enqueue", routing_key_env="KEY")
    with pytest.raises(UsageError, match="in clear"):
        pagerduty.configured(of, {"KEY": KEY})
