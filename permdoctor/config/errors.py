"""Everything that is wrong with a configuration, each with its file, line, key and a suggestion.

msgspec stops at the first mistake; here each value is asked about on its own.  Only needed, and
only imported, when something is wrong.
"""

from __future__ import annotations

import datetime
import difflib
import enum
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from permdoctor.config.lines import Key, Lines, dotted
from permdoctor.errors import UsageError

MOST = 50
"""How many mistakes are told of; there may be a program that makes them."""


class Mistake(Struct, frozen=True, kw_only=True):
    """``key`` has this wrong with it; ``hint`` may be empty."""

    key: Key
    what: str
    hint: str = ""


class ConfigError(UsageError):
    """All of ``errors`` at once, at least two; ``message`` is one line for a log."""

    def __init__(self, errors: tuple[UsageError, ...]) -> None:
        super().__init__("; ".join(e.message for e in errors))
        self.errors = errors

    @property
    def lines(self) -> tuple[tuple[str, str | None], ...]:
        said = tuple((e.message, e.hint) for e in self.errors[:MOST])
        left = len(self.errors) - len(said)
        return (*said, (f"and {left} more mistakes", None)) if left else said


def together(errors: list[UsageError]) -> UsageError:
    """One error to raise for one or more."""
    return errors[0] if len(errors) == 1 else ConfigError(tuple(errors))


def explained(
    document: dict[str, Any], declared: type[Struct], text: str, shown: str
) -> list[UsageError]:
    """What is wrong with ``document``, which is ``text`` parsed, the content of file ``shown``."""
    lines = Lines(text)
    return [
        UsageError(
            f"{shown}:{lines.of(m.key)}: {dotted(m.key) + ': ' if m.key else ''}{m.what}",
            hint=m.hint or None,
        )
        for m in mistakes(document, declared)
    ]


def mistakes(value: Any, declared: Any, key: Key = ()) -> Iterator[Mistake]:
    """What of ``value`` does not fit the declared type.  Of a table or an array its own rules are
    asked about only when everything in it is right.
    """
    bare = typing.get_args(declared)[0] if _is_annotated(declared) else declared
    within: list[Mistake] = []
    if isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, Struct):
        within = list(_of_table(value, bare, key))
    elif isinstance(value, list) and typing.get_origin(bare) is tuple:
        element = typing.get_args(bare)[0]
        for index, each in enumerate(value):
            within += mistakes(each, element, (*key, index))
    if within:
        yield from within
        return
    try:
        msgspec.convert(value, declared)
    except msgspec.ValidationError as e:
        yield Mistake(key=key, what=_said(str(e), value, declared), hint=_meant(value, declared))


def _of_table(table: dict[str, Any], declared: type[Struct], key: Key) -> Iterator[Mistake]:
    fields = {f.encode_name: f for f in msgspec.structs.fields(declared)}
    types = typing.get_type_hints(declared, include_extras=True)
    meant: list[str] = []
    for name, value in table.items():
        if name in fields:
            yield from mistakes(value, types[fields[name].name], (*key, name))
            continue
        near = difflib.get_close_matches(name, fields, 1)
        meant += near
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
        yield Mistake(key=(*key, name), what="no such key", hint=hint)
    for name, field in fields.items():
        if field.required and name not in table and name not in meant:
            yield Mistake(key=key, what=f"{name} is missing")


def _said(message: str, value: Any, declared: Any) -> str:
    """msgspec's sentence in our words."""
    if values := _values(declared):
        return f"expected one of {', '.join(values)}"
    if isinstance(value, str) and (title := _title(declared)):
        return f"expected {title}"
    what = message.partition(" - at `$")[0]
    if not what.startswith("Expected `"):
        return what
    return what.replace("Expected", "expected").replace("`object`", "a table").replace("`", "")


def _meant(value: Any, declared: Any) -> str:
    """The nearest of the values that there are."""
    near = difflib.get_close_matches(value, _values(declared), 1) if isinstance(value, str) else ()
    return f"did you mean {near[0]}?" if near else ""


def _values(declared: Any) -> tuple[str, ...]:
    if typing.get_origin(declared) is Literal:
        return tuple(str(v) for v in typing.get_args(declared))
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        return tuple(str(v.value) for v in declared)
    return ()


def _title(declared: Any) -> str:
    """What :mod:`values` calls it."""
    if not _is_annotated(declared):
        return "a date or a time" if datetime.datetime in typing.get_args(declared) else ""
    metas = (m for m in typing.get_args(declared)[1:] if isinstance(m, msgspec.Meta))
    return next((m.title for m in metas if m.title), "")


def _is_annotated(declared: Any) -> bool:
    return typing.get_origin(declared) is Annotated
