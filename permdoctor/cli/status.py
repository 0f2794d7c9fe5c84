"""``permdoctor status``."""

from __future__ import annotations

import click

from permdoctor.cli import asking, options
from permdoctor.cli.output import emit, emit_lines, for_terminal

EPILOG = """\b
Exit status:
  0  the service works and has found nothing
  1  it has findings (from --fail-on on)
  2  wrong usage or configuration
  3  it does not run or answer, or is in trouble: an engine is away, alerts fail, ...;
     containers could not be judged
"""


@click.command(epilog=EPILOG)
@options.format_option("table", "json")
@asking.fail_on_option
@asking.socket_option
@options.config_option
def command(form: str, fail_on: str | None, socket: str | None, config_file: str | None) -> int:
    """How the service is: engines, containers, findings, alerts.  Needs no root.

    Who may ask is the group of the service's socket (service.socket_group).
    """
    from permdoctor.app import service
    from permdoctor.render import service as render
    from permdoctor.render.service_json import encode

    path, least = asking.place(socket, fail_on, config_file)
    answer = service.status(path)
    if form == "json":
        emit(encode(answer))
    else:
        emit_lines(render.status(answer, width=for_terminal()))
    return render.status_exit(answer, least)
