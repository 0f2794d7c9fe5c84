"""``permdoctor history``."""

from __future__ import annotations

import click

from permdoctor import __version__
from permdoctor.cli import options
from permdoctor.cli.complete import repair_ids
from permdoctor.cli.output import emit, emit_lines, for_terminal

EPILOG = """\b
Examples:
  permdoctor history
  permdoctor history show 3f2a --entries
  permdoctor history --format json

\b
Exit status:
  0  shown
  2  wrong usage or configuration, no such repair
  3  the journals cannot be read
"""


@click.group(epilog=EPILOG, invoke_without_command=True)
@options.format_option("table", "json")
@options.config_option
@click.pass_context
def command(context: click.Context, form: str, config_file: str | None) -> int:
    """Repairs and undos of this host, the newest last; `history show ID` is one of them."""
    if context.invoked_subcommand is not None:
        return options.NOTHING_FOUND
    from permdoctor.app.history import history

    past = history(options.load_config(config_file))
    if form == "json":
        from permdoctor.render.repair_json import history_json

        emit(history_json(past, __version__))
    else:
        from permdoctor.render.history import table

        emit_lines(table(past, width=for_terminal()))
    return options.NOTHING_FOUND


@command.command(
    "show", epilog=EPILOG, short_help="One of them: what it changed, and what it left."
)
@click.argument("id_", metavar="ID", shell_complete=repair_ids)
@click.option("--entries", is_flag=True, help="Every entry: before, after, and what became of it.")
@options.format_option("table", "json")
@options.config_option
def show(id_: str, entries: bool, form: str, config_file: str | None) -> int:
    """One repair or undo: what it changed, by whom it was asked, what was left.

    ID may be the beginning or the end of an id.
    """
    from permdoctor.app import history

    config = options.load_config(config_file)
    past = history.one(config, id_)
    if form == "json":
        from permdoctor.render import repair_json

        listed = history.entries(config, past.id) if entries else None
        for piece in repair_json.past_json(past, listed, __version__):
            emit(piece)
        return options.NOTHING_FOUND
    from permdoctor.render import history as render

    emit_lines(render.one(past))
    if entries:
        for chunk in render.entries(history.entries(config, past.id)):
            emit_lines(chunk)
    return options.NOTHING_FOUND
