"""The command line.  ``main`` answers what needs nothing, and hands the rest to ``run.py``.

This module and ``permdoctor/__init__.py`` import nearly nothing, because ``permdoctor --version``
should cost no more than Python's own start, and stay within the syntax of Python 3.6, so that an
old interpreter gets a sentence and not a SyntaxError.  One file a command; no logic in any.
"""

import sys

from permdoctor import __version__

OLDEST_PYTHON = (3, 11)


def main(args: "list[str] | None" = None) -> int:
    """Run one command; the exit status is the result.

    0 nothing found, 1 findings, 2 usage or configuration, 3 could not check, 130 interrupted.
    """
    arguments = sys.argv[1:] if args is None else args
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(str(n) for n in sys.version_info[:3])
        _refuse("needs Python 3.11 or later, this is " + found, "try python3.11 -m permdoctor")
        return 3
    if arguments == ["--version"] and _written("permdoctor " + __version__ + "\n"):
        return 0
    if not sys.platform.startswith("linux"):
        _refuse(
            "needs Linux, this is " + sys.platform,
            "run it where the containers run: inside the virtual machine, on the server",
        )
        return 3
    try:
        from permdoctor.cli.run import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130


def _written(text: str) -> bool:
    """Where it cannot be written, the long way round says so properly."""
    if sys.stdout is None:
        return True
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _refuse(message: str, hint: str) -> None:
    sys.stderr.write("permdoctor: " + message + "\n  hint: " + hint + "\n")
