"""Where the engine is, found as the docker CLI finds it.

``--host``, else ``DOCKER_HOST``, else ``DOCKER_CONTEXT``, else ``currentContext`` of the CLI's
config.json, else the default socket (docker/cli ``cli/command/cli.go``: ``resolveContextName``,
``resolveDockerEndpoint``).  permdoctor reads /proc, so the engine must be on this machine: a
remote endpoint is refused here.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable

DEFAULT: Final = "unix:///var/run/docker.sock"
_MAX_FILE: Final = 1 << 20
_SHOWN: Final = 200
"""Characters of an address that makes no sense."""

_LIST: Final = "`docker context ls` lists them; --host names an engine directly"


class TlsFiles(Struct, frozen=True, kw_only=True):
    """PEM files for a TCP endpoint; an empty name is a file that there is not."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


class Endpoint(Struct, frozen=True, kw_only=True):
    """``url`` is ``unix:///path`` or ``tcp://host:port``; ``origin`` says who named it.  ``also``
    are other names that were given for it.
    """

    url: str
    origin: str
    tls: TlsFiles | None = None
    also: tuple[str, ...] = ()

    @property
    def socket_path(self) -> str | None:
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None


def find_endpoints(
    hosts: Sequence[str], environ: Mapping[str, str], configured: Sequence[str] = ()
) -> tuple[Endpoint, ...]:
    """The endpoints to use: one for each ``--host``, else those of ``engines.hosts``
    (``configured``), else the one the docker CLI would use.  Of several names of one socket the
    first counts.

    Raises :class:`UsageError` for an address that makes no sense or is not on this machine, and
    for a context that cannot be read.
    """
    for named, origin in ((hosts, "--host"), (configured, "engines.hosts")):
        if named:
            tls = _tls_of(environ)
            return _once([(h.strip(), _endpoint(h, origin, tls)) for h in dict.fromkeys(named)])
    if host := environ.get("DOCKER_HOST"):
        return (_endpoint(host, "DOCKER_HOST", _tls_of(environ)),)
    config_dir = environ.get("DOCKER_CONFIG") or os.path.join(_home(environ), ".docker")
    name, origin = environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        name = _current_context(config_dir)
        origin = os.path.join(config_dir, "config.json")
    if name and name != "default":
        return (_context(config_dir, name, origin),)
    return (Endpoint(url=DEFAULT, origin="the default"),)


def _once(named: Sequence[tuple[str, Endpoint]]) -> tuple[Endpoint, ...]:
    """What was named, each once."""
    found: list[tuple[set[object], Endpoint]] = []
    for name, endpoint in named:
        marks = set(_marks(endpoint))
        at = next((n for n, (known, _) in enumerate(found) if known & marks), None)
        if at is None:
            found.append((marks, endpoint))
            continue
        known, first = found[at]
        found[at] = (known | marks, replace(first, also=(*first.also, name)))
    return tuple(endpoint for _, endpoint in found)


def _marks(endpoint: Endpoint) -> Iterator[object]:
    """What two names of one socket have in common: where symlinks lead, and the socket itself."""
    yield endpoint.url
    path = endpoint.socket_path
    if path is not None:
        yield os.path.realpath(path)
        with contextlib.suppress(OSError):
            status = os.stat(path)
            yield status.st_dev, status.st_ino


def _endpoint(address: str, origin: str, tls: TlsFiles | None) -> Endpoint:
    url = _normal(address.strip(), origin)
    if url.startswith("unix://"):
        return Endpoint(url=url, origin=origin)
    return Endpoint(url=url, origin=origin, tls=tls)


