"""A TCP endpoint on this machine, with or without TLS.

Questions go through docker-py, whose client brings the TLS set-up and the connection pool; this is
its only importer.  The event stream has a connection of its own (``connected``): it must be read
with a deadline and be hung up from another thread, and its lines have a limit, which docker-py's
stream offers none of.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from permdoctor.engines.endpoints import Endpoint, TlsFiles
from permdoctor.engines.transport import TIMEOUT, EngineError, Response
from permdoctor.kernel.text import printable

if TYPE_CHECKING:
    import docker

_PEM: Final = "check ca.pem, cert.pem and key.pem of the context or DOCKER_CERT_PATH"


def connected(endpoint: Endpoint, seconds: float) -> socket.socket:
    """A connection, not more; ``seconds`` is how long each step may take.  Where there is nothing
    to be read yet, its ``recv`` raises ``BlockingIOError``.  Raises ``EngineError``.
    """
    parts = urlsplit(endpoint.url)
    assert parts.hostname is not None
    try:
        plain = socket.create_connection((parts.hostname, parts.port or 0), seconds)
    except OSError as e:
        raise EngineError(f"{printable(endpoint.url)}: {_root_cause(e)}") from e
    if endpoint.tls is None:
        return plain
    try:
        return _tls_context(endpoint.tls).wrap_socket(plain, server_hostname=parts.hostname)
    except OSError as e:
        plain.close()
        raise EngineError(f"{printable(endpoint.url)}: TLS: {_root_cause(e)}", hint=_PEM) from e


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    """As docker-py's.  Raises ``OSError``."""
    context = ssl.create_default_context(cafile=files.ca or None)
    context.sslsocket_class = _TlsSocket
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert and files.key:
        context.load_cert_chain(files.cert, files.key)
    return context


class _TlsSocket(ssl.SSLSocket):
    """With the errors of a plain one."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLWantReadError as e:
            raise BlockingIOError from e

    def shutdown(self, how: int) -> None:
        """Of the connection.  SSLSocket's own takes the session away from who reads just now."""
        socket.socket.shutdown(self, how)


class TcpTransport:
    """Talks to the engine behind ``tcp://127.0.0.1:port``."""

    def __init__(self, endpoint: Endpoint, timeout: float = TIMEOUT) -> None:
        self._url, self._timeout = endpoint.url, timeout
        self._client = _client(endpoint, timeout)

    def get(self, target: str) -> Response:
        return self._send("GET", target)

    def post(self, target: str) -> Response:
        return self._send("POST", target)

    def _send(self, method: str, target: str) -> Response:
        import requests

        try:
            answer = self._client.request(
                method, self._client.base_url + target, timeout=self._timeout, stream=True
            )
        except requests.exceptions.SSLError as e:
            raise EngineError(
                f"{printable(self._url)}: TLS: {_root_cause(e)}",
                hint=_PEM,
            ) from e
        except requests.exceptions.Timeout as e:
            raise self._silent() from e
        except requests.exceptions.RequestException as e:
            raise EngineError(
                f"{printable(self._url)}: {_root_cause(e)}", hint="is the engine running?"
            ) from e
        return _TcpResponse(answer, self._url)

    def close(self) -> None:
        self._client.close()

    def _silent(self) -> EngineError:
        return EngineError(
            f"{printable(self._url)}: the engine did not answer within {self._timeout:g} s"
        )


class _TcpResponse:
    def __init__(self, answer: Any, url: str) -> None:
        self._answer, self._url = answer, url

    @property
    def status(self) -> int:
        return int(self._answer.status_code)

    @property
    def headers(self) -> Mapping[str, str]:
        return {k.lower(): v for k, v in self._answer.headers.items()}

    def read(self, limit: int) -> bytes:
        import urllib3

        pieces, size = [], 0
        try:
            while size < limit:
                piece = self._answer.raw.read(min(limit - size, 1 << 18), decode_content=True)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise EngineError(f"{printable(self._url)}: the engine hung up") from e
        return b"".join(pieces)

    def close(self) -> None:
        self._answer.close()


def _client(endpoint: Endpoint, timeout: float) -> docker.APIClient:
    import docker
    from docker.constants import MINIMUM_DOCKER_API_VERSION

    tls: docker.tls.TLSConfig | bool = False
    try:
        if endpoint.tls is not None:
            files = endpoint.tls
            pair = (files.cert, files.key) if files.cert and files.key else None
            tls = docker.tls.TLSConfig(
                client_cert=pair, ca_cert=files.ca or None, verify=files.verify
            )
        # The version is only what docker-py itself would put into URLs, and it puts none here;
        # without it, it would ask the engine for one more answer.
        client = docker.APIClient(
            base_url=endpoint.url,
            version=MINIMUM_DOCKER_API_VERSION,
            timeout=int(timeout),
            tls=tls,
        )
    except docker.errors.DockerException as e:
        raise EngineError(
            f"{printable(endpoint.url)}: {printable(str(e).splitlines()[0])}",
            hint=_PEM,
        ) from e
    client.trust_env = False  # a proxy is not for an engine on this machine
    return client


def _root_cause(e: BaseException) -> str:
    seen = set()
    while id(e) not in seen:
        seen.add(id(e))
        inner = (
            e.__cause__
            or e.__context__
            or next((a for a in e.args if isinstance(a, BaseException)), None)
        )
        reason = getattr(e, "reason", None)
        inner = reason if isinstance(reason, BaseException) else inner
        if inner is None:
            break
        e = inner
    text = getattr(e, "strerror", None) or str(e) or type(e).__name__
    return printable(" ".join(text.split()))[:200]
