"""Several files become one: tables merge, arrays of tables append, of anything else the last wins.

Pure.  The order is that of the files; ``origins`` says which of them each value came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from permdoctor.config.lines import Key, Lines

Document = dict[str, Any]


class Source(Struct, frozen=True, kw_only=True):
    """One file: ``file`` may be shown, ``document`` is ``text`` parsed."""

    file: str
    text: str
    document: Document


class Origin(Struct, frozen=True, kw_only=True):
    """Where a value was set: in which file, at which line (from 1)."""

    file: str
    line: int


def merged(documents: Iterable[Document]) -> Document:
    """The arguments are left as they are."""
    result: Document = {}
    for document in documents:
        result = _table(result, document)
    return result


def origins(sources: Iterable[Source]) -> dict[Key, tuple[Origin, ...]]:
    """For each value (no table) of the merged document: all places that set it, the one that holds
    last.
    """
    found: dict[Key, tuple[Origin, ...]] = {}
    before: Document = {}
    for source in sources:
        lines = Lines(source.text)
        for own, key in _values(source.document, before):
            place = Origin(file=source.file, line=lines.of(own))
            found[key] = (*found.get(key, ()), place)
        before = _table(before, source.document)
    return found


def _table(old: Document, new: Document) -> Document:
    result = dict(old)
    for name, value in new.items():
        result[name] = _value(old.get(name), value)
    return result


def _value(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return _table(old, new)
    if isinstance(old, list) and isinstance(new, list) and _are_tables(old, new):
        return [*old, *new]
    return new


def _are_tables(*arrays: list[Any]) -> bool:
    return any(isinstance(each, dict) for array in arrays for each in array)


def _values(new: Any, old: Any, own: Key = (), key: Key = ()) -> Iterator[tuple[Key, Key]]:
    """The values of ``new``: each key in its own document, and in the one that it is merged into,
    which was ``old``.
    """
    if isinstance(new, dict):
        for name, value in new.items():
            below = old.get(name) if isinstance(old, dict) else None
            yield from _values(value, below, (*own, name), (*key, name))
    elif isinstance(new, list) and _are_tables(new):
        first = len(old) if isinstance(old, list) else 0
        for index, value in enumerate(new):
            yield from _values(value, None, (*own, index), (*key, first + index))
    else:
        yield own, key
