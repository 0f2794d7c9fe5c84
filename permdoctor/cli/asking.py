"""What the commands share that ask the service instead of looking themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from msgspec.structs import replace

from permdoctor.cli import options
from permdoctor.cli.output import emit, emit_lines, fail, for_terminal, note
from permdoctor.errors import CannotCheckError, PermdoctorError, UsageError

if TYPE_CHECKING:
    from permdoctor.app.check import CheckRequest
    from permdoctor.diagnosis.report import CheckResult, Severity
    from permdoctor.render.document import CheckDoc
    from permdoctor.render.service_document import ViewDoc

    Answer = ViewDoc | CheckDoc

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
    from permdoctor.config import Config

    if socket is not None:
        return socket, options.severity(fail_on or "error")
    try:
        config = options.load_config(config_file)
    except UsageError as e:
        if config_file is not None:
            raise
        config = Config()  # a wrong one is no reason not to say how the service is
        note(f"permdoctor: warning: {e.message}")
        note(f"permdoctor: asking at {config.service.socket}, where the service is by default")
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
    """Whether the service can say more than this: we are not root, containers were named, without
    wishes of their own, and could not be judged with our rights.
    """
    if os.geteuid() == 0 or not request.names:
        return False
    if request.hosts or request.needs or request.deep or request.probe:
        return False
    if isinstance(result, PermdoctorError):
        return isinstance(result, CannotCheckError)
    return bool(result.failed) or any(not r.judged for r in result.reports)


def ask_for(request: CheckRequest, form: str, verbose: bool, least: Severity) -> int | None:
    """The service's check of the containers, shown; the exit status.  ``None``: it does not run,
    or we may not ask it.  Raises ``UsageError`` for a single one that it does not know.
    """
    from permdoctor.app import service
    from permdoctor.render.service import check_exit
    from permdoctor.render.service_json import View

    path = request.config.service.socket
    if not path:
        return None
    as_ = View(form=_form(form), verbose=verbose, width=for_terminal())
    answers: list[Answer] = []
    failed = 0
    for name in request.names:
        try:
            answers.append(service.checked(path, name, as_))
        except service.NoServiceError:
            return None
        except PermdoctorError as e:
            if len(request.names) == 1:
                raise
            fail(e.message, e.hint)
            failed = options.COULD_NOT
    _show(answers)
    note(f"permdoctor: uid {os.geteuid()} may not look itself: this is the service's answer")
    statuses = {check_exit(answer, least) for answer in answers} | {failed}
    return options.FINDINGS if options.FINDINGS in statuses else max(statuses)


def _show(answers: list[Answer]) -> None:
    """One document, or the lines of all."""
    from permdoctor.render.document import CheckDoc
    from permdoctor.render.service_json import encode, lines_of

    whole: CheckDoc | None = None
    for answer in answers:
        if not isinstance(answer, CheckDoc):
            emit_lines(lines_of(answer))
        elif whole is None:
            whole = answer
        else:
            reports, failed = whole.reports + answer.reports, whole.failed + answer.failed
            whole = replace(whole, reports=reports, failed=failed)
    if whole is not None:
        emit(encode(whole))


def _form(form: str) -> Literal["json", "table", "explain"]:
    match form:
        case "json" | "explain":
            return form
        case _:
            return "table"
