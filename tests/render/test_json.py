"""The JSON output against the schema that ships, and the schema against the types."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from permdoctor.diagnosis.report import CheckResult, Report, Skipped
from permdoctor.render.json import SCHEMA_FILE, check_json, explanation_json, schema_text
from tests.render.builders import (
    HOSTILE,
    broken,
    container,
    explanation,
    hostile_explanation,
    hostile_report,
    remapped,
    report,
    result,
)

SHIPPED = importlib.resources.files("permdoctor.render").joinpath(SCHEMA_FILE)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SHIPPED.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_that_of_the_types() -> None:
    """Regenerate with ``python -m tests.render.test_json``."""
    assert SHIPPED.read_text("utf-8") == schema_text()


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(result(broken(), report()), id="findings"),
        pytest.param(result(), id="nothing"),
        pytest.param(result(report(subjects=(remapped(),), judged=False)), id="remapped"),
        pytest.param(result(failed=(Skipped(what="x", reason="gone", hint="look"),)), id="failed"),
        pytest.param(result(hostile_report()), id="hostile"),
    ],
)
def test_a_check_is_valid(validator: jsonschema.Draft202012Validator, of: CheckResult) -> None:
    validator.validate(json.loads(check_json(of)))


@pytest.mark.parametrize("of", [explanation(), hostile_explanation()], ids=["plain", "hostile"])
def test_an_explanation_is_valid(validator: jsonschema.Draft202012Validator, of: Any) -> None:
    validator.validate(json.loads(explanation_json(of, "0.1.0")))


@pytest.mark.parametrize(
    "broken_document",
    [
        pytest.param({"kind": "check"}, id="fields missing"),
        pytest.param({"schema": "permdoctor/2"}, id="another version"),
        pytest.param([], id="no object"),
    ],
)
def test_the_schema_can_refuse(
    validator: jsonschema.Draft202012Validator, broken_document: object
) -> None:
    assert not validator.is_valid(broken_document)


@pytest.mark.parametrize("at", ["worst", "findings", "subjects"])
def test_the_schema_asks_for_every_field(
    validator: jsonschema.Draft202012Validator, at: str
) -> None:
    document = json.loads(check_json(result(broken())))
    del document["reports"][0][at]
    assert not validator.is_valid(document)


def test_what_a_program_reads() -> None:
    document = json.loads(check_json(result(broken())))
    of = document["reports"][0]
    assert (document["schema"], document["kind"]) == ("permdoctor/1", "check")
    assert (of["container"]["name"], of["worst"]) == ("trainer", "error")
    assert of["subjects"][0]["uid"] == {"host": 1001, "inside": 1001}
    assert of["mounts"][0]["mode"] == "0755"
    found = of["findings"][0]
    assert (found["code"], found["name"], found["severity"]) == ("PD101", "write-refused", "error")
    assert found["verdict"]["errno"] == "EACCES"
    assert [s["rule"] for s in found["verdict"]["steps"]] == ["other-bits", "capability"]
    assert found["verdict"]["steps"][0] == {
        "rule": "other-bits",
        "outcome": "passes",
        "about": "",
        "want": "-w-",
        "has": "r-x",
        "mask": None,
        "id": None,
        "capabilities": [],
        "why": "",
        "text": "class other applies: r-x, asked for w: refused",
    }
    assert found["remedies"][0]["commands"] == ["chown 1001:1001 /home/model"]


def test_a_remapped_subject_has_both_numbers() -> None:
    document = json.loads(check_json(result(report(subjects=(remapped(1000),)))))
    assert document["reports"][0]["subjects"][0]["uid"] == {"host": 101_000, "inside": 1000}


def strings(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [s for each in value for s in strings(each)]
        case dict():
            return [s for k, each in value.items() for s in [k, *strings(each)]]
        case _:
            return []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(check_json(result(hostile_report())), id="check"),
        pytest.param(explanation_json(hostile_explanation(), "1"), id="explain"),
    ],
)
def test_hostile_names_stay_text(text: str) -> None:
    """Valid UTF-8, no control character even after decoding, and still to be told apart."""
    text.encode("utf-8")
    assert [s for s in strings(json.loads(text)) if not s.isprintable()] == []
    assert "\\x1b[31mred" in "".join(strings(json.loads(text)))


def test_a_lone_surrogate_of_an_engine_is_escaped() -> None:
    """JSON can carry what UTF-8 cannot."""
    of: Report = report(container=container("a\ud800b"))
    text = check_json(result(of))
    assert json.loads(text)["reports"][0]["container"]["name"] == "a\\ud800b"


def unescape(shown: str) -> bytes:
    """What a program does that needs the name's bytes."""
    parts = re.split(r"(\\\\|\\x..|\\u....|\\U........)", shown)
    return b"".join(_part(p) for p in parts)


def _part(part: str) -> bytes:
    match part[:2]:
        case "\\\\":
            return b"\\"
        case "\\x":
            return bytes([int(part[2:], 16)])
        case "\\u" | "\\U":
            return chr(int(part[2:], 16)).encode("utf-8")
        case _:
            return part.encode("utf-8")


def test_escaping_is_reversible() -> None:
    document = json.loads(check_json(result(hostile_report())))
    assert unescape(document["reports"][0]["findings"][0]["samples"][0]) == HOSTILE


def test_json_imports_no_rich() -> None:
    code = "import sys, permdoctor.render.json; print([m for m in sys.modules if 'rich' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    from pathlib import Path

    Path(str(SHIPPED)).write_text(schema_text(), "utf-8")
