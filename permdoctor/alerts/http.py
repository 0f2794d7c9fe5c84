"""One POST to a receiver, and what its answer means.

Direct sockets, because the promises are about them: the address that is connected to is the one
that was checked (``address.py``), no redirect is followed, no proxy is asked, TLS is verified
against the name in the URL, one deadline holds for everything from the name's lookup to the
answer's last byte, and no more is read of an answer than is looked at.
"""

from __future__ import annotations

import email.utils
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from msgspec import Struct

from permdoctor import __version__
from permdoctor.alerts.address import refusal
from permdoctor.alerts.secret import Secret, hide
from permdoctor.alerts.sink import RetryError, UndeliverableError
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

MAX_HEAD: Final = 64 << 10
MAX_BODY: Final = 4 << 10
"""How much is read of an answer's head, and of what an error has to say."""

MAX_HOST: Final = 253
"""RFC 1035, as text; and what Python makes of a name takes its time."""

_EXCERPT: Final = 200
_SEGMENT: Final = 8
"""Characters of a path's segment that may be a key; shorter ones are words."""

_BODY_SECONDS: Final = 2.0
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)(?: |\r|$)")
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"

_ABOUT_THE_SINK: Final = frozenset({401, 403, 404, 407, 408, 421, 425, 429})
"""Refusals that say nothing of the alert: a wrong key or path, too early, too many."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class Url(Struct, frozen=True, kw_only=True):
    """Where to.  ``target`` is path and query as they go on the wire, which
    hold the key of many a service.
    """

    secure: bool
    host: str
    port: int
    target: Secret

    @property
    def shown(self) -> str:
        """For errors and logs: without path and query."""
        return f"http{'s' if self.secure else ''}://{self.authority}"

    @property
    def keys(self) -> tuple[Secret, ...]:
        """What an answer must not repeat into a log: path and query, whole and in their parts, as
        they are sent and as a receiver decodes them.  The longest first.
        """
        path, _, query = self.target.reveal().partition("?")
        values = [value for _, value in parse_qsl(query, errors="replace")]
        words = [
            *(word for word in (self.target.reveal(), path, query) if word.strip("/")),
            *(segment for segment in path.split("/") if len(segment) >= _SEGMENT),
            *(
                form
                for value in values
                for form in (value, quote(value, safe=""), quote_plus(value))
            ),
        ]
        forms = {form for word in words for form in (word, unquote(word, errors="replace"))}
        return tuple(Secret(form) for form in sorted(forms, key=len, reverse=True))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class Answer(Struct, frozen=True, kw_only=True):
    """``retry_after`` in seconds.  ``body`` is the beginning of an error's."""

    status: int
    retry_after: float | None = None
    body: bytes = b""


def parse_url(text: str, what: str) -> Url:
    """Raises ``UsageError``, which does not repeat the URL: it may hold a secret."""
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "")[: MAX_HOST + 1].encode("idna").decode("ascii")
        port = parts.port
    except ValueError:
        host, port = "", None
    if (
        not 0 < len(host) <= MAX_HOST
        or parts.scheme not in ("http", "https")
        or parts.username is not None
    ):
        raise UsageError(f"{what}: not an http or https URL without a user in it")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(
        secure=secure,
        host=host,
        port=port if port is not None else (443 if secure else 80),
        target=Secret(quote(target, safe=_SAFE)),
    )


