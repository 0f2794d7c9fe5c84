"""``permdoctor completion``: the script that a shell sources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from permdoctor.cli.output import emit
from permdoctor.cli.root import PROGRAM, root

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PERMDOCTOR_COMPLETE"

EPILOG = """\b
Install it:
  bash  permdoctor completion bash > /etc/bash_completion.d/permdoctor
  zsh   permdoctor completion zsh > "${fpath[1]}/_permdoctor"
  fish  permdoctor completion fish > ~/.config/fish/completions/permdoctor.fish
"""


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print the completion script for a SHELL: bash, zsh or fish."""
    completion = get_completion_class(shell)
    assert completion is not None
    emit(completion(root, {}, PROGRAM, VARIABLE).source() + "\n")
    return 0
