"""``permdoctor alert``."""

from __future__ import annotations

import os

import click

from permdoctor.cli import options
from permdoctor.cli.output import emit_lines

EPILOG = """\b
Examples:
  permdoctor alert test
  permdoctor alert test --sink pagerduty

\b
Exit status:
  0  every sink took the test and its resolve
  2  wrong usage or configuration, a secret that cannot be read
  3  a sink did not take it
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Telling people: try the sinks of the configuration."""


@command.command("test", epilog=EPILOG)
@click.option("--sink", "only", metavar="NAME", help="Only this one.  Default: all.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for all of them.",
)
@options.config_option
def test(only: str | None, timeout: float, config_file: str | None) -> int:
    """Send a test alert, and that it is resolved, through the same path as real ones."""
    from permdoctor.app.try_alerts import try_alerts
    from permdoctor.render.layout import Style, columns, span

    tried = try_alerts(options.load_config(config_file), only, os.environ, timeout=timeout)
    emit_lines(
        columns(
            [
                (
                    span(t.sink),
                    span("failed" if t.failed else "told", Style.ERROR if t.failed else Style.GOOD),
                    span(t.failed or f"firing and resolved in {t.seconds:.2f} s"),
                )
                for t in tried
            ]
        )
    )
    return options.COULD_NOT if any(t.failed for t in tried) else options.NOTHING_FOUND