def trust(ca_file: str, what: str) -> ssl.SSLContext:
    """Verifies the peer's certificate and name against ``ca_file`` (PEM), or else the system's
    authorities.  Raises ``UsageError``.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as e:
        raise UsageError(
            f"{what}: no certificates in {printable(ca_file)}: {e.strerror or e}"
        ) from None


def post(
    url: Url,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,
    context: ssl.SSLContext | None,
) -> Answer:
    """``timeout`` seconds for all of it.  Raises ``RetryError`` where there is no answer."""
    deadline = time.monotonic() + timeout
    try:
        with _connected(url, deadline, context) as sock:
            sock.settimeout(_left(deadline))
            sock.sendall(_request(url, body, headers) + body)
            return _answer(sock, deadline)
    except TimeoutError:
        raise RetryError(f"{url.shown}: no answer within {timeout:g} s") from None
    except ssl.SSLCertVerificationError as e:
        raise RetryError(f"{url.shown}: TLS: {e.verify_message}") from None
    except ssl.SSLError as e:
        raise RetryError(f"{url.shown}: TLS: {e.reason or type(e).__name__}") from None
    except OSError as e:
        raise RetryError(f"{url.shown}: {e.strerror or e}") from None


def must_accept(
    answer: Answer, url: Url, secrets: Iterable[Secret] = (), *, only: int | None = None
) -> None:
    """Nothing for 2xx (or for ``only`` that status), else the error that the answer is, without
    the secrets that it may repeat: the URL's own are among them.
    """
    if answer.status == only or (only is None and 200 <= answer.status < 300):
        return
    body = printable(answer.body.decode("utf-8", "replace").strip())
    says = hide(body, (*secrets, *url.keys))[:_EXCERPT]
    text = f"{url.shown}: HTTP status {answer.status}" + (f": {says}" if says else "")
    if 300 <= answer.status < 400:
        raise RetryError(f"{text} (redirects are not followed: give the right URL)")
    if 400 <= answer.status < 500 and answer.status not in _ABOUT_THE_SINK:
        raise UndeliverableError(text)
    raise RetryError(text, after=answer.retry_after)


def _request(url: Url, body: bytes, headers: Mapping[str, str]) -> bytes:
    fields = {
        "Host": url.authority,
        "User-Agent": f"permdoctor/{__version__}",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {url.target.reveal()} HTTP/1.1\r\n{head}\r\n".encode("ascii")


def _connected(url: Url, deadline: float, context: ssl.SSLContext | None) -> socket.socket:
    addresses = resolve(url.host, url.port, _left(deadline))
    for _family, address in addresses:
        if why := refusal(str(address[0])):
            raise RetryError(f"{url.shown}: {address[0]} is {why}: not connected")
    failed: OSError = OSError("no address")
    for tries_left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(_left(deadline) / tries_left)
            sock.connect(address)
            return _secured(sock, url, deadline, context) if url.secure else sock
        except OSError as e:
            sock.close()
            failed = e
            if isinstance(e, ssl.SSLError):
                break
    raise failed


def _secured(
    sock: socket.socket, url: Url, deadline: float, context: ssl.SSLContext | None
) -> socket.socket:
    assert context is not None, "https needs a context"
    sock.settimeout(_left(deadline))
    return context.wrap_socket(sock, server_hostname=url.host)


def resolve(host: str, port: int, timeout: float) -> list[Address]:
    """The addresses of a name.  getaddrinfo(3) knows no deadline: it is asked on a thread.

    Raises ``OSError``.
    """
    found: list[Address] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((family, address))
        except (OSError, UnicodeError) as e:
            failed.append(e if isinstance(e, OSError) else OSError("not a host name"))

    thread = threading.Thread(target=ask, name="permdoctor-resolve", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError
    if failed:
        raise failed[0]
    return found


def _answer(sock: socket.socket, deadline: float) -> Answer:
    """The final answer's status, and of an error the beginning of its body."""
    data = b""
    while True:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            if len(data) > MAX_HEAD:
                raise OSError("the answer's head is too large")
            data += _more(sock, deadline)
            continue
        status = _STATUS.match(head)
        if status is None:
            raise OSError("the answer is not HTTP")
        code = int(status[1])
        if 100 <= code < 200:
            data = rest
            continue
        fields = _fields(head)
        return Answer(
            status=code,
            retry_after=_retry_after(fields.get("retry-after", "")),
            body=b"" if code < 300 else _body(sock, rest, fields, deadline),
        )


def _more(sock: socket.socket, deadline: float) -> bytes:
    sock.settimeout(_left(deadline))
    if not (more := sock.recv(16 << 10)):
        raise OSError("closed the connection without an answer")
    return more


def _body(sock: socket.socket, data: bytes, fields: Mapping[str, str], deadline: float) -> bytes:
    """Best effort: the status is known, this is for the log."""
    length = fields.get("content-length", "")
    wanted = min(int(length), MAX_BODY) if re.fullmatch("[0-9]{1,18}", length) else MAX_BODY
    deadline = min(deadline, time.monotonic() + _BODY_SECONDS)
    try:
        while len(data) < wanted:
            data += _more(sock, deadline)
    except OSError:
        pass
    if fields.get("transfer-encoding", "").lower() == "chunked":
        data = data.partition(b"\r\n")[2].partition(b"\r\n")[0]
    return data[:wanted]


def _fields(head: bytes) -> dict[str, str]:
    named = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in named}


def _retry_after(value: str) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left
