"""The configuration that holds, as TOML again, with the origin of each value if wanted.

What may carry a secret is not shown: of URLs only scheme and host (many hooks have a token in
their path), of programs no arguments.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import fields

from permdoctor.config.lines import Key
from permdoctor.config.merge import Origin
from permdoctor.config.tables import Config

HIDDEN = "***"

_CREDENTIALS = re.compile(r"(?<=//)[^/@]*:[^/@]*(?=@)")
_SHORT = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}

Origins = Mapping[Key, tuple[Origin, ...]]


def as_toml(config: Config, origins: Origins | None = None) -> str:
    """A complete configuration file.  With ``origins`` each value has a comment on where it was
    set, the place that holds first.
    """
    return "\n".join(_table(config, (), "", origins)).lstrip("\n") + "\n"


def _table(table: Struct, key: Key, name: str, origins: Origins | None) -> Iterator[str]:
    below: list[tuple[str, Any]] = []
    for field in fields(table):
        value = getattr(table, field.name)
        if _is_table(value):
            below.append((field.name, value))
        elif value is not None:
            told = "" if origins is None else _told(origins.get((*key, field.name), ()))
            shown = value if value == field.default else _hidden(field.name, value)
            yield f"{field.name} = {_value(shown)}{told}"
    for child, value in below:
        full = f"{name}.{child}" if name else child
        if isinstance(value, Struct):
            yield from ("", f"[{full}]")
            yield from _table(value, (*key, child), full, origins)
            continue
        for index, each in enumerate(value):
            yield from ("", f"[[{full}]]")
            yield from _table(each, (*key, child, index), full, origins)


def _is_table(value: Any) -> bool:
    """What has a header of its own; an empty array of tables is a value like others."""
    return isinstance(value, Struct) or (
        isinstance(value, tuple) and bool(value) and isinstance(value[0], Struct)
    )


def _told(places: tuple[Origin, ...]) -> str:
    if not places:
        return "  # default"
    *before, last = (f"{p.file}:{p.line}" for p in places)
    return f"  # {last}" + (f", not {', '.join(before)}" if before else "")


def _hidden(name: str, value: Any) -> Any:
    match name, value:
        case "url", str():
            return _url(value)
        case "urls", tuple():
            return tuple(map(_url, value))
        case "hosts", tuple():
            return tuple(_CREDENTIALS.sub(HIDDEN, v) for v in value)
        case "argv", tuple() if len(value) > 1:
            return (value[0], HIDDEN)
        case _:
            return value


def _url(url: str) -> str:
    try:
        at = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://{HIDDEN}"
    bare = at.path in ("", "/") and not (at.query or at.fragment)
    return f"{at.scheme}://{at.netloc}{at.path if bare else '/' + HIDDEN}"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case enum.Enum():
            return _value(value.value)
        case str():
            return f'"{"".join(map(_character, value))}"'
        case datetime.datetime():
            return value.isoformat()
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return repr(value)


def _character(c: str) -> str:
    """https://toml.io/en/v1.0.0#string; and nothing that a terminal would not show."""
    if c in _SHORT:
        return _SHORT[c]
    if c == " " or c.isprintable():
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
