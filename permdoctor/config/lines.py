"""Where a key stands in a TOML text: tomllib keeps no lines.

A key is a tuple of names, and of indices (from 0) into arrays of tables.  Looks at headers and
assignments only, not into inline tables: it is asked about texts that tomllib has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from permdoctor.kernel.text import printable

Key = tuple[str | int, ...]

_SHOWN = 100
"""Characters of a name."""

_HEADER = re.compile(r"\s*+(\[\[?)([A-Za-z0-9_.\-\s\"']++)\]")
_ASSIGNMENT = re.compile(r"\s*+([A-Za-z0-9_.\-\s\"']++)=")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"?|\'[^\']*\'?|#.*|[][{}]')
_ENDS = {'"""': re.compile(r'\\.|"{3,5}'), "'''": re.compile(r"'{3,5}")}
"""Strings over several lines: what ends them, or is escaped in them."""


def dotted(key: Key) -> str:
    """The key as a person would name it: ``need[2].path`` for the second ``[[need]]``."""
    parts = (f"[{p + 1}]" if isinstance(p, int) else "." + printable(p[:_SHOWN]) for p in key)
    return "".join(parts).lstrip(".")


class Lines:
    """The lines (from 1) of the keys of one text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Key, int] = {}
        for number, key in _keys(text):
            self._lines.setdefault(key, number)

    def of(self, key: Key) -> int:
        """Of the key, or of the nearest of its tables that has a line."""
        while key and key not in self._lines:
            key = key[:-1]
        return self._lines.get(key, 1)


def _keys(text: str) -> Iterator[tuple[int, Key]]:
    """Every table header, assignment, and table in an array, with its line."""
    table: Key = ()
    counts: dict[Key, int] = {}
    key, value = table, _Value()
    for number, line in enumerate(text.split("\n"), 1):
        if value.goes_on:
            yield from ((number, (*key, index)) for index in value.read(line))
        elif header := _HEADER.match(line):
            names = _names(header[2])
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
                table = (*names, counts[names])
            else:
                table = names
            yield number, table
        elif assignment := _ASSIGNMENT.match(line):
            names = _names(assignment[1])
            for depth in range(1, len(names) + 1):
                yield number, (*table, *names[:depth])
            key, value = (*table, *names), _Value()
            yield from ((number, (*key, i)) for i in value.read(line[assignment.end() :]))


class _Value:
    """What is assigned, a line at a time: where it ends, and the tables in it if it is an array."""

    def __init__(self) -> None:
        self._quote = ""
        self._open: list[str] = []
        self._index = -1

    @property
    def goes_on(self) -> bool:
        return bool(self._quote or self._open)

    def read(self, line: str) -> Iterator[int]:
        """The indices of the tables that begin in this line."""
        at = 0
        while found := (_ENDS[self._quote] if self._quote else _TOKEN).search(line, at):
            at, mark = found.end(), found[0]
            if self._quote:
                if mark.startswith(self._quote):
                    self._quote = ""
            elif mark in _ENDS:
                self._quote = mark
            elif mark in ("[", "{"):
                if mark == "{" and self._open == ["["]:
                    self._index += 1
                    yield self._index
                self._open.append(mark)
            elif mark in ("]", "}") and self._open:
                self._open.pop()


def _names(dotted_names: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted_names.split("."))
