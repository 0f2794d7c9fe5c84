"""``permdoctor serve``."""

from __future__ import annotations

import os

import click

from permdoctor.cli import options

EPILOG = """\b
Examples:
  permdoctor serve
  permdoctor serve --config /etc/permdoctor --host unix:///run/podman/podman.sock

Every container is judged when it starts, again when it has settled, and whenever something that
matters changes.  Who is told, and what may be repaired unasked, is in the configuration.  Nothing
is changed without a table of [[repair.unasked]].

\b
Signals:
  SIGHUP            take the changed configuration; a wrong one is refused, the old one stays
  SIGTERM, SIGINT   end, within seconds

\b
Exit status:
  0  ended by a signal
  2  wrong usage or configuration; another one serves already
  3  the machine does not let it serve
"""


@click.command(epilog=EPILOG)
@options.host_option
@options.config_option
def command(hosts: tuple[str, ...], config_file: str | None) -> int:
    """The service: watch the engines, judge what starts, tell who must know."""
    from permdoctor.daemon.serve import serve

    return serve(config_file, hosts, os.environ)
