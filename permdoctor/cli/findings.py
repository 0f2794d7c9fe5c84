"""``permdoctor findings``."""

from __future__ import annotations

import click

from permdoctor.cli import asking, options
from permdoctor.cli.complete import codes, container_names
from permdoctor.cli.output import emit, emit_lines, for_terminal

EPILOG = """\b
Examples:
  permdoctor findings
  permdoctor findings --container 'train-*' --code PD101
  permdoctor findings --format json --ignored

\b
Exit status:
  0  nothing found
  1  findings (from --fail-on on); what is ignored does not count
  2  wrong usage or configuration
  3  the service does not run or answer; an engine is away; containers could not be judged
"""


@click.command(epilog=EPILOG)
@click.option(
    "--container",
    default="*",
    metavar="GLOB",
    shell_complete=container_names,
    help="Only of containers with such names.",
)
@click.option(
    "--code",
    default="",
    metavar="CODE",
    callback=asking.parse_code,
    shell_complete=codes,
    help="Only these: PD101.",
)
@click.option("--ignored", is_flag=True, help="Show those too that the configuration ignores.")
@click.option("--verbose", "-v", is_flag=True, help="Show informations too.")
@options.format_option("table", "json")
@asking.fail_on_option
@asking.socket_option
@options.config_option
def command(
    container: str,
    code: str,
    ignored: bool,
    verbose: bool,
    form: str,
    fail_on: str | None,
    socket: str | None,
    config_file: str | None,
) -> int:
    """What the service has found, since when, and what helps.  Needs no root.

    Nothing is judged now; `permdoctor check` does that.
    """
    from permdoctor.app import service
    from permdoctor.render import service as render
    from permdoctor.render.service_json import encode

    path, least = asking.place(socket, fail_on, config_file)
    answer = service.findings(path, container=container, code=code, ignored=ignored)
    if form == "json":
        emit(encode(answer))
    else:
        emit_lines(render.findings(answer, verbose=verbose or bool(code), width=for_terminal()))
    return render.findings_exit(answer, least)
