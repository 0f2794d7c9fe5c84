"""The outbox's sqlite3 file: made, opened, locked against a second process, set aside if damaged.

Its content belongs in ``store.py``.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from typing import Any, Final, Literal

from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.kernel.text import printable

VERSION: Final = 1

_BUSY_SECONDS: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE alert (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    episode TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    severity INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    text TEXT NOT NULL,
    resolved INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX firing ON alert (fingerprint) WHERE resolved = 0;
CREATE TABLE delivery (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    alert INTEGER NOT NULL REFERENCES alert (n) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL,
    revision INTEGER NOT NULL,
    text TEXT NOT NULL,
    told REAL NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    UNIQUE (alert, sink, status, revision)
);
CREATE INDEX waiting ON delivery (sink, attempts, n) WHERE state = 0;
CREATE INDEX chain ON delivery (sink, fingerprint, n) WHERE state = 0;
"""
"""An ``alert`` is an episode, with the worst severity and the newest text of its firing; a
``delivery`` is one thing to tell one sink.  ``state``: 0 waits, 1 was sent, 2 was dropped.
"""


_TYPES: Final = {
    "alert": {
        "episode": "text",
        "fingerprint": "text",
        "severity": "integer",
        "revision": "integer",
        "text": "text",
        "resolved": "integer",
    },
    "delivery": {
        "sink": "text",
        "alert": "integer",
        "fingerprint": "text",
        "status": "text",
        "revision": "integer",
        "text": "text",
        "told": "real",
        "state": "integer",
        "attempts": "integer",
    },
}
"""As they were written; sqlite3 does not look."""

_UNUSABLE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""Primary result codes (sqlite.org/rescode.html) that say nothing of the content."""


ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises; the second one for damage in the schema."""


def lock(file: str) -> int:
    """A descriptor that holds the lock on ``file`` until it is closed or the process ends.

    A record lock, on a file of its own: a child does not inherit it and thus cannot keep a killed
    service from starting again, and sqlite's locks are not disturbed.  Raises ``UsageError`` if
    another process has it, ``CannotCheckError`` if it cannot be made.
    """
    try:
        fd = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise _cannot(file, e.strerror or str(e)) from None
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise UsageError(
            f"{printable(file)} is in use by another process",
            hint="the service runs already; or give this one its own repair.state",
        ) from None
    return fd


def prepare(file: str) -> bool:
    """Make the file, or look whether it is whole.  ``False``: it was not, was set aside as
    ``file.damaged``, and a new one was made.  Raises ``CannotCheckError``, and ``UsageError`` for
    a file of a newer release.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        try:
            _make(file)
        except ERRORS as e:
            if not is_damage(e):
                raise
            renew(file)
            return False
    except (OSError, sqlite3.Error) as e:
        raise _cannot(file, getattr(e, "strerror", None) or str(e)) from None
    return True


def is_damage(e: Exception) -> bool:
    """Whether it is the file's content; else it can be used another time, or by another user."""
    code = getattr(e, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _UNUSABLE


def renew(file: str) -> None:
    """Set the file aside as ``file.damaged``, and make a new one.  Raises ``OSError`` and
    ``sqlite3.Error``.
    """
    for end in ("-wal", "-shm"):
        if os.path.lexists(file + end):
            os.unlink(file + end)
    os.replace(file, f"{file}.damaged")
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _make(file)


def connect(file: str, *, synchronous: Literal["FULL", "NORMAL"]) -> sqlite3.Connection:
    """For any thread, one at a time; transactions are the caller's.  Raises ``sqlite3.Error``."""
    db = sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _make(file: str) -> None:
    db = connect(file, synchronous="FULL")
    try:
        if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UsageError(
                f"{printable(file)} was made by a newer permdoctor (format {version}, "
                f"this one knows {VERSION})",
                hint="remove it: what was told and is not resolved is then told again",
            )
        if version == 0:
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        for table, types in _TYPES.items():
            wrong = " OR ".join(f"typeof({column}) != '{type_}'" for column, type_ in types.items())
            if db.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone():  # noqa: S608
                raise sqlite3.DatabaseError("a value of another type")
    finally:
        db.close()


def _cannot(file: str, why: str) -> CannotCheckError:
    return CannotCheckError(
        f"cannot keep alerts in {printable(file)}: {why}",
        hint="make the state directory (repair.state) writable, or make room there",
    )


def one(db: sqlite3.Connection, sql: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    """The first row, if there is one."""
    row: tuple[Any, ...] | None = db.execute(sql, values).fetchone()
    return row


def rows_of(db: sqlite3.Connection, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
    return db.execute(sql, values).fetchall()
