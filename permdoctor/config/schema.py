"""The JSON schema of the configuration, for editors, and the texts that ship beside it.

Types and defaults come from the structs, descriptions from the comments of ``example.toml``: each
key stands there once, below what it means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec

from permdoctor.config.lines import Key
from permdoctor.config.tables import Config

SCHEMA_FILE = "config.schema.json"
EXAMPLE_FILE = "example.toml"
VERSION = 1

_HEADER = re.compile(r"\[\[?([a-z_.]+)\]")
_KEY = re.compile(r"([a-z_]+) = ")
_DATES = [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]


def shipped(name: str) -> str:
    """The text of one of the two files, from the package."""
    return files("permdoctor.config").joinpath(name).read_text("utf-8")


def schema_text() -> str:
    """What ``config.schema.json`` has to be."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:permdoctor:config:{VERSION}",
        "title": "permdoctor configuration",
        **msgspec.json.schema(Config),
    }
    tables = _tables(schema["$defs"])
    for key, text in described(shipped(EXAMPLE_FILE)):
        *table, name = key
        tables[tuple(table)][str(name)]["description"] = text
    _expiry(schema["$defs"]["Ignore"]["properties"]["expires"])
    return json.dumps(schema, indent=2) + "\n"


def described(example: str) -> Iterator[tuple[Key, str]]:
    """Each key of the example, also of its commented tables, with the comment above it."""
    table: Key = ()
    comment: list[str] = []
    for line in uncommented(example):
        if header := _HEADER.match(line):
            table = tuple(header[1].split("."))
            comment = []
        elif key := _KEY.match(line):
            yield (*table, key[1]), " ".join(comment)
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:].strip())
        else:
            comment = []


def uncommented(example: str) -> Iterator[str]:
    """The lines of the example with its commented tables made real: each goes from its header to
    the next line that is no comment.
    """
    table = False
    for line in example.splitlines():
        table = line.startswith("# [[") or (table and line.startswith("#"))
        yield line[2:] if table else line


def _tables(defs: dict[str, Any]) -> dict[Key, dict[str, Any]]:
    """The properties of each table, by its key."""
    found: dict[Key, dict[str, Any]] = {}
    waiting: list[tuple[Key, str]] = [((), "Config")]
    for key, name in waiting:
        if "properties" not in defs[name]:
            continue
        found[key] = defs[name]["properties"]
        for field, value in found[key].items():
            if at := re.search(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(value)):
                waiting.append(((*key, field), at[1]))
    return found


def _expiry(of: dict[str, Any]) -> None:
    """TOML has dates, and no null."""
    del of["default"]
    of["anyOf"] = _DATES
