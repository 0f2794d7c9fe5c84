"""``permdoctor check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from permdoctor.cli import asking, options
from permdoctor.cli.complete import container_names
from permdoctor.cli.output import emit, emit_lines, fail, for_terminal, note
from permdoctor.errors import PermdoctorError

if TYPE_CHECKING:
    from permdoctor.container.needs import Need
    from permdoctor.diagnosis.report import CheckResult

EPILOG = """\b
Examples:
  permdoctor check trainer
  permdoctor check --all --fail-on warning
  permdoctor check postgres --need /var/lib/postgresql/data=own
  permdoctor check trainer --deep --probe --format explain
  permdoctor check --pid 4242 --format json

What is needed: of a writable mount to read and write it, of a read-only one to read it.  --need,
the label permdoctor.need.PATH and the configuration change that for a path.

\b
Exit status:
  0  nothing found
  1  findings (from --fail-on on)
  2  wrong usage or configuration
  3  could not check everything that was asked for
"""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[CONTAINER]...", shell_complete=container_names)
@click.option("--all", "-a", "everything", is_flag=True, help="Every running container.")
@click.option(
    "--pid", "pids", type=click.IntRange(min=1), multiple=True, help="A process; no engine needed."
)
@click.option(
    "--need",
    "needs",
    multiple=True,
    metavar="PATH=NEED",
    callback=options.parse_needs,
    help="What is needed of a path: none, read, write, or own (also chmod and chown it).",
)
@click.option("--deep", is_flag=True, help="Read the whole tree of every mount, however large.")
@options.probe_option
@options.format_option(*options.FORMATS)
@click.option(
    "--fail-on",
    type=click.Choice(options.SEVERITIES),
    help="Severity from which on findings make the exit status 1.  [default: error]",
)
@click.option("--verbose", "-v", is_flag=True, help="Show informations too.")
@options.host_option
@options.config_option
def command(
    names: tuple[str, ...],
    everything: bool,
    pids: tuple[int, ...],
    needs: tuple[tuple[bytes, Need], ...],
    deep: bool,
    probe: bool,
    form: str,
    fail_on: str | None,
    verbose: bool,
    hosts: tuple[str, ...],
    config_file: str | None,
) -> int:
    """Say what is refused to containers on their mounts, why, and what helps.

    CONTAINER is a name or the beginning of an id.  Containers that do not run are judged from
    their configuration.
    """
    if not (names or pids or everything):
        raise click.UsageError("which container?  Name one, or use --all or --pid")
    if everything and (names or pids):
        raise click.UsageError("--all cannot be combined with names or --pid")
    from permdoctor.app.check import CheckRequest, check
    from permdoctor.cli.progress import ProgressBar

    config = options.load_config(config_file)
    request = CheckRequest(
        names=names,
        all=everything,
        pid=pids,
        hosts=hosts,
        needs=needs,
        deep=deep,
        probe=probe,
        config=config,
    )
    least = options.severity(fail_on or config.check.fail_on)
    result: CheckResult | PermdoctorError
    try:
        with ProgressBar() as progress:
            result = check(request, progress)
    except PermdoctorError as e:
        result = e
    if asking.service_could(request, result):
        status = asking.ask_for(request, form, verbose, least)
        if status is not None:
            return status
    if isinstance(result, PermdoctorError):
        raise result
    show(result, form, verbose)
    return result.exit_status(least)


def show(result: CheckResult, form: str, verbose: bool) -> None:
    """The result in one of the formats; what failed also as messages."""
    match form:
        case "json":
            from permdoctor.render.json import check_json

            emit(check_json(result))
        case "explain":
            from permdoctor.render.explain import explain

            emit_lines(explain(result, width=for_terminal()))
        case _:
            from permdoctor.render.table import table

            emit_lines(table(result, verbose=verbose, width=for_terminal()))
    for each in result.failed:
        fail(f"{each.what}: {each.reason}", each.hint)
    if not result.reports and not result.failed:
        note("permdoctor: nothing to check: no container runs")
