"""Repairs as ``permdoctor-repair/1`` JSON.  ``repair_document.py`` holds the types,
``repair_convert.py`` fills them, ``repair.schema.json`` ships their schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from permdoctor.diagnosis.proposal import ChangedEntry, Past, Proposal, Result
from permdoctor.render import repair_document as doc
from permdoctor.render.repair_convert import (
    entry_document,
    history_document,
    past_document,
    repair_document,
)

SCHEMA_FILE: Final = "repair.schema.json"
SCHEMA_ID: Final = "urn:permdoctor:repair:1"


def repair_json(of: Proposal, result: Result | None, version: str) -> str:
    """``permdoctor fix`` and ``undo``; ``version`` is permdoctor's."""
    return _encode(repair_document(of, result, version))


def history_json(of: Iterable[Past], version: str) -> str:
    """``permdoctor history``."""
    return _encode(history_document(of, version))


def past_json(of: Past, entries: Iterable[ChangedEntry] | None, version: str) -> Iterator[str]:
    """``permdoctor history show``, in pieces: there may be a million entries."""
    whole = doc.OneDoc(
        schema=doc.SCHEMA,
        version=version,
        repair=past_document(of),
        entries=None if entries is None else [],
    )
    text = _encode(whole)
    if entries is None:
        yield text
        return
    head, _, tail = text.rpartition("[]")
    yield f"{head}["
    separator = "\n    "
    for each in entries:
        yield separator + msgspec.json.encode(entry_document(each)).decode("utf-8")
        separator = ",\n    "
    yield f"\n  ]{tail}"


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of what this module writes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "permdoctor repair, version 1",
        **msgspec.json.schema(doc.Document),
    }


def schema_text() -> str:
    """What ``repair.schema.json`` holds."""
    return _encode(schema())


def _encode(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8") + "\n"
