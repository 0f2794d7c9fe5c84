"""The command group.  A command's module is imported when the command is run."""

from __future__ import annotations

import importlib

import click

from permdoctor import __version__

PROGRAM = "permdoctor"

COMMANDS = {
    "check": "What each container's processes may do to each mount, why not, and what helps.",
    "explain": "One path of one container, component by component.",
    "fix": "Repair what is refused: a plan first, and with --apply exactly that plan.",
    "undo": "Take a repair back.",
    "history": "What was repaired and undone on this host.",
    "status": "How the service is, and what it has found.",
    "findings": "What the service has found, since when, and what helps.",
    "serve": "The service: watch the engines, judge what starts, tell who must know.",
    "alert": "Try the sinks that people are told by.",
    "config": "The configuration: check, show, schema, init.",
    "systemd": "The service's units: install, uninstall, status, drop-in.",
    "demo": "A throwaway container with a typical fault, diagnosed.  Needs no engine.",
    "codes": "The findings, and a page of text for each.",
    "completion": "The completion script for a shell.",
}

EXAMPLES = """\b
Examples:
  permdoctor check trainer                 what is refused to it, and what helps
  permdoctor check --all --fail-on warning every running container
  permdoctor check --pid 4242              any process, no engine needed
  permdoctor explain trainer /app/model --want write
  permdoctor fix trainer                   what would be changed; --apply does it
  permdoctor undo --last                   take it back
  permdoctor codes PD101                   what a finding means
"""

EXIT_STATUS = """\b
Exit status:
  0  nothing found; repaired; everything is as it was
  1  findings (from --fail-on on; by default errors only); a plan was shown; something is left
  2  wrong usage or configuration; repair is not allowed there
  3  could not (engine down, no permission, process gone)
"""

EPILOG = f"{EXAMPLES}\n{EXIT_STATUS}"


class LazyGroup(click.Group):
    """Knows its commands by name; ``permdoctor.cli.NAME`` holds ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"permdoctor.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A wrong command's name gets the near ones."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise click.UsageError(f"no such command: {args[0]}{hint}", ctx) from e


def _version(ctx: click.Context) -> None:
    from permdoctor.cli.output import emit

    emit(f"{PROGRAM} {__version__}\n")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    name=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
    no_args_is_help=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _param, wanted: _version(ctx) if wanted else None,
    help="Show the version and exit.",
)
def root() -> None:
    """Say what a container may do to each of its mounts, why not, and what helps.

    permdoctor reads the facts from the host (who the container's processes really are, what is
    mounted, who owns it) and asks the kernel's own permission rules.  It needs nothing in the
    image, and only `fix --apply` and `undo` change anything.
    """
