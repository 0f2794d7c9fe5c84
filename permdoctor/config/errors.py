"""What msgspec says of a wrong value, made into a file, a line, a key and a suggestion.

Apart from ``files.py`` because it is only needed, and only imported, when something is wrong.
"""

from __future__ import annotations

import difflib
import enum
import re
import typing
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

_ERROR = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<at>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<key>.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<key>.*)`$", re.DOTALL)

Key = tuple[str | int, ...]


def explained(message: str, declared: type[msgspec.Struct], text: str, shown: str) -> UsageError:
    """The error to raise for msgspec's ``message`` about ``text``, the content of ``shown``."""
    match = _ERROR.match(message)
    assert match is not None
    what, at = match["what"], _key(match["at"] or "")
    hint = None
    if unknown := _UNKNOWN.search(what):
        known = _fields(declared, at)
        at = (*at, unknown["key"])
        near = difflib.get_close_matches(unknown["key"], known, 1)
        what = "no such key"
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    elif missing := _MISSING.search(what):
        what = f"{missing['key']} is missing"
    elif values := _values(_type_at(declared, at)):
        what = f"expected one of {', '.join(values)}"
    else:
        what = what[:1].lower() + what[1:].replace("`", "")
        what = what.replace("str matching regex '^/'", "an absolute path")
    return UsageError(f"{shown}:{_line(text, at)}: {_dotted(at)}: {what}", hint=hint)


def _key(at: str) -> Key:
    """``.need[0].path`` as ``("need", 0, "path")``."""
    return tuple(
        int(part[1:-1]) if part[0] == "[" else part[1:]
        for part in re.findall(r"\.[A-Za-z0-9_-]+|\[\d+\]", at)
    )


def _dotted(key: Key) -> str:
    """The key as a person would name it: ``need[2].path`` for the second ``[[need]]``."""
    parts = (f"[{p + 1}]" if isinstance(p, int) else "." + printable(p) for p in key)
    return "".join(parts).lstrip(".")


def _type_at(declared: type[msgspec.Struct], key: Key) -> Any:
    """The declared type of a key."""
    at: Any = declared
    for part in key:
        if isinstance(part, int):
            at = typing.get_args(at)[0]
        elif isinstance(at, type) and issubclass(at, msgspec.Struct):
            at = typing.get_type_hints(at).get(part, Any)
    return at


def _fields(declared: type[msgspec.Struct], key: Key) -> list[str]:
    return [f.encode_name for f in msgspec.structs.fields(_type_at(declared, key))]


def _values(declared: Any) -> tuple[str, ...]:
    if typing.get_origin(declared) is Literal:
        return tuple(str(v) for v in typing.get_args(declared))
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        return tuple(str(v.value) for v in declared)
    return ()


_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\s\"']+?)\s*\]")
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z0-9_\-.\"' ]+?)\s*=")


def _line(text: str, key: Key) -> int:
    """The line (from 1) where a key stands, or the nearest of its tables that has one."""
    lines = {at: number for number, at in reversed(list(_keys(text)))}
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _keys(text: str) -> Iterator[tuple[int, Key]]:
    """Every table header and assignment with its line.  Values over several lines may look like
    keys of their own; they are then keys that nobody asks for.
    """
    table: Key = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            names = _names(header[2])
            if header[1] == "[[":
                dotted = ".".join(names)
                counts[dotted] = counts.get(dotted, -1) + 1
                table = (*names, counts[dotted])
            else:
                table = names
            yield number, table
        elif assignment := _ASSIGNMENT.match(line):
            names = _names(assignment[1])
            for depth in range(1, len(names) + 1):
                yield number, (*table, *names[:depth])


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
