"""The service's answers as ``permdoctor-service/1`` JSON, there and back.

``service_document.py`` holds the types, ``service.schema.json`` ships their schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from permdoctor.diagnosis.report import CheckResult, Severity
from permdoctor.render import service_document as doc
from permdoctor.render.document import CheckDoc, SeverityName
from permdoctor.render.explain import explain
from permdoctor.render.json import check_json
from permdoctor.render.layout import Line, Span, Style, one_line
from permdoctor.render.table import table

SCHEMA_FILE: Final = "service.schema.json"
SCHEMA_ID: Final = "urn:permdoctor:service:1"

NAMES: Final[dict[Severity, SeverityName]] = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
}


STYLES: Final = {s.value: s for s in Style}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """How a check is wanted: as its JSON document, or as lines for a person, laid out for
    ``width`` cells (``None``: for a pipe).
    """

    form: Literal["json", "table", "explain"] = "json"
    verbose: bool = False
    width: int | None = None


def encode(of: doc.Document | CheckDoc) -> str:
    return msgspec.json.format(msgspec.json.encode(of), indent=2).decode("utf-8") + "\n"


def decode(data: bytes) -> doc.Document | CheckDoc:
    """What a service says, of this version or a later one.  Raises ``msgspec.MsgspecError``."""
    decoder: msgspec.json.Decoder[doc.Document | CheckDoc] = msgspec.json.Decoder(
        doc.Document | CheckDoc
    )
    return decoder.decode(data)


def checked(result: CheckResult, as_: View) -> bytes:
    """A check's result, as it was wanted."""
    match as_.form:
        case "json":
            return check_json(result).encode("utf-8")
        case "table":
            lines = table(result, verbose=as_.verbose, width=as_.width)
        case "explain":
            lines = explain(result, width=as_.width)
    return encode(_view(result, lines)).encode("utf-8")


def lines_of(of: doc.ViewDoc) -> list[Line]:
    """The lines of a view; what a span may not hold is escaped here again."""
    return [
        Line(
            spans=tuple(
                Span(one_line(s.text), STYLES.get(s.style, Style.PLAIN)) for s in each.spans
            ),
            indent=each.indent,
            hang=each.hang,
            verbatim=each.verbatim,
        )
        for each in of.lines
    ]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what this module writes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "permdoctor service, version 1",
        **msgspec.json.schema(doc.Document),
    }


def schema_text() -> str:
    """What ``service.schema.json`` holds."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode("utf-8") + "\n"


def _line(of: Line) -> doc.LineDoc:
    return doc.LineDoc(
        spans=[doc.SpanDoc(text=s.text, style=s.style.value) for s in of.spans],
        indent=of.indent,
        hang=of.hang,
        verbatim=of.verbatim,
    )


def _view(result: CheckResult, lines: Iterable[Line]) -> doc.ViewDoc:
    worst = max((w for r in result.reports if (w := r.worst()) is not None), default=None)
    return doc.ViewDoc(
        schema=doc.SCHEMA,
        version=result.version,
        worst=None if worst is None else NAMES[worst],
        complete=not result.failed and all(r.judged for r in result.reports),
        lines=[_line(each) for each in lines],
    )
