"""Where the configuration is read from, and who may have written it.

A directory (``/etc/permdoctor``, or one that is named) means ``config.toml`` and, after it, the
files of ``conf.d`` that end in ``.toml``, in the order of their names.  A file that is named is the
whole configuration.  What it says decides what is judged, which sockets are spoken to, which
programs are run and what is repaired: nothing is accepted that others can write, or can replace.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from permdoctor.config.merge import Source, merged
from permdoctor.config.tables import Config
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

DEFAULT_DIR: Final = "/etc/permdoctor"
MAIN: Final = "config.toml"
DROP_INS: Final = "conf.d"
SUFFIX: Final = ".toml"
VARIABLE: Final = "PERMDOCTOR_CONFIG"
MAX_BYTES: Final = 1 << 20
MAX_FILES: Final = 256

_WHAT = {True: "new", False: "removed"}
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


class Loaded(Struct, frozen=True, kw_only=True):
    """A configuration and the files that it was read from, in their order.  ``place`` is the file
    or directory that was asked for.
    """

    config: Config
    place: str
    sources: tuple[Source, ...] = ()


def load(named: str | None, environ: Mapping[str, str]) -> Config:
    """The configuration that holds: ``named`` (``--config``), else ``$PERMDOCTOR_CONFIG``, else
    ``/etc/permdoctor``, where nothing has to exist.

    Raises ``UsageError`` for a place that was named and cannot be read, for a file or directory
    that others may write, and for everything wrong in them at once.
    """
    return read(named, environ).config


def read(named: str | None, environ: Mapping[str, str]) -> Loaded:
    """As :func:`load`, with the files."""
    place = named or environ.get(VARIABLE) or ""
    errors: list[UsageError] = []
    sources: list[Source] = []
    for file, text in _texts(place, errors):
        try:
            sources.append(source := parsed(text, printable(file)))
            _converted(source.document)
        except UsageError as e:
            errors.append(e)
        except msgspec.ValidationError:
            from permdoctor.config.errors import explained

            errors += explained(source.document, Config, source.text, source.file)
    if errors:
        from permdoctor.config.errors import together

        raise together(errors)
    place = place or DEFAULT_DIR
    return Loaded(config=_together(sources), place=place, sources=tuple(sources))


class Places(Struct, frozen=True, kw_only=True):
    """Where a change would make another configuration: ``files``, which need not be there, and
    every file of ``directories`` whose name ends in ``SUFFIX``.  Absolute paths.
    """

    files: tuple[str, ...]
    directories: tuple[str, ...] = ()


def places(loaded: Loaded) -> Places:
    """What :func:`read` looked at, and what symlinks there lead to."""
    place = os.path.abspath(loaded.place)
    read = [os.path.abspath(s.file) for s in loaded.sources]
    real = [os.path.realpath(file) for file in read]
    if place in read:
        return Places(files=tuple(dict.fromkeys((place, *real))))
    main, drop_ins = os.path.join(place, MAIN), os.path.join(place, DROP_INS)
    linked = (r for file, r in zip(read, real, strict=True) if r != file)
    return Places(files=tuple(dict.fromkeys((main, *linked))), directories=(drop_ins,))


def changed(old: Loaded, new: Loaded) -> tuple[str, ...]:
    """The files that say something else, in words."""
    before, after = ({s.file: s.text for s in loaded.sources} for loaded in (old, new))
    return tuple(
        file if file in before and file in after else f"{file} ({_WHAT[file in after]})"
        for file in dict.fromkeys((*before, *after))
        if before.get(file) != after.get(file)
    )


def from_toml(text: str, file: str) -> Config:
    """One text alone.  ``file`` is only named in errors.  Raises ``UsageError``."""
    source = parsed(text, printable(file))
    try:
        return _converted(source.document)
    except msgspec.ValidationError:
        from permdoctor.config.errors import explained, together

        raise together(explained(source.document, Config, text, source.file)) from None


def parsed(text: str, shown: str) -> Source:
    """TOML as tomllib gives it, with dates as the times at which they end."""
    import tomllib

    try:
        document = tomllib.loads(text)
        _end_dates(document)
    except tomllib.TOMLDecodeError as e:
        line = at[1] if (at := _AT_LINE.search(str(e))) else len(text.splitlines()) or 1
        what = _AT_LINE.sub("", str(e))
        raise UsageError(
            f"{shown}:{line}: not TOML: {what}", hint="see https://toml.io/en/v1.0.0"
        ) from e
    except RecursionError as e:
        raise UsageError(f"{shown}: nested too deeply") from e
    except (ValueError, OverflowError) as e:
        raise UsageError(f"{shown}: a number or a date is out of range") from e
    return Source(file=shown, text=text, document=document)


def _end_dates(document: dict[str, Any]) -> None:
    """``expires = 2030-01-31`` holds through that day: until the next one begins, local time."""
    rules = document.get("ignore")
    for rule in rules if isinstance(rules, list) else ():
        expires = rule.get("expires") if isinstance(rule, dict) else None
        if isinstance(expires, datetime.date) and not isinstance(expires, datetime.datetime):
            day = expires + datetime.timedelta(days=1)
            rule["expires"] = datetime.datetime(day.year, day.month, day.day)


def _converted(document: dict[str, Any]) -> Config:
    return msgspec.convert(document, Config)


def _together(sources: list[Source]) -> Config:
    """Each file is right; what is left are mistakes that take two of them."""
    try:
        return _converted(merged(s.document for s in sources))
    except msgspec.ValidationError as e:
        what = str(e).partition(" - at `$")[0]
        files = ", ".join(s.file for s in sources)
        raise UsageError(f"{what} (in {files} together)") from None


# --- files ---


def _texts(place: str, errors: list[UsageError]) -> Iterator[tuple[str, str]]:
    """Names and contents.  What cannot be read is added to ``errors``."""
    try:
        if place and not os.path.isdir(place):
            files = [_File(place, named=True)]
            _trust_directory_of(place)
        else:
            files = _files_of(place or DEFAULT_DIR, named=bool(place))
    except UsageError as e:
        errors.append(e)
        return
    for file in files:
        try:
            yield file.path, _text(file)
        except UsageError as e:
            errors.append(e)


class _File(Struct, frozen=True):
    """``named``: by who runs this, whose own it may be, then."""

    path: str
    named: bool


def _files_of(directory: str, *, named: bool) -> list[_File]:
    names = [n for n in _listed(directory, named=named) if n == MAIN]
    drop_ins = os.path.join(directory, DROP_INS)
    below = [
        os.path.join(DROP_INS, n)
        for n in _listed(drop_ins, named=named)
        if n.endswith(SUFFIX) and not n.startswith(".")
    ]
    if len(below) > MAX_FILES:
        raise UsageError(f"{printable(drop_ins)} has more than {MAX_FILES} files")
    if named and not (names or below):
        raise UsageError(
            f"no configuration in {printable(directory)}: "
            f"neither {MAIN} nor {DROP_INS}/*{SUFFIX} is there"
        )
    paths = (os.path.join(directory, n) for n in (*names, *below))
    return [_File(p, named) for p in paths]


def _listed(directory: str, *, named: bool) -> list[str]:
    """The names in it, sorted; none where it does not exist."""
    shown = printable(directory)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in _ABSENT:
            return []
        raise UsageError(f"cannot read configuration {shown}: {e.strerror}") from e
    try:
        _trust(os.fstat(fd), f"directory {shown}", shown, named=named)
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _text(file: _File) -> str:
    shown = printable(file.path)
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as e:
        raise UsageError(f"cannot read configuration {shown}: {e.strerror}") from e
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"configuration {shown} is not a regular file")
        _trust(status, shown, shown, named=file.named)
        data = _read_all(fd)
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise UsageError(f"configuration {shown} is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise UsageError(f"configuration {shown} is not UTF-8 (byte {e.start})") from e


def _trust_directory_of(file: str) -> None:
    """Of a single file that is named.  One of which only owners can take files out will do."""
    for path in dict.fromkeys((os.path.abspath(file), os.path.realpath(file))):
        directory = os.path.dirname(path)
        shown = printable(directory)
        try:
            status = os.stat(directory)
        except OSError:
            return  # reading the file says why
        if not status.st_mode & stat.S_ISVTX:
            _trust(status, f"directory {shown}", shown, named=True)


def _trust(status: os.stat_result, what: str, shown: str, *, named: bool) -> None:
    owners = (0, os.geteuid()) if named else (0,)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"configuration {what} may be written by others "
            f"(mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod go-w {shown}",
        )
    if status.st_uid not in owners:
        yours = " or to you" if owners[-1] else ""
        raise UsageError(
            f"configuration {what} belongs to uid {status.st_uid}, not to root{yours}",
            hint=f"chown root {shown}",
        )


def _read_all(fd: int) -> bytes:
    """Up to one byte more than allowed."""
    data = b""
    while len(data) <= MAX_BYTES and (more := os.read(fd, MAX_BYTES + 1 - len(data))):
        data += more
    return data
