"""Secrets: read once from a file or the environment, and never shown.

A ``Secret`` has no text of its own: whatever prints, logs or formats it shows that there is one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Final

from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

MAX_BYTES: Final = 64 << 10

_SHORTEST_HIDDEN: Final = 4


class Secret:
    """A value that does not print.  ``reveal`` is for the one place that sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


def read_secret(file: str, variable: str, environ: Mapping[str, str], what: str) -> Secret:
    """The secret in ``file``, or else in the environment's ``variable``.

    Surrounding white space is not part of it.  Raises ``UsageError``, which names ``what`` is
    missing and where, never the content: for a file that is no regular one, that belongs to
    somebody else than root or us, that others than its owner may write, or that everybody may
    read (a group that may read is the administrator's decision), and for an empty secret.
    """
    if file:
        where, value = f"file {printable(file)}", _read(file, what)
    else:
        where, value = f"environment variable {variable}", environ.get(variable, "")
    if not value.strip():
        hint = (
            None
            if file
            else (
                "the service has it from /etc/permdoctor/environment; by hand:"
                " set -a; . /etc/permdoctor/environment"
            )
        )
        raise UsageError(f"{what}: {where} holds nothing", hint=hint)
    return Secret(value.strip())


def hide(text: str, secrets: Iterable[Secret]) -> str:
    """``text`` (an answer's, say) without the secrets that it may repeat."""
    for secret in secrets:
        for line in (secret.reveal(), *secret.reveal().split()):
            if len(line) >= _SHORTEST_HIDDEN:
                text = text.replace(line, "...")
    return text


def _read(file: str, what: str) -> str:
    shown = printable(file)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as e:
        raise UsageError(f"{what}: cannot read {shown}: {e.strerror}") from e
    try:
        _trust(os.fstat(fd), shown, what)
        data = os.read(fd, MAX_BYTES + 1)
    except OSError as e:
        raise UsageError(f"{what}: cannot read {shown}: {e.strerror}") from None
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{what}: {shown} is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Without the cause: it carries the bytes.
        raise UsageError(f"{what}: {shown} is not UTF-8") from None


def _trust(status: os.stat_result, shown: str, what: str) -> None:
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{what}: {shown} is not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"{what}: {shown} belongs to uid {status.st_uid}, neither to root nor to us",
            hint=f"chown root {shown}",
        )
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise UsageError(
            f"{what}: {shown} may be read or written by others ({mode})",
            hint=f"chmod 0600 {shown}; and if it was like that for long, make a new secret",
        )
