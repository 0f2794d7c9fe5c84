"""``permdoctor explain``."""

from __future__ import annotations

import click

from permdoctor import __version__
from permdoctor.cli import options
from permdoctor.cli.complete import container_then_path
from permdoctor.cli.output import emit, emit_lines, for_terminal

WANTS = ("read", "write", "create", "delete", "own", "execute")

EPILOG = """\b
Examples:
  permdoctor explain trainer /app/model
  permdoctor explain trainer /app/model/run.log --want write --want delete
  permdoctor explain --pid 4242 /var/lib/data --probe

\b
Exit status:
  0  everything asked for is allowed
  1  something is refused
  2  wrong usage or configuration
  3  could not check
"""


@click.command(epilog=EPILOG)
@click.argument(
    "words", nargs=-1, required=True, metavar="[CONTAINER] PATH", shell_complete=container_then_path
)
@click.option("--pid", type=click.IntRange(min=1), help="A process instead of a container.")
@click.option(
    "--want",
    "wants",
    type=click.Choice(WANTS),
    multiple=True,
    help="What to do with the path; may be repeated.",
)
@options.probe_option
@options.format_option("table", "json")
@options.host_option
@options.config_option
def command(
    words: tuple[str, ...],
    pid: int | None,
    wants: tuple[str, ...],
    probe: bool,
    form: str,
    hosts: tuple[str, ...],
    config_file: str | None,
) -> int:
    """Walk one PATH of a container as the kernel does, and say what decided at each component.

    PATH is absolute, as the container sees it.
    """
    container, path = _which(words, pid)
    from permdoctor.app.explain import explain

    explanation = explain(
        container=container,
        pid=pid,
        path=path,
        wants=wants,
        hosts=hosts,
        probe=probe,
        config=options.load_config(config_file),
    )
    if form == "json":
        from permdoctor.render.json import explanation_json

        emit(explanation_json(explanation, __version__))
    else:
        from permdoctor.render.walk import explanation as lines

        emit_lines(lines(explanation, width=for_terminal()))
    return options.FINDINGS if explanation.refused else options.NOTHING_FOUND


def _which(words: tuple[str, ...], pid: int | None) -> tuple[str | None, bytes]:
    """The container (none with ``--pid``) and the path, from what was written."""
    expected = 1 if pid is not None else 2
    if len(words) != expected:
        raise click.UsageError("give CONTAINER PATH, or --pid PID PATH")
    return (words[0] if pid is None else None), options.absolute_path(words[-1])
