"""The configuration file: TOML in, one frozen ``Config`` out.

Only what exists is accepted: an unknown key is an error that names the nearest known one.  Every
error names the file, the line and the key.  Options of the command line win over the file; that
is the commands' business, not this module's.
"""

from __future__ import annotations

import difflib
import enum
import os
import re
import stat
import tomllib
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from permdoctor.container.needs import Need
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

DEFAULT_FILE: Final = "/etc/permdoctor/config.toml"
VARIABLE: Final = "PERMDOCTOR_CONFIG"
MAX_BYTES: Final = 1 << 20

Entries = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=64)]
AbsolutePath = Annotated[str, msgspec.Meta(pattern="^/")]


class Engines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[engines]``.  ``hosts`` are endpoints as ``docker --host`` takes them; empty: the engine
    that the docker CLI would find.
    """

    hosts: tuple[str, ...] = ()


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[check]``.  The budget is for each mount's tree; the deadline is how long one filesystem
    may take to answer at all.
    """

    fail_on: Literal["error", "warning", "info"] = "error"
    budget_entries: Entries = 200_000
    budget_seconds: Seconds = 10.0
    deadline_seconds: Seconds = 5.0
    workers: Workers = 2


class NeedRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[need]]``.  ``container`` is a glob over container names, ``path`` is absolute inside."""

    path: AbsolutePath
    need: Need
    container: str = "*"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured.  ``Config()`` is what holds without a file."""

    engines: Engines = msgspec.field(default_factory=Engines)
    check: Check = msgspec.field(default_factory=Check)
    need: tuple[NeedRule, ...] = ()


def load(named: str | None, environ: Mapping[str, str]) -> Config:
    """The configuration that holds: ``named`` (``--config``), else ``$PERMDOCTOR_CONFIG``, else
    ``/etc/permdoctor/config.toml`` if it exists, else the defaults.

    Raises ``UsageError`` for a file that was named and cannot be read, for one that others may
    write, and for one that says something wrong.
    """
    file = named or environ.get(VARIABLE)
    if file:
        return from_toml(_read(file, named=True), file)
    if not os.path.lexists(DEFAULT_FILE):
        return Config()
    return from_toml(_read(DEFAULT_FILE, named=False), DEFAULT_FILE)


def from_toml(text: str, file: str) -> Config:
    """Parse.  ``file`` is only named in errors.  Raises ``UsageError``."""
    shown = printable(file)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{shown}: not TOML: {e}", hint="see https://toml.io/en/v1.0.0") from e
    except RecursionError as e:
        raise UsageError(f"{shown}: nested too deeply") from e
    try:
        return msgspec.convert(document, Config)
    except msgspec.ValidationError as e:
        raise _explain(str(e), text, shown) from None


def _read(file: str, *, named: bool) -> str:
    """The text of a regular file that nobody else can write: what it says decides what is judged
    and which socket is spoken to.
    """
    shown = printable(file)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as e:
        raise UsageError(f"cannot read configuration {shown}: {e.strerror}") from e
    try:
        _trust(os.fstat(fd), shown, named=named)
        data = _read_all(fd)
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise UsageError(f"configuration {shown} is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise UsageError(f"configuration {shown} is not UTF-8 (byte {e.start})") from e


def _trust(status: os.stat_result, shown: str, *, named: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"configuration {shown} is not a regular file")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"configuration {shown} may be written by others "
            f"(mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod go-w {shown}",
        )
    if not named and status.st_uid != 0:
        raise UsageError(
            f"configuration {shown} belongs to uid {status.st_uid}, not to root",
            hint=f"chown root {shown}, or name the file with --config if you trust it",
        )


def _read_all(fd: int) -> bytes:
    """Up to one byte more than allowed."""
    data = b""
    while len(data) <= MAX_BYTES and (more := os.read(fd, MAX_BYTES + 1 - len(data))):
        data += more
    return data


# What msgspec says of a wrong value, made into a line, a key and a suggestion.

_ERROR = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<at>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<key>.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<key>.*)`$", re.DOTALL)

Key = tuple[str | int, ...]


def _explain(message: str, text: str, shown: str) -> UsageError:
    match = _ERROR.match(message)
    assert match is not None
    what, at = match["what"], _key(match["at"] or "")
    hint = None
    if unknown := _UNKNOWN.search(what):
        known = _fields(at)
        at = (*at, unknown["key"])
        near = difflib.get_close_matches(unknown["key"], known, 1)
        what = "no such key"
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    elif missing := _MISSING.search(what):
        what = f"{missing['key']} is missing"
    elif values := _values(_type_at(at)):
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


def _type_at(key: Key) -> Any:
    """The declared type of a key."""
    at: Any = Config
    for part in key:
        if isinstance(part, int):
            at = typing.get_args(at)[0]
        elif isinstance(at, type) and issubclass(at, msgspec.Struct):
            at = typing.get_type_hints(at).get(part, Any)
    return at


def _fields(key: Key) -> list[str]:
    at = _type_at(key)
    return [f.encode_name for f in msgspec.structs.fields(at)]


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
