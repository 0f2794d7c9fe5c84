"""What a valid configuration may still get wrong on this machine, and a first one to begin with."""

from __future__ import annotations

import contextlib
import fnmatch
import grp
import os
import socket
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from permdoctor.alerts.address import is_loopback, refusal
from permdoctor.config import Config
from permdoctor.config.schema import EXAMPLE_FILE, shipped
from permdoctor.config.sinks import Command
from permdoctor.container.needs import clean_path
from permdoctor.diagnosis.codes import CODES
from permdoctor.engines.endpoints import Endpoint, find_endpoints
from permdoctor.errors import CannotCheckError, UsageError
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable
from permdoctor.repair.policy import TREES

DIR_MODE = 0o755
FILE_MODE = 0o644
RUNTIME = "/run/permdoctor"
SECRETS = ("secret_file", "routing_key_file", "url_file")
VARIABLES = ("secret_env", "routing_key_env", "url_env")
HIDDEN = ("/tmp", "/var/tmp")  # noqa: S108 - no file of ours
"""Of which the unit has its own (PrivateTmp=)."""


def concerns(config: Config) -> Iterator[str]:
    """What will not work as it is meant, a sentence each.  Looks at names and modes only."""
    yield from _engines(config)
    yield from _roots(config)
    yield from _unasked(config)
    yield from _secrets(config)
    yield from _sinks(config)
    yield from _ignored(config)
    yield from _places(config)
    group = config.service.socket_group
    if group and not _is_group(group):
        yield f"service.socket_group: there is no group {printable(group)}"


def refused(config: Config, environ: Mapping[str, str]) -> Iterator[UsageError]:
    """What the service would not begin with: an engine elsewhere; of sinks a secret that cannot be
    read, a certificate that is none, a program of somebody else's.  A variable that is not set here
    may be set there.
    """
    from permdoctor.alerts.sink import sinks_of

    try:
        if config.engines.hosts:
            find_endpoints((), environ, config.engines.hosts)
    except UsageError as e:
        yield e
    for sink in config.alerts.sinks:
        variables = [getattr(sink, key, "") for key in VARIABLES]
        if any(v and v not in environ for v in variables):
            continue
        try:
            sinks_of((sink,), environ)
        except UsageError as e:
            if not isinstance(e.__cause__, PermissionError) or os.geteuid() == 0:
                yield e


def init(file: str) -> None:
    """Write the example there, and make its directory; never over anything.

    Raises ``UsageError`` if something is there, ``CannotCheckError`` where it cannot be written.
    """
    shown = printable(file)
    try:
        os.makedirs(os.path.dirname(file) or ".", DIR_MODE, exist_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(shipped(EXAMPLE_FILE))
    except FileExistsError:
        raise UsageError(
            f"{shown} is there already, and is left as it is",
            hint="to see all keys: permdoctor config init /tmp/example.toml",
        ) from None
    except OSError as e:
        raise CannotCheckError(f"cannot write {shown}: {e.strerror}") from e


def _engines(config: Config) -> Iterator[str]:
    for endpoint in _endpoints(config):
        for name in endpoint.also:
            shown = printable(name), printable(endpoint.url)
            yield f"engines.hosts: {shown[0]} is {shown[1]} once more: the engine is asked once"


def _endpoints(config: Config) -> tuple[Endpoint, ...]:
    """Those of the configuration; what is wrong with them ``refused`` says."""
    with contextlib.suppress(UsageError):
        if config.engines.hosts:
            return find_endpoints((), {}, config.engines.hosts)
    return ()


def _roots(config: Config) -> Iterator[str]:
    for root in config.repair.roots:
        shown = printable(root)
        resolved = os.path.realpath(root)
        if any(is_beneath(clean_path(os.fsencode(root)), tree) for tree in TREES):
            yield f"repair.roots: {shown} allows nothing: it is the host's own"
        elif not os.path.isdir(root):
            yield f"repair.roots: {shown} is no directory"
        elif os.fsencode(resolved) != clean_path(os.fsencode(root)):
            yield f"repair.roots: {shown} allows nothing: its real path is {printable(resolved)}"


def _unasked(config: Config) -> Iterator[str]:
    allowed = [clean_path(os.fsencode(r)) for r in config.repair.roots]
    engines = tuple(e.url for e in _endpoints(config))
    for number, rule in enumerate(config.repair.unasked, 1):
        if rule.engine and engines and rule.engine not in engines:
            engine, known = printable(rule.engine), ", ".join(map(printable, engines))
            yield f"repair.unasked[{number}]: no engine is called {engine}; there are: {known}"
        for root in rule.roots:
            if not any(is_beneath(clean_path(os.fsencode(root)), a) for a in allowed):
                yield f"repair.unasked[{number}]: repair.roots does not allow {printable(root)}"
        if config.repair.remedies and rule.remedy not in config.repair.remedies:
            remedy = printable(rule.remedy)
            yield f"repair.unasked[{number}]: {remedy} is not among repair.remedies"


def _secrets(config: Config) -> Iterator[str]:
    for sink in config.alerts.sinks:
        for key in SECRETS:
            file = getattr(sink, key, "")
            where = f"alerts: {key} of {sink.name}: {printable(file)}"
            if (
                os.geteuid()
                and os.path.exists(file)
                and not os.access(file, os.R_OK, effective_ids=True)
            ):
                yield f"{where}: only root can say whether it holds a secret"
            if file.startswith(tuple(f"{h}/" for h in HIDDEN)):
                yield f"{where}: the service as a unit of systemd does not see it"


def _sinks(config: Config) -> Iterator[str]:
    """Who can never be told."""
    for sink in config.alerts.sinks:
        if isinstance(sink, Command):
            program = sink.argv[0]
            if not (os.path.isfile(program) and os.access(program, os.X_OK)):
                yield f"alerts: argv of {sink.name}: {printable(program)} is no program"
        urls = (getattr(sink, "url", ""), *getattr(sink, "urls", ()))
        for host in (urlsplit(url).hostname for url in urls if url):
            if host and (why := _why_refused(host)):
                yield f"alerts: url of {sink.name}: {printable(host)} is {why}"


def _why_refused(host: str) -> str:
    """An address in any form that inet_aton(3) takes; a name is looked up when somebody is told."""
    with contextlib.suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))
    try:
        return refusal(str(ip_address(host)))
    except ValueError:
        return ""


def _ignored(config: Config) -> Iterator[str]:
    now = time.time()
    for number, rule in enumerate(config.ignore, 1):
        if rule.until is not None and rule.until <= now:
            yield f"ignore[{number}] has expired"
        if not any(fnmatch.fnmatchcase(code, rule.code) for code in CODES):
            yield f"ignore[{number}]: no code is {printable(rule.code)}: permdoctor codes"


def _places(config: Config) -> Iterator[str]:
    """Where the service is to be asked.  Its own directory below /run systemd makes for it."""
    for key, file in (
        ("service.socket", config.service.socket),
        ("metrics.textfile", config.metrics.textfile),
    ):
        directory = os.path.dirname(file)
        if file and directory != RUNTIME and not os.path.isdir(directory):
            yield f"{key}: {printable(directory)} is no directory"
        if directory in ("/run", "/var/run", "/etc", "/"):
            shared = f"{printable(directory)} has much else in it"
            yield f"{key}: {shared}, which the service may then write: use a directory of its own"
    address = config.metrics.address
    if address is not None and not is_loopback(address[0]):
        yield f"metrics.listen: {address[0]} is not loopback, and /metrics asks for no password"


def _is_group(name: str) -> bool:
    if name.isdigit():
        return True
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
