"""What an answer must be: of its declared type throughout, and text that can be written."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from itertools import islice
from typing import Any

from msgspec import Struct

from permdoctor.errors import PermdoctorError

MOST_MESSAGE = 4096
"""Characters of one line of an error."""

MANY = 500
"""Elements of which each is looked at."""

INT64 = range(-(1 << 63), 1 << 64)
ID = range(1 << 32)


class WrongError(AssertionError):
    """The answer is not what was promised."""


def must(true: object, why: str) -> None:
    if not true:
        raise WrongError(why)


def fits(value: object, declared: Any) -> None:
    """``value`` is of the declared type, and so is everything in it; numbers fit into 64 bits, and
    text is UTF-8: what cannot be encoded cannot be told.
    """
    _checker(declared)(value, "")


Check = Callable[[Any, str], None]


@cache
def _checker(declared: Any) -> Check:
    while hasattr(declared, "__supertype__"):
        declared = declared.__supertype__
    origin, args = typing.get_origin(declared), typing.get_args(declared)
    if origin is typing.Annotated:
        return _checker(args[0])
    if origin in (typing.Union, types.UnionType):
        return _any_of([_checker(a) for a in args])
    if origin is typing.Literal:
        return lambda v, at: must(v in args, f"{at}: {v!r:.80}")
    if origin is tuple and args[-1] is not Ellipsis:
        return _pair([_checker(a) for a in args])
    if origin in (tuple, frozenset, list):
        return _each(origin, _checker(args[0]))
    if origin in (dict, Mapping):
        return _table(_checker(args[0]), _checker(args[1]))
    if isinstance(declared, type) and issubclass(declared, Struct):
        return _struct(declared)
    return _plain(type(None) if declared is None else declared)


def _plain(declared: type) -> Check:
    def check(value: Any, at: str) -> None:
        right = isinstance(value, declared) if issubclass(declared, enum.Enum) else (
            type(value) is declared or (declared is float and type(value) is int)
        )  # fmt: skip
        must(right, f"{at}: {value!r:.80} is no {declared.__name__}")
        if declared is str:
            value.encode("utf-8")
        elif declared is int:
            must(value in INT64, f"{at}: {value!r:.80} does not fit into 64 bits")

    return check


def _any_of(checks: list[Check]) -> Check:
    def check(value: Any, at: str) -> None:
        wrong: list[str] = []
        for each in checks:
            try:
                return each(value, at)
            except (WrongError, UnicodeEncodeError) as e:
                wrong.append(str(e))
        raise WrongError("; ".join(wrong))

    return check


def _pair(checks: list[Check]) -> Check:
    def check(value: Any, at: str) -> None:
        must(type(value) is tuple and len(value) == len(checks), f"{at}: {value!r:.80}")
        for each, of in zip(checks, value, strict=True):
            each(of, at)

    return check


def _each(kind: type, element: Check) -> Check:
    def check(value: Any, at: str) -> None:
        must(type(value) is kind, f"{at}: {value!r:.80} is no {kind.__name__}")
        for of in islice(value, MANY):
            element(of, at)

    return check


def _table(key: Check, element: Check) -> Check:
    def check(value: Any, at: str) -> None:
        must(isinstance(value, Mapping), f"{at}: {value!r:.80} is no table")
        for name, of in value.items():
            key(name, at)
            element(of, at)

    return check


def _struct(declared: type[Struct]) -> Check:
    hints = typing.get_type_hints(declared, include_extras=True)
    fields: list[tuple[str, str, Check]] = []

    def check(value: Any, at: str) -> None:
        if not fields:  # only now: a type may hold itself
            fields.extend(
                (n, f"{declared.__name__}.{n}", _checker(hints[n]))
                for n in declared.__struct_fields__
            )
        must(isinstance(value, declared), f"{at}: {value!r:.80} is no {declared.__name__}")
        for name, place, each in fields:
            each(getattr(value, name), place)

    return check


def tellable(error: BaseException) -> None:
    """Each message and hint is one printable line."""
    lines = error.lines if isinstance(error, PermdoctorError) else ((str(error), None),)
    for message, hint in lines:
        must(message, "an error without a message")
        for text in (message, hint or ""):
            must(text.isprintable(), f"an error that is not printable: {text!r:.200}")
            must(len(text) <= MOST_MESSAGE, f"an error of {len(text)} characters: {text[:80]!r}")
