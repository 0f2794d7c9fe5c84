"""Where a key stands in a TOML text: tomllib keeps no lines.

A key is a tuple of names, and of indices (from 0) into arrays of tables.  Looks at headers and
assignments only: it is asked about texts that tomllib has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from permdoctor.kernel.text import printable

Key = tuple[str | int, ...]

_SHOWN = 100
"""Characters of a name."""

_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\s\"']+?)\s*\]")
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z0-9_\-.\"' ]+?)\s*=")


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
    """Every table header and assignment with its line.  Values over several lines may look like
    keys of their own; they are then keys that nobody asks for.
    """
    table: Key = ()
    counts: dict[Key, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
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


def _names(dotted_names: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted_names.split("."))
