"""Writing, removing and looking at the units; never at what a person has edited.

``systemctl`` is only asked where systemd runs (sd_booted(3)) and no other root was named.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.app.systemd import dropin
from permdoctor.app.systemd.executable import need_trust, own_program
from permdoctor.app.systemd.units import SERVICE, UNITS, Found, state_of, unit
from permdoctor.config import Config
from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.kernel.text import printable

DIRECTORY = "/etc/systemd/system"
MODE = 0o644
DIR_MODE = 0o755
STATE_MODE = 0o700

_BOOTED = "/run/systemd/system"
_SECONDS = 60.0
_STARTED = (SERVICE, "permdoctor-check.timer")


class File(Struct, frozen=True, kw_only=True):
    """A file as it should be, and what is there now.  One that is not ``needed`` may be missing."""

    path: str
    text: str
    found: Found
    needed: bool = True

    @property
    def is_right(self) -> bool:
        return self.found is Found.CURRENT or (self.found is Found.MISSING and not self.needed)


class Unit(Struct, frozen=True, kw_only=True):
    """What systemd says of a unit, in its words (``is-active``, ``is-enabled``)."""

    name: str
    active: str
    enabled: str


class Installation(Struct, frozen=True, kw_only=True):
    """Everything that is ours.  ``drop_ins`` are what the configuration needs now."""

    units: tuple[File, ...]
    drop_ins: tuple[File, ...]
    running: tuple[Unit, ...] = ()

    @property
    def complete(self) -> bool:
        """All is there as it should be, and allows no more than it should."""
        return all(f.is_right for f in (*self.units, *self.drop_ins))


def look(config: Config, *, root: str = "/") -> Installation:
    """How it is.  ``root`` is where the machine's files are (an image that is being made)."""
    program = own_program()
    directory = _beneath(root, DIRECTORY)
    return Installation(
        units=tuple(_file(os.path.join(directory, n), unit(n, program)) for n in UNITS),
        drop_ins=tuple(
            replace(_file(path, text(config)), needed=is_needed(config))
            for path, (text, is_needed) in zip(
                _drop_in_paths(directory), dropin.DROP_INS.values(), strict=True
            )
        ),
        running=tuple(_asked()) if _has_systemd(root) else (),
    )


def install(config: Config, *, root: str = "/", dry_run: bool = False) -> Installation:
    """Write the units, not the drop-in; what there is as it should be is left alone.

    Raises ``UsageError`` before anything is written: for a program that others can change, and
    for a unit that was edited.  The result is what was found.
    """
    if root == "/":
        need_trust(own_program())
    found = look(config, root=root)
    _write(found.units, root=root, dry_run=dry_run)
    return found


def write_drop_ins(config: Config, *, root: str = "/", dry_run: bool = False) -> Installation:
    """Write the drop-ins, or remove them where nothing is needed; and make the state directory,
    which the service itself cannot make elsewhere.  Raises as :func:`install` does.
    """
    found = look(config, root=root)
    surplus = [f for f in found.drop_ins if not f.needed and f.found is not Found.MISSING]
    _need_ours(surplus, "removed")
    _write(tuple(f for f in found.drop_ins if f.needed), root=root, dry_run=dry_run)
    if dry_run:
        return found
    for file in surplus:
        _remove(file.path)
    if surplus:
        _reload(root)
    if any(f.needed for f in found.drop_ins):
        _make_state(_beneath(root, config.repair.state))
    return found


def uninstall(*, root: str = "/", dry_run: bool = False) -> tuple[str, ...]:
    """Stop and disable the units, and remove exactly what was written.  The paths.

    Raises ``UsageError``, and removes nothing, if one of the files was edited.
    """
    directory = _beneath(root, DIRECTORY)
    paths = (*(os.path.join(directory, n) for n in UNITS), *_drop_in_paths(directory))
    there = [f for f in (_file(p, None) for p in paths) if f.found is not Found.MISSING]
    _need_ours(there, "removed")
    if dry_run or not there:
        return tuple(f.path for f in there)
    if _has_systemd(root):
        names = {os.path.basename(f.path) for f in there}
        _systemctl("disable", *(n for n in _STARTED if n in names))
        _systemctl("stop", *(n for n in UNITS if n in names))
    for file in there:
        _remove(file.path)
    _reload(root)
    return tuple(f.path for f in there)


