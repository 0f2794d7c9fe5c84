"""The two streams: data on stdout, messages on stderr.  Nothing else in ``cli/`` writes."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence

from permdoctor.errors import CannotCheckError
from permdoctor.kernel.text import clean
from permdoctor.render.layout import Line
from permdoctor.render.layout import plain as plain_text

BROKEN_PIPE = 141
"""What a shell shows for a program that SIGPIPE ended."""


def prepare_streams() -> None:
    """A character that the terminal's encoding lacks is escaped, never an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def fail(message: str, hint: str | None = None) -> None:
    """One line on stderr, and one for the hint; errors, where stderr is the journal."""
    priority = "<3>" if _is_journal() else ""
    note(f"{priority}permdoctor: {message}")
    if hint:
        note(f"{priority}  hint: {hint}")


def note(message: str) -> None:
    """A line on stderr.  Whatever stands in it, it stays one line without control characters."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(clean(" ".join(message.splitlines())) + "\n")
        sys.stderr.flush()
    except OSError:
        return


def emit(text: str) -> None:
    """Data on stdout.  A reader that went away ends the program quietly."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as e:
        _silence_stdout()
        raise CannotCheckError(f"cannot write the result: {e.strerror}") from e


def emit_lines(lines: Sequence[Line]) -> None:
    """Lines for a person: wrapped and coloured on a terminal, plain and stable elsewhere."""
    if not _is_terminal():
        emit(plain_text(lines))
        return
    from permdoctor.render.terminal import styled

    emit(styled(lines, width=terminal_width(), color=_wants_color()))


def terminal_width() -> int:
    return max(20, shutil.get_terminal_size().columns)


def for_terminal() -> int | None:
    """The width to lay out for, ``None`` where stdout is no terminal."""
    return terminal_width() if _is_terminal() else None


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _wants_color() -> bool:
    """https://no-color.org, and a terminal that has none."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _is_journal() -> bool:
    if "JOURNAL_STREAM" not in os.environ or sys.stderr is None:
        return False
    from permdoctor.daemon.log import is_journal

    return is_journal(os.environ, sys.stderr)


def _silence_stdout() -> None:
    """So that the interpreter's own flush at exit finds nobody to complain to."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
