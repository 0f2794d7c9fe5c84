"""``permdoctor demo``."""

from __future__ import annotations

import click

from permdoctor.cli import options
from permdoctor.cli.check import show
from permdoctor.cli.leftover import tell_interrupted


@click.command()
@options.format_option("explain", "table", "json")
def command(form: str) -> int:
    """Build a throwaway container out of kernel namespaces and diagnose it.

    Its process is 1001:1001 and wants to save a model in a directory of root's: the most common
    fault there is.  Needs no engine, and touches nothing outside its own temporary directory.
    """
    tell_interrupted()
    from permdoctor.app.demo import demo

    show(demo(), form, verbose=True)
    return 0