def _normal(address: str, origin: str) -> str:
    """``unix:///path`` or ``tcp://host:port``, local; else :class:`UsageError`."""
    shown = f"{origin}: {printable(address[:_SHOWN])}"
    scheme, sep, rest = address.partition("://")
    if not sep:
        scheme, rest = ("unix", address) if address.startswith("/") else ("tcp", address)
    if scheme == "unix":
        path = rest or DEFAULT.removeprefix("unix://")
        if not path.startswith("/") or "\0" in path:
            raise UsageError(f"{shown}: not an absolute path", hint="unix:///path/to/docker.sock")
        return f"unix://{path}"
    if scheme in ("tcp", "http", "https"):
        return _local_tcp(rest, shown)
    if scheme == "ssh":
        raise _remote(shown)
    raise UsageError(
        f"{shown}: cannot talk {printable(scheme[:_SHOWN])}://",
        hint="unix:///path/to/docker.sock, or tcp://127.0.0.1:2375",
    )


def _local_tcp(rest: str, shown: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(f"tcp://{rest}")
        host, port = parts.hostname or "localhost", parts.port or 2375
    except ValueError as e:
        why = printable(str(e)[:_SHOWN])
        raise UsageError(f"{shown}: {why}", hint="tcp://127.0.0.1:2375") from e
    if not (host in ("localhost", "::1") or _is_loopback4(host)):
        raise _remote(shown)
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _is_loopback4(host: str) -> bool:
    parts = host.split(".")
    digits = all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts)
    return len(parts) == 4 and digits and parts[0] == "127"


def _remote(shown: str) -> UsageError:
    return UsageError(
        f"{shown}: that engine is on another machine; the facts are in that machine's /proc",
        hint="run permdoctor there: ssh HOST permdoctor check ...",
    )


def _tls_of(environ: Mapping[str, str]) -> TlsFiles | None:
    """What DOCKER_TLS_VERIFY, DOCKER_TLS and DOCKER_CERT_PATH mean to the CLI."""
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return None
    folder = environ.get("DOCKER_CERT_PATH") or os.path.join(_home(environ), ".docker")
    return _tls_files(folder, verify=verify)


def _tls_files(folder: str, *, verify: bool) -> TlsFiles:
    paths = {n: os.path.join(folder, f"{n}.pem") for n in ("ca", "cert", "key")}
    there = {n: p if os.path.isfile(p) else "" for n, p in paths.items()}
    return TlsFiles(ca=there["ca"], cert=there["cert"], key=there["key"], verify=verify)


def _current_context(config_dir: str) -> str:
    path = os.path.join(config_dir, "config.json")
    try:
        config = _read_json(path)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(
            f"{printable(path)}: {_why(e)}", hint="repair it, or name the engine with --host"
        ) from e
    name = config.get("currentContext") if isinstance(config, dict) else None
    return name if isinstance(name, str) else ""


def _context(config_dir: str, name: str, origin: str) -> Endpoint:
    """The docker endpoint of a context; its folder is named by the SHA-256 of its name."""
    from hashlib import sha256

    digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    path = os.path.join(config_dir, "contexts", "meta", digest, "meta.json")
    shown = f"docker context {printable(name)} (from {printable(origin)})"
    try:
        meta = _read_json(path)
        docker: dict[str, Any] = meta["Endpoints"]["docker"]
        host = docker.get("Host") or DEFAULT
        skip = docker.get("SkipTLSVerify") is True
    except FileNotFoundError as e:
        raise UsageError(f"{shown}: there is no such context", hint=_LIST) from e
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise UsageError(f"{shown}: broken: {printable(path)}: {_why(e)}", hint=_LIST) from e
    if not isinstance(host, str) or not host.isprintable():
        raise UsageError(f"{shown}: broken: its Host is no printable text", hint=_LIST)
    folder = os.path.join(config_dir, "contexts", "tls", digest, "docker")
    tls = _tls_files(folder, verify=not skip) if os.path.isdir(folder) else None
    return _endpoint(host, shown, tls)


def _read_json(path: str) -> Any:
    with open(path, "rb") as f:
        return json.loads(f.read(_MAX_FILE))


def _why(e: Exception) -> str:
    match e:
        case OSError():
            return e.strerror or str(e)
        case KeyError() | TypeError() | AttributeError():
            return "it names no docker endpoint"
        case json.JSONDecodeError():
            return f"no JSON (line {e.lineno}: {e.msg})"
        case _:
            return f"no JSON ({e})"


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")
