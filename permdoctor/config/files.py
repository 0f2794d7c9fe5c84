"""Where the configuration is read from, and who may have written it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Final

import msgspec

from permdoctor.config.tables import Config
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

DEFAULT_FILE: Final = "/etc/permdoctor/config.toml"
VARIABLE: Final = "PERMDOCTOR_CONFIG"
MAX_BYTES: Final = 1 << 20


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
        from permdoctor.config.errors import explained

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
