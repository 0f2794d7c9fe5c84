"""What the running service says, asked at its unix socket: for users without root, too.

Nothing here looks at a container.  The socket is root's (or ours, in a test): SO_PEERCRED says who
listens, and nobody else is believed.
"""

from __future__ import annotations

import grp
import http.client
import os
import socket
import stat
import struct
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from permdoctor.config import Config
from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.kernel.text import printable
from permdoctor.render import service_document as doc
from permdoctor.render.document import CheckDoc
from permdoctor.render.service_json import View, decode

SECONDS: Final = 10.0
CHECK_SECONDS: Final = 75.0
"""The service gives up before."""

MAX_BYTES: Final = 256 * 1024 * 1024


class NoServiceError(CannotCheckError):
    """The service does not run, or we may not ask it."""


def socket_of(config: Config) -> str:
    """Raises ``UsageError`` where the service is configured without one."""
    if config.service.socket:
        return config.service.socket
    raise UsageError(
        "the service has no socket: service.socket is empty",
        hint="name one in the configuration, such as /run/permdoctor/status.sock",
    )


def status(path: str) -> doc.StatusDoc:
    """How the service is.  ``path`` is its socket's.  Raises ``NoServiceError``."""
    answer = _ask(path, "/v1/status", {}, SECONDS)
    assert isinstance(answer, doc.StatusDoc)
    return answer


def findings(path: str, *, container: str, code: str, ignored: bool) -> doc.FindingsDoc:
    """What it has found in containers whose names match the glob.  Raises ``NoServiceError``."""
    query = {"container": container, "code": code, "ignored": "1" if ignored else "0"}
    answer = _ask(path, "/v1/findings", query, SECONDS)
    assert isinstance(answer, doc.FindingsDoc)
    return answer


def checked(path: str, name: str, as_: View) -> doc.ViewDoc | CheckDoc:
    """A check that the service makes now.  Raises ``UsageError`` for a name that nobody knows,
    ``NoServiceError`` where nobody can be asked, and ``CannotCheckError``.
    """
    query = {"view": as_.form, "verbose": "1" if as_.verbose else "0"}
    if as_.width is not None:
        query["width"] = str(min(as_.width, 1000))
    answer = _ask(path, f"/v1/check/{quote(name, safe='')}", query, CHECK_SECONDS)
    assert isinstance(answer, doc.ViewDoc | CheckDoc)
    return answer


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket whose listener is root or we ourselves."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path, self._seconds = path, seconds

    def connect(self) -> None:
        """Where many ask at once it waits for its turn, as connect(2) does only if it may block."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._seconds))
        self.sock.connect(self._path)
        self.sock.settimeout(self._seconds)
        uid = _listener(self.sock)
        if uid not in (0, os.geteuid()):
            raise NoServiceError(
                f"{printable(self._path)} is not the service's: uid {uid} listens there"
            )


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


def _listener(sock: socket.socket) -> int:
    """Whose process called listen(2): unix(7)."""
    size = struct.calcsize("iII")
    _pid, uid, _gid = struct.unpack(
        "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(uid)


def _ask(path: str, what: str, query: Mapping[str, str], seconds: float) -> object:
    shown = printable(path)
    connection = _Connection(path, seconds)
    try:
        connection.request("GET", f"{what}?{urlencode(query)}")
        body = connection.getresponse().read(MAX_BYTES)
        answer = decode(body)
    except FileNotFoundError as e:
        raise NoServiceError(f"the service does not run: {shown} is not there", hint=_START) from e
    except ConnectionRefusedError as e:
        raise NoServiceError(
            f"the service does not run: nobody listens at {shown}", hint=_START
        ) from e
    except PermissionError as e:
        raise NoServiceError(f"you may not ask the service at {shown}", hint=_who_may(path)) from e
    except (TimeoutError, BlockingIOError) as e:
        raise CannotCheckError(f"the service has not answered within {seconds:g} s") from e
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as e:
        raise CannotCheckError(
            f"what answers at {shown} cannot be understood: {e or type(e).__name__}",
            hint="is the service as new as this program?  systemctl restart permdoctor",
        ) from e
    finally:
        connection.close()
    if isinstance(answer, doc.ErrorDoc):
        kind = UsageError if answer.usage else CannotCheckError
        raise kind(answer.error, hint=answer.hint or None)
    return answer


_START: Final = "systemctl start permdoctor, or permdoctor serve; --socket names another place"


def _who_may(path: str) -> str:
    """Which group, if the socket is open to one."""
    try:
        status = os.stat(path)
    except OSError:
        return "root may: sudo"
    if status.st_gid == 0 or not status.st_mode & stat.S_IWGRP:
        return "root may; service.socket_group in the configuration lets a group in"
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return f"root may, and the group {printable(group)}: usermod -aG {printable(group)} USER"
