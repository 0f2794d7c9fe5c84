"""The service's log: structlog, one event a line on stderr.

``auto``: logfmt; for people, with colours, on a terminal.  Under systemd each line begins with its
priority (sd-daemon(3)) and has no time of its own, which the journal keeps.

Whatever stands in an event or its fields, it stays one line without control or bidi characters,
of bounded length.  Values of fields that are called like secrets, and of URLs what follows the
host, are not written.  What cannot be written is lost: the log never stops the service.
"""

from __future__ import annotations

import logging
import os
import re
import select
import threading
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, cast

from permdoctor.config import Log as Config
from permdoctor.daemon.events import Log
from permdoctor.kernel.text import clean, printable

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Form = Literal["logfmt", "json", "console"]

PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)."""

HIDDEN: Final = "***"
MAX_TEXT: Final = 2048
MAX_LINE: Final = 8192
"""Characters of one value, and of all of them: less than the journal's LineMax= of 48 KiB, beyond
which it would begin another entry in the middle of what somebody chose.
"""

_PATIENCE: Final = 1.0
"""Seconds that whoever reads the log may keep the service waiting."""

_OURS: Final = ("event", "level", "timestamp")
_NO_KEY = re.compile(r"[^A-Za-z0-9_.-]")
_SECRET = re.compile(r"(secret|token|passw|authori[sz]ation|routing_key|api_?key|cookie)", re.I)
_POINTS_AT_ONE: Final = ("_file", "_env")
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>]*)")
_LOCAL: Final = ("unix", "file", "tcp", "npipe")
"""Schemes of engines: nothing in them is secret but a user's password."""


def configure(config: Config, environ: Mapping[str, str], stderr: TextIO) -> None:
    """Everything that is logged from now on, by libraries too, goes there.  May be called again."""
    import structlog

    journal = is_journal(environ, stderr)
    form = _form(config.format, journal, stderr)
    stream = _Stream(stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *([] if journal else [_stamper(form)]),
            _fault,
            _safe,
            _renderer(form, color=not environ.get("NO_COLOR")),
            _prefixed if journal else _as_it_is,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=lambda *_: stream,
        cache_logger_on_first_use=False,
    )
    _take_over()


def logger(**fields: object) -> FilteringBoundLogger:
    """A logger with these fields in each of its lines."""
    import structlog

    return cast("FilteringBoundLogger", structlog.get_logger(**fields))


def write(command: Log) -> None:
    """What the reconciler has to say."""
    say(command.level, command.event, dict(command.fields))


def say(level: str, event: str, fields: Mapping[str, object]) -> None:
    """``level`` as structlog's; an unknown one is an error.  What ``alerts.Outbox`` is given."""
    known = level if level in PRIORITIES else "error"
    kept = {(f"field_{k}" if k in _OURS else k): v for k, v in fields.items()}
    getattr(logger().bind(**kept), known)(event)


