"""Runs a command and turns every way in which it can end into one line and an exit status."""

from __future__ import annotations

import os
import sys

import click

from permdoctor import __version__
from permdoctor.cli.output import fail, prepare_streams
from permdoctor.cli.root import PROGRAM, root
from permdoctor.errors import PermdoctorError

DEBUG = "PERMDOCTOR_DEBUG"
INTERRUPTED = 130
INTERNAL_ERROR = 3


def run(arguments: list[str]) -> int:
    """Never raises but ``SystemExit``; no traceback unless ``PERMDOCTOR_DEBUG`` is set."""
    prepare_streams()
    try:
        status = root.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as e:
        e.show()
        return e.exit_code
    except click.ClickException as e:
        fail(e.format_message(), _usage_hint(e))
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted")
        return INTERRUPTED
    except PermdoctorError as e:
        _traceback_if_wanted()
        for message, hint in e.lines:
            fail(message, hint)
        return e.exit_status
    except Exception as e:  # noqa: BLE001 - the last line of defence
        _traceback_if_wanted()
        fail(
            f"internal error: {type(e).__name__}: {e} "
            f"(permdoctor {__version__}, Python {sys.version.split()[0]})",
            f"please report this line with what {DEBUG}=1 prints",
        )
        return INTERNAL_ERROR
    return status if isinstance(status, int) else 0


def _usage_hint(e: click.ClickException) -> str | None:
    context = e.ctx if isinstance(e, click.UsageError) else None
    return f"see {context.command_path} --help" if context is not None else None


def _traceback_if_wanted() -> None:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exc()
