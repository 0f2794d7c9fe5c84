"""``permdoctor config``: what is configured, whether it is right, and how to begin."""

from __future__ import annotations

import os

import click

from permdoctor.cli import options
from permdoctor.cli.output import emit, fail, note
from permdoctor.errors import UsageError

EPILOG = """\b
Exit status:
  0  the configuration is right
  2  something is wrong in it, or it may be written by others
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Check, show and begin the configuration.

    It is read from /etc/permdoctor: config.toml, then conf.d/*.toml.  --config names another such
    directory, or one file, which is then all of it.
    """


@command.command()
@options.config_option
def check(config_file: str | None) -> int:
    """Say everything that is wrong in the configuration.

    What the service would refuse is wrong, too: a secret's file that cannot be read.  What is right
    but will not work as it is meant on this machine (a root that is a symlink) is said; that does
    not change the exit status.
    """
    from permdoctor.app.configuration import concerns, refused
    from permdoctor.config import read

    loaded = read(config_file, os.environ)
    for concern in concerns(loaded.config):
        note(f"permdoctor: warning: {concern}")
    if wrong := tuple(refused(loaded.config, os.environ)):
        for each in wrong:
            fail(each.message, each.hint)
        return UsageError.exit_status
    files = [s.file for s in loaded.sources]
    emit("".join(f"ok: {f}\n" for f in files) or "ok: no configuration, the defaults hold\n")
    return options.NOTHING_FOUND


@command.command()
@options.config_option
@click.option("--origin", is_flag=True, help="Say of each value where it was set.")
def show(config_file: str | None, origin: bool) -> int:
    """Show the configuration that holds, defaults included, as TOML.

    What may carry a secret is shown as ***: paths of URLs, arguments of programs.
    """
    from permdoctor.config import read
    from permdoctor.config.merge import origins
    from permdoctor.config.show import as_toml

    loaded = read(config_file, os.environ)
    emit(as_toml(loaded.config, origins(loaded.sources) if origin else None))
    return options.NOTHING_FOUND


@command.command()
def schema() -> int:
    """Print the JSON schema of the configuration, for editors."""
    from permdoctor.config.schema import SCHEMA_FILE, shipped

    emit(shipped(SCHEMA_FILE))
    return options.NOTHING_FOUND


@command.command()
@click.argument("file", required=False)
def init(file: str | None) -> int:
    """Write the commented example, with every key and its default, to FILE.

    Without FILE to /etc/permdoctor/config.toml.  Nothing is ever overwritten.
    """
    from permdoctor.app.configuration import init as write
    from permdoctor.config.files import DEFAULT_DIR, MAIN

    target = file or os.path.join(DEFAULT_DIR, MAIN)
    write(target)
    note(f"permdoctor: wrote {target}")
    return options.NOTHING_FOUND
