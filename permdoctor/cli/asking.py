"""What the commands share that ask the service instead of looking themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from permdoctor.cli import options
from permdoctor.cli.output import emit, emit_lines, for_terminal, note
from permdoctor.errors import CannotCheckError, PermdoctorError, UsageError

if TYPE_CHECKING:
    from permdoctor.app.check import CheckRequest
    from permdoctor.diagnosis.report import CheckResult, Severity

F = TypeVar("F", bound=Callable[..., Any])


def fail_on_option(command: F) -> F:
    return click.option(
        "--fail-on",
        type=click.Choice(options.SEVERITIES),
        help="Severity from which on findings make the exit status 1.  [default: error]",
    )(command)


def socket_option(command: F) -> F:
    return click.option(
        "--socket",
        metavar="FILE",
        help="The service's socket; the configuration is not read then.",
    )(command)


def place(socket: str | None, fail_on: str | None, config_file: str | None) -> tuple[str, Severity]:
    """Where to ask, and the severity from which on findings make the exit status 1."""
    from permdoctor.app.service import socket_of

    if socket is not None:
        return socket, options.severity(fail_on or "error")
    config = options.load_config(config_file)
    return socket_of(config), options.severity(fail_on or config.check.fail_on)


def parse_code(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A callback for a finding's code or name."""
    from permdoctor.diagnosis.codes import CODES

    for code in CODES.values():
        if value.upper() == code.code or value.lower() == code.name:
            return code.code
    if value:
        raise click.BadParameter(f"{value!r} is no code; `permdoctor codes` lists them", ctx, param)
    return ""


def service_could(request: CheckRequest, result: CheckResult | PermdoctorError) -> bool:
    """Whether the service can say more than this: we are not root, it is one container, without
    wishes of its own, and could not be judged with our rights.
    """
    if os.geteuid() == 0 or len(request.names) != 1:
        return False
    if request.hosts or request.needs or request.deep or request.probe:
        return False
    if isinstance(result, PermdoctorError):
        return isinstance(result, CannotCheckError)
    return any(not r.judged for r in result.reports)


def ask_for(request: CheckRequest, form: str, verbose: bool, least: Severity) -> int | None:
    """The service's check of the container, shown; its exit status.  ``None``: it does not run, or
    we may not ask it.
    """
    from permdoctor.app import service
    from permdoctor.render.document import CheckDoc
    from permdoctor.render.service import check_exit
    from permdoctor.render.service_json import View, encode, lines_of

    as_ = View(form=_form(form), verbose=verbose, width=for_terminal())
    try:
        answer = service.checked(service.socket_of(request.config), request.names[0], as_)
    except (service.NoServiceError, UsageError):
        return None
    if isinstance(answer, CheckDoc):
        emit(encode(answer))
    else:
        emit_lines(lines_of(answer))
    note(f"permdoctor: uid {os.geteuid()} may not look itself: this is the service's answer")
    return check_exit(answer, least)


def _form(form: str) -> Literal["json", "table", "explain"]:
    match form:
        case "json" | "explain":
            return form
        case _:
            return "table"
