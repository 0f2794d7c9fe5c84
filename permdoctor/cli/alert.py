"""``permdoctor alert``."""

from __future__ import annotations

import os

import click

from permdoctor.cli import options
from permdoctor.cli.complete import sinks
from permdoctor.cli.output import emit, emit_lines, note

EPILOG = """\b
Examples:
  permdoctor alert test
  permdoctor alert test --sink pagerduty
  permdoctor alert test --hold 90        where Alertmanager's group_wait is 1m
  permdoctor alert schema                what webhooks and commands are sent

\b
Exit status:
  0  every sink took the test and its resolve
  2  wrong usage or configuration, a secret that cannot be read
  3  a sink did not take it
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Telling people: try the sinks of the configuration, and what they are sent."""


@command.command("test", epilog=EPILOG, short_help="Send a test alert the real way.")
@click.option(
    "--sink", "only", metavar="NAME", shell_complete=sinks, help="Only this one.  Default: all."
)
@click.option(
    "--hold",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long it fires before it is resolved.  Default: 45 where Alertmanager or PagerDuty is "
    "among them, which tell nobody of what is over at once; else 0.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until all of them have taken it, and again for the resolve.",
)
@options.config_option
def test(only: str | None, hold: float | None, timeout: float, config_file: str | None) -> int:
    """Send a test alert, and that it is resolved, through the same path as real ones.

    "told" means that the sink has taken both; whom it tells then, and when, is its own.
    """
    from permdoctor.app.try_alerts import Tried, try_alerts
    from permdoctor.render.layout import Style, columns, span

    def outcome(of: Tried) -> str:
        if of.failed:
            return of.failed
        expect = f": {of.expect}" if of.expect else ""
        return f"taken in {of.seconds:.2f} s, resolved after {of.held:.1f} s{expect}"

    tried = try_alerts(
        options.load_config(config_file), only, os.environ, timeout=timeout, hold=hold, say=note
    )
    emit_lines(
        columns(
            [
                (
                    span(t.sink),
                    span("failed" if t.failed else "told", Style.ERROR if t.failed else Style.GOOD),
                    span(outcome(t)),
                )
                for t in tried
            ]
        )
    )
    return options.COULD_NOT if any(t.failed for t in tried) else options.NOTHING_FOUND


@command.command("schema", short_help="The JSON schema of an alert.")
def schema() -> int:
    """Print the JSON schema of an alert: a webhook's "data", and what a command gets on stdin."""
    from permdoctor.alerts.document import schema_text

    emit(schema_text())
    return options.NOTHING_FOUND
