"""The program that the service runs: our own, if nobody but root can change what it does.

A program of pipx or uv lies in an environment of its own; its interpreter, everything below the
directories that it imports from, and all directories above them count as much as itself.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

import permdoctor
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

HIDDEN = ("/tmp", "/var/tmp", "/dev", "/run/user")  # noqa: S108 - no file of ours
"""What the unit does not see, or not the same (PrivateTmp=, PrivateDevices=, ProtectHome=)."""

_MOST_LINKS = 40
_HINT = (
    "install it where only root can write: PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin "
    "pipx install ..., or UV_TOOL_DIR=/opt/uv UV_TOOL_BIN_DIR=/usr/local/bin uv tool install ..."
)


def own_program() -> str:
    """The absolute path of the ``permdoctor`` that belongs to this interpreter.

    Raises ``UsageError`` where there is none (``python -m permdoctor`` in a bare checkout).
    """
    program = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "permdoctor")
    if not os.access(program, os.X_OK):
        raise UsageError(
            f"there is no {printable(program)} for the service to run",
            hint="install it with pipx or uv, and run its own `permdoctor systemd install`",
        )
    return program


def need_trust(program: str) -> None:
    """Raises ``UsageError`` naming the first place by which somebody else than root could decide
    what the service does, or that the service would not see.
    """
    for place in (program, sys.executable, *_imported_from()):
        for path in _way(place):
            _need_trust(path, place)
        for path in _below(place):
            _need_trust(path, path)


def _below(directory: str) -> Iterator[str]:
    """Everything in it, and on the way to where symlinks in it lead."""
    todo, seen = [directory], {os.path.realpath(directory)}
    while todo:
        for parent, directories, files in os.walk(todo.pop()):  # nothing: it is a file
            for name in (*directories, *files):
                path = os.path.join(parent, name)
                yield path
                real = os.path.realpath(path)
                if not os.path.islink(path) or not os.path.exists(path) or real in seen:
                    continue
                seen.add(real)
                todo.append(real)
                yield from _way(real)


def _imported_from() -> Iterator[str]:
    yield os.path.dirname(os.path.abspath(permdoctor.__file__))
    yield from (p for p in sys.path if os.path.isabs(p) and os.path.exists(p))


def _need_trust(path: str, place: str) -> None:
    shown = printable(path)
    whose = "" if path == place else f" (on the way to {printable(place)})"
    if path in HIDDEN:
        raise UsageError(
            f"the service would not see {printable(place)}: it is in {shown}", hint=_HINT
        )
    status = os.lstat(path)
    if status.st_uid != 0:
        raise UsageError(
            f"{shown}{whose} belongs to uid {status.st_uid}, who would be root by it", hint=_HINT
        )
    if not stat.S_ISLNK(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"{shown}{whose} may be written by others (mode {stat.S_IMODE(status.st_mode):04o}), "
            "who would be root by it",
            hint=_HINT,
        )


def _way(path: str) -> Iterator[str]:
    """Everything that is passed on the way to a path: directories, symlinks, and itself."""
    at, links = "/", 0
    todo = _parts(path)
    yield at
    while todo:
        part = todo.pop()
        if part == "..":
            at = os.path.dirname(at)
            continue
        at = os.path.join(at, part)
        yield at
        if os.path.islink(at):
            links += 1
            if links > _MOST_LINKS:
                raise UsageError(f"{printable(path)}: too many symlinks")
            target = os.readlink(at)
            todo += _parts(target)
            at = "/" if target.startswith("/") else os.path.dirname(at)


def _parts(path: str) -> list[str]:
    return [p for p in reversed(path.split("/")) if p not in ("", ".")]
