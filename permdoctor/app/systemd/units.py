"""The units that ship, as texts for a machine: the program's own path, and a seal.

The seal is the first line: by it a file is known as ours and as unchanged since, so that nothing
that a person has edited is replaced or removed.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from importlib.resources import files

from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

SERVICE = "permdoctor.service"
CHECK = "permdoctor-check.service"
UNITS = (SERVICE, CHECK, "permdoctor-check.timer")

_PACKAGED = "/usr/bin/permdoctor"
_SEAL = re.compile(r"# Written by permdoctor systemd \(([0-9a-f]{16})\)\n")
_PLAIN = re.compile(r"[A-Za-z0-9_./+:@,=-]+")


class Found(StrEnum):
    """A file where one of ours is to be."""

    MISSING = "missing"
    CURRENT = "current"
    OLD = "outdated"
    EDITED = "edited"
    FOREIGN = "not ours"

    @property
    def replaceable(self) -> bool:
        return self in (Found.MISSING, Found.CURRENT, Found.OLD)


def unit(name: str, program: str) -> str:
    """The text of a unit, with ``program`` (an absolute path) in it.  Raises ``UsageError``."""
    text = files("permdoctor").joinpath("units", name).read_text("utf-8")
    return sealed(text.replace(_PACKAGED, quoted(program)))


def sealed(text: str) -> str:
    """With the line by which :func:`state_of` knows it."""
    return f"# Written by permdoctor systemd ({_digest(text)})\n{text}"


def state_of(found: str | None, wanted: str | None) -> Found:
    """What a file's content (``None``: there is no file) is to us.  ``wanted`` is what it should
    be (``None``: whatever we wrote).
    """
    if found is None:
        return Found.MISSING
    if found == wanted:
        return Found.CURRENT
    seal = _SEAL.match(found)
    if seal is None:
        return Found.FOREIGN
    return Found.OLD if seal[1] == _digest(found[seal.end() :]) else Found.EDITED


def quoted(path: str) -> str:
    """A path as one word of a unit (systemd.syntax(7), "Quoting"; systemd.unit(5), specifiers)."""
    if not path.isprintable() or not path.startswith("/"):
        raise UsageError(f"{printable(path)} cannot stand in a unit: no plain absolute path")
    path = path.replace("%", "%%")
    if _PLAIN.fullmatch(path.replace("%%", "")):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
