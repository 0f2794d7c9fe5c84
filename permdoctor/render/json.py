"""Results as ``permdoctor/1`` JSON.  ``document.py`` holds the types, ``convert.py`` fills them,
``report.schema.json`` ships their schema.  Imports no rich.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from permdoctor.diagnosis.explanation import Explanation
from permdoctor.diagnosis.report import CheckResult
from permdoctor.render import document as doc
from permdoctor.render.convert import check_document, explanation_document

SCHEMA_FILE: Final = "report.schema.json"
SCHEMA_ID: Final = "urn:permdoctor:report:1"


def check_json(result: CheckResult) -> str:
    """``permdoctor check --format json``."""
    return _encode(check_document(result))


def explanation_json(of: Explanation, version: str) -> str:
    """``permdoctor explain --format json``; ``version`` is permdoctor's."""
    return _encode(explanation_document(of, version))


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what this module writes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "permdoctor report, version 1",
        **msgspec.json.schema(doc.Document),
    }


def schema_text() -> str:
    """What ``report.schema.json`` holds."""
    return _encode(schema())


def _encode(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8") + "\n"
