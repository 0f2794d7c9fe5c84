"""``permdoctor systemd``: the service's units, and what they may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from permdoctor.cli import options
from permdoctor.cli.output import emit, note

if TYPE_CHECKING:
    from permdoctor.app.systemd.install import File

EPILOG = """\b
Examples:
  permdoctor systemd install --now     write the units, enable the service and start it
  permdoctor systemd drop-in           what the configuration needs beyond them
  permdoctor systemd drop-in --write
  systemctl enable --now permdoctor-check.timer     instead of the service: a check every hour

\b
Exit status:
  0  done; with status: everything is as it should be
  1  with status: something is not
  2  a unit was edited, or others than root could change the program
  3  could not
"""

dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would be done.")
root_option = click.option(
    "--root",
    metavar="DIR",
    default="/",
    help="Where the machine's files are, if not at /: an image that is being made.",
)


@click.group(epilog=EPILOG)
def command() -> None:
    """Run permdoctor as a service of systemd: install, uninstall, status, drop-in.

    Works from an installation with pipx or uv that only root can write to.  Asks nothing.
    """


@command.command()
@click.option("--now", is_flag=True, help="Enable the service and start it.")
@dry_run_option
@root_option
@options.config_option
def install(now: bool, dry_run: bool, root: str, config_file: str | None) -> int:
    """Write the units to /etc/systemd/system, with the path of this program.

    What is there already as it should be is left alone; what was edited is not replaced.
    """
    from permdoctor.app.systemd import install as systemd

    if now and (dry_run or root != "/"):
        raise click.UsageError("--now cannot be combined with --dry-run or --root")
    config = options.load_config(config_file)
    found = systemd.install(config, root=root, dry_run=dry_run)
    _say_written(found.units, dry_run=dry_run)
    for file in (f for f in found.drop_ins if not f.is_right):
        less = "another drop-in" if file.needed else "no drop-in any more"
        note(f"permdoctor: the configuration needs {less}: permdoctor systemd drop-in --write")
    if not config.alerts.sinks:
        note("permdoctor: no [[alerts...]] is configured: what it finds is only shown, by")
        note("permdoctor: `permdoctor findings`, its log and /metrics")
    if now:
        systemd.start()
        emit("started: permdoctor.service\n")
    elif not dry_run:
        note("permdoctor: to start it, now and at each boot: systemctl enable --now permdoctor")
    return options.NOTHING_FOUND


@command.command()
@dry_run_option
@root_option
def uninstall(dry_run: bool, root: str) -> int:
    """Stop the service, and remove exactly what install and drop-in wrote.

    Configuration and journals stay.
    """
    from permdoctor.app.systemd import install as systemd

    paths = systemd.uninstall(root=root, dry_run=dry_run)
    word = "would remove" if dry_run else "removed"
    emit("".join(f"{word}: {p}\n" for p in paths) or "nothing of it is there\n")
    return options.NOTHING_FOUND


@command.command()
@root_option
@options.config_option
def status(root: str, config_file: str | None) -> int:
    """Say what is installed, whether it is as it should be, and whether it runs."""
    from permdoctor.app.systemd import install as systemd

    found = systemd.look(options.load_config(config_file), root=root)
    for file in found.units:
        emit(f"{file.found.value:<10} {file.path}\n")
    for file in found.drop_ins:
        emit(f"{_drop_in_word(file):<10} {file.path}\n")
    for unit in found.running:
        emit(f"{unit.active:<10} {unit.name} ({unit.enabled})\n")
    return options.NOTHING_FOUND if found.complete else options.FINDINGS


@command.command("drop-in")
@click.option("--write", is_flag=True, help="Write it where systemd reads it, and reload systemd.")
@dry_run_option
@root_option
@options.config_option
def drop_in(write: bool, dry_run: bool, root: str, config_file: str | None) -> int:
    """Print what the service may do beyond reading, from the configuration, and for the timer's
    check what it needs to reach rootless engines and TCP ports.

    repair.roots become its writable paths, with the capabilities that repair needs.  Where nothing
    is needed any more, --write removes it.
    """
    from permdoctor.app.systemd import install as systemd
    from permdoctor.app.systemd.dropin import DROP_INS
    from permdoctor.app.systemd.units import SERVICE

    config = options.load_config(config_file)
    if config.repair.roots and not config.repair.unasked:
        note(
            "permdoctor: repair.unasked is empty: the service repairs nothing, and needs none of "
            "the rights for it"
        )
    if not write:
        for name, (text, is_needed) in DROP_INS.items():
            if name == SERVICE or is_needed(config):
                emit(text(config) if name == SERVICE else f"\n# {name}\n{text(config)}")
        return options.NOTHING_FOUND
    found = systemd.write_drop_ins(config, root=root, dry_run=dry_run)
    for file in found.drop_ins:
        _say_drop_in(file, dry_run=dry_run)
    if not dry_run:
        note("permdoctor: it holds after: systemctl restart permdoctor")
    return options.NOTHING_FOUND


def _say_written(files: tuple[File, ...], *, dry_run: bool) -> None:
    for file in files:
        if file.found.value == "current":
            emit(f"unchanged: {file.path}\n")
        elif dry_run:
            emit(f"would write: {file.path}\n{file.text}\n")
        else:
            emit(f"wrote: {file.path}\n")


def _say_drop_in(file: File, *, dry_run: bool) -> None:
    if file.needed:
        _say_written((file,), dry_run=dry_run)
    elif file.found.value == "missing":
        emit(f"not needed: {file.path}\n")
    else:
        emit(f"{'would remove' if dry_run else 'removed'}: {file.path}\n")


def _drop_in_word(file: File) -> str:
    if file.needed:
        return file.found.value
    return "not needed" if file.found.value == "missing" else "too much"