def start() -> None:
    """Enable the service and start it, or start it again: however often it failed before."""
    _systemctl("enable", SERVICE)
    _systemctl("reset-failed", SERVICE)
    _systemctl("restart", SERVICE)


def _write(files: tuple[File, ...], *, root: str, dry_run: bool) -> None:
    changed = [f for f in files if f.found is not Found.CURRENT]
    _need_ours(changed, "replaced")
    if dry_run or not changed:
        return
    for file in changed:
        _put(file)
    _reload(root)


def _reload(root: str) -> None:
    if _has_systemd(root):
        _systemctl("daemon-reload")


def _make_state(path: str) -> None:
    try:
        os.makedirs(path, STATE_MODE, exist_ok=True)
    except OSError as e:
        raise CannotCheckError(
            f"cannot make {printable(path)} (repair.state): {e.strerror}",
            hint="name a directory that root can make",
        ) from e


def _need_ours(files: list[File], done: str) -> None:
    for file in files:
        if not file.found.replaceable:
            shown = printable(file.path)
            what = "was edited" if file.found is Found.EDITED else "was not written by permdoctor"
            raise UsageError(
                f"{shown} {what}: nothing is {done}",
                hint="keep changes in a drop-in (systemctl edit), and remove the file yourself",
            )


def _file(path: str, wanted: str | None) -> File:
    return File(path=path, text=wanted or "", found=state_of(_content(path), wanted))


def _content(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as f:
            return f.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except PermissionError as e:
        raise CannotCheckError(
            f"cannot read {printable(path)}: {e.strerror}", hint="run it as root"
        ) from e
    except OSError:
        return ""  # a symlink (systemctl mask), a directory: not ours


def _put(file: File) -> None:
    """In one step: systemd never sees half a unit."""
    aside = f"{file.path}.new"
    try:
        os.makedirs(os.path.dirname(file.path), DIR_MODE, exist_ok=True)
        umask = os.umask(0o777 & ~DIR_MODE)
        try:
            fd = os.open(
                aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, MODE
            )
        finally:
            os.umask(umask)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(file.text)
        os.replace(aside, file.path)
    except OSError as e:
        raise CannotCheckError(
            f"cannot write {printable(file.path)}: {e.strerror}", hint="run it as root"
        ) from e


def _remove(path: str) -> None:
    try:
        os.unlink(path)
        directory = os.path.dirname(path)
        if directory.endswith(".d") and not os.listdir(directory):
            os.rmdir(directory)
    except OSError as e:
        raise CannotCheckError(
            f"cannot remove {printable(path)}: {e.strerror}", hint="run it as root"
        ) from e


def _drop_in_paths(directory: str) -> list[str]:
    return [os.path.join(directory, f"{name}.d", dropin.NAME) for name in dropin.DROP_INS]


def _beneath(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _has_systemd(root: str) -> bool:
    return root == "/" and os.path.isdir(_BOOTED)


def _asked() -> Iterator[Unit]:
    for name in _STARTED:
        active, enabled = (_ask(word, name) for word in ("is-active", "is-enabled"))
        yield Unit(name=name, active=active, enabled=enabled)


def _ask(word: str, name: str) -> str:
    done = _run(word, name)
    return done.stdout.strip() or "not there"


def _systemctl(verb: str, *names: str) -> None:
    """Nothing is done to no units."""
    words = (verb, *names)
    if not names and verb != "daemon-reload":
        return
    done = _run(*words)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
        raise CannotCheckError(f"systemctl {' '.join(words)}: {printable(why)}")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemctl", "--no-ask-password", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise CannotCheckError(f"systemctl {' '.join(words)}: {e}") from e
