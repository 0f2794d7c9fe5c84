"""``permdoctor codes``: the catalogue, and a page for each finding."""

from __future__ import annotations

import importlib.resources

import click

from permdoctor.cli.complete import codes
from permdoctor.cli.leftover import tell_interrupted
from permdoctor.cli.output import emit, emit_lines
from permdoctor.diagnosis.codes import CODES, Code
from permdoctor.render.layout import columns, span
from permdoctor.render.table import STYLES


@click.command()
@click.argument("code", required=False, shell_complete=codes)
def command(code: str | None) -> int:
    """List the findings, or explain one: CODE is PD101, or its name, write-refused."""
    tell_interrupted()
    if code is None:
        emit_lines(
            columns(
                [
                    (
                        span(c.code),
                        span(c.severity.name.lower(), STYLES[c.severity]),
                        span(c.name),
                        span(c.title),
                    )
                    for c in CODES.values()
                ]
            )
        )
        return 0
    emit(page(_find(code)))
    return 0


def page(code: Code) -> str:
    """The page of a code, from ``diagnosis/pages``."""
    pages = importlib.resources.files("permdoctor.diagnosis").joinpath("pages")
    return pages.joinpath(f"{code.code}.md").read_text("utf-8")


def _find(wanted: str) -> Code:
    for code in CODES.values():
        if wanted.upper() == code.code or wanted.lower() == code.name:
            return code
    import difflib

    known = [c.code for c in CODES.values()] + [c.name for c in CODES.values()]
    near = difflib.get_close_matches(wanted, known, 1) or difflib.get_close_matches(
        wanted.upper(), known, 1
    )
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise click.UsageError(f"no such code: {wanted}{hint}")
