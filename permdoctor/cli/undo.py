"""``permdoctor undo``."""

from __future__ import annotations

import os
from contextlib import ExitStack

import click

from permdoctor.cli import options
from permdoctor.cli.complete import repair_ids

EPILOG = """\b
Examples:
  permdoctor undo --last --dry-run
  permdoctor undo 20261122-051205-3f2a
  permdoctor undo 3f2a --yes
  permdoctor undo --last --at /mnt/restored

Owner, mode, ACLs and file capabilities of every entry become what they were before the repair.
What somebody changed since is left alone and listed.  An undo is journaled like a repair: it can be
interrupted, done again, and undone itself.

\b
Exit status:
  0  everything is as it was
  1  something was changed since and is left; or with --dry-run, something would be put back
  2  wrong usage or configuration, no such repair
  3  could not
"""


@click.command(epilog=EPILOG)
@click.argument("id_", required=False, metavar="[ID]", shell_complete=repair_ids)
@click.option("--last", is_flag=True, help="The newest repair that is not undone yet.")
@click.option("--dry-run", "-n", is_flag=True, help="Only show what would be put back.")
@options.yes_option
@click.option("--at", metavar="DIR", help="Where the repaired tree lies now, if not where it was.")
@options.live_option
@options.format_option("table", "json")
@options.host_option
@options.config_option
def command(
    id_: str | None,
    last: bool,
    dry_run: bool,
    yes: bool,
    at: str | None,
    live: bool,
    form: str,
    hosts: tuple[str, ...],
    config_file: str | None,
) -> int:
    """Take a repair back.

    ID is a repair's, as `permdoctor history` lists it, or its beginning or end.
    """
    if (id_ is None) == (not last):
        raise click.UsageError("which repair?  Give its ID, or --last")
    options.need_an_answer(apply=not dry_run, yes=yes, form=form)
    from permdoctor.app.undo import UndoRequest, undoing
    from permdoctor.cli.fix import carry_out, show, shown_status
    from permdoctor.cli.progress import ProgressBar

    request = UndoRequest(
        id=id_,
        last=last,
        dry_run=dry_run,
        at=None if at is None else options.host_path(at),
        live=live,
        hosts=hosts,
        options=_repeated(hosts, config_file, live),
        config=options.load_config(config_file),
    )
    with ExitStack() as stack:
        with ProgressBar() as bar:
            prepared = stack.enter_context(undoing(request, bar))
        if dry_run or (prepared.proposal.is_empty and prepared.again is None):
            show(prepared.proposal, None, form)
            return shown_status(prepared.proposal)
        return carry_out(prepared, yes=yes, form=form)


def _repeated(hosts: tuple[str, ...], config: str | None, live: bool) -> tuple[str, ...]:
    words = [w for h in hosts for w in ("--host", h)]
    words += [] if config is None else ["--config", os.path.abspath(config)]
    return (*words, *(["--live"] if live else []))