def is_journal(environ: Mapping[str, str], stderr: TextIO) -> bool:
    """Whether stderr is connected to the journal: systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def without_secrets(text: str) -> str:
    """URLs without what may carry a secret: users, paths, queries; of chat services all of it."""
    return _URL.sub(_shortened, text)


def _form(wanted: Literal["auto", "logfmt", "json", "console"], journal: bool, to: TextIO) -> Form:
    if wanted != "auto":
        return wanted
    return "console" if not journal and to.isatty() else "logfmt"


def _stamper(form: Form) -> Any:
    import structlog

    if form == "console":
        return structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    return structlog.processors.TimeStamper(fmt="iso", utc=True)


def _renderer(form: Form, *, color: bool) -> Any:
    import structlog

    match form:
        case "json":
            return structlog.processors.JSONRenderer(ensure_ascii=False)
        case "console":
            return structlog.dev.ConsoleRenderer(colors=color, pad_event_to=0, sort_keys=False)
        case "logfmt":
            return structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event"], drop_missing=True, bool_as_flag=False
            )


# --- processors ---


def _fault(_logger: object, _name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """An exception as two fields instead of a traceback."""
    given = event.pop("exc_info", None)
    if given is True:
        import sys

        given = sys.exception()
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["error"] = f"{type(given).__name__}: {given}"
        event["at"] = _where(given)
    return event


def _where(e: BaseException) -> str:
    """The innermost frame."""
    trace = e.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    return f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}"


def _safe(_logger: object, _name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Ours first: what is too much is left out at the end, and that is said."""
    ours = {key: event.pop(key) for key in _OURS if key in event}
    safe: dict[str, Any] = {}
    room = MAX_LINE
    for key, value in (*ours.items(), *event.items()):
        name = _NO_KEY.sub("_", str(key)[:64]) or "_"
        hidden = _SECRET.search(name) is not None and not name.endswith(_POINTS_AT_ONE)
        shown = HIDDEN if hidden else _value(value)
        room -= len(name) + len(str(shown))
        if room < 0:
            return safe | {"cut": True}
        safe[name] = shown
    return safe


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return printable(value[:MAX_TEXT])[:MAX_TEXT]
    text = without_secrets(str(value)[:MAX_TEXT])
    return clean(text).replace("\n", "\\x0a")[:MAX_TEXT]


def _shortened(found: re.Match[str]) -> str:
    scheme, rest = found[1], found[2]
    if scheme.lower() in _LOCAL:
        user, at, place = rest.rpartition("@")
        return f"{scheme}://{HIDDEN}@{place}" if at and user else found[0]
    if scheme.lower() not in ("http", "https"):
        return f"{scheme}://{HIDDEN}"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    place = authority.rpartition("@")[2]
    return f"{scheme}://{place}" + (f"/{HIDDEN}" if rest.rstrip("/") != place else "")


def _prefixed(_logger: object, name: str, line: Any) -> str:
    return f"<{PRIORITIES.get(name, 3)}>{line}"


def _as_it_is(_logger: object, _name: str, line: Any) -> str:
    return str(line)


class _Stream:
    """What structlog hands finished lines to.  Who reads them may be slow for a second; then lines
    are lost until that one reads again, and their number is said.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._lost = 0
        self._half = False

    def msg(self, line: str) -> None:
        text = f"{line}\n".encode(self._stream.encoding or "utf-8", "backslashreplace")
        with self._lock:
            try:
                written = self._write(text)
            except (OSError, ValueError):
                return
            lost = self._lost
            self._lost = 0 if written else lost + 1
        if lost and written:
            logger().warning("log lines are lost: nobody read them", number=lost)

    debug = info = warning = error = critical = msg

    def _write(self, text: bytes) -> bool:
        """False: there is no room.  A part at a time, for which there is some where poll(2) says so
        (pipe(7), PIPE_BUF).
        """
        try:
            fd = self._stream.fileno()
        except OSError:  # no file: in memory
            self._stream.write(text.decode(self._stream.encoding or "utf-8"))
            self._stream.flush()
            return True
        left = b"\n" + text if self._half else text
        while left:
            if not _has_room(fd, 0.0 if self._lost else _PATIENCE):
                self._half = self._half or len(left) < len(text)
                return False
            left = left[os.write(fd, left[: select.PIPE_BUF]) :]
        self._half = False
        return True


def _has_room(fd: int, seconds: float) -> bool:
    waits = select.poll()
    waits.register(fd, select.POLLOUT)
    return bool(waits.poll(seconds * 1000))


# --- what others log ---


class _Bridge(logging.Handler):
    """Libraries log with the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = record.levelname.lower()
            say(level, record.getMessage(), {"from": record.name})
        except Exception:  # noqa: BLE001 - a library's bad format string
            return


def _take_over() -> None:
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Bridge)]:
        root.removeHandler(old)
    root.addHandler(_Bridge())
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def _thread_died(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else "?"
    logger().error("a thread has died", thread=name, exc_info=args.exc_value)
