"""The configuration file: TOML in, one frozen ``Config`` out.

Only what exists is accepted: an unknown key is an error that names the nearest known one.  Every
error names the file, the line and the key (``config_errors.py``).  Options of the command line
win over the file; that is the commands' business, not this module's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from permdoctor.container.needs import Need
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

DEFAULT_FILE: Final = "/etc/permdoctor/config.toml"
VARIABLE: Final = "PERMDOCTOR_CONFIG"
MAX_BYTES: Final = 1 << 20

Entries = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=2)]
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


class Unasked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[repair.unasked]]``: a repair that the service may do on its own.  ``container`` is a
    glob over names, ``remedy`` a remedy's name; ``roots`` narrow ``repair.roots``, which must allow
    it as well.
    """

    container: str
    remedy: str
    roots: Annotated[tuple[AbsolutePath, ...], msgspec.Meta(min_length=1)]
    max_entries: Entries = 10_000


class Repair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[repair]``: where repair is allowed, and how far it may go.

    ``roots`` and ``deny`` are directories, as resolved paths: a root that is a symlink allows
    nothing.  ``remedies``: those that are allowed; empty: all of them, as a person asked.
    ``state`` holds the journals, the locks and the key of plan files.
    """

    roots: tuple[AbsolutePath, ...] = ()
    deny: tuple[AbsolutePath, ...] = ()
    max_entries: Entries = 5_000_000
    max_seconds: Seconds = 3600.0
    remedies: tuple[str, ...] = ()
    live: bool = False
    state: AbsolutePath = "/var/lib/permdoctor"
    unasked: tuple[Unasked, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured.  ``Config()`` is what holds without a file."""

    engines: Engines = msgspec.field(default_factory=Engines)
    check: Check = msgspec.field(default_factory=Check)
    need: tuple[NeedRule, ...] = ()
    repair: Repair = msgspec.field(default_factory=Repair)


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
    import tomllib

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
        from permdoctor.config_errors import explained

        raise explained(str(e), Config, text, shown) from None


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
