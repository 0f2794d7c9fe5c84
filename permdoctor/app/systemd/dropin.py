"""What a configuration needs beyond the unit that ships, which may only read: a drop-in for it.

Pure: a function of the configuration.  Paths of ``repair.roots`` become the only writable ones
besides the service's own; a root that does not exist yet is ignored until the service is started
again (systemd.exec(5), ReadWritePaths=).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from permdoctor.app.systemd.units import CHECK, SERVICE, quoted, sealed
from permdoctor.config import Config

NAME = "50-configuration.conf"

STATE = "/var/lib/permdoctor"
RUN = "/run/permdoctor"
REPAIR_CAPS = ("CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_DAC_OVERRIDE", "CAP_SETFCAP")
"""As ``app/rights.py`` asks for them."""

_TCP: Final = ("tcp://", "http://", "https://")
_ROOTLESS: Final = [
    "# The sockets of rootless engines are their users'.",
    "CapabilityBoundingSet=CAP_DAC_OVERRIDE",
]
_HEAD = """\
# What the configuration needs beyond the unit.  Made by `permdoctor systemd drop-in`: make it again
# when repair.roots, engines.hosts or a path of the service has changed.
"""


def drop_in(config: Config) -> str:
    """Of the service: the text; only a head if nothing more is needed.  Raises ``UsageError`` for a
    path that cannot stand in a unit.
    """
    return _text(_parts(config))


def is_needed(config: Config) -> bool:
    return any(True for _ in _parts(config))


def drop_in_of_check(config: Config) -> str:
    """As :func:`drop_in`, of the check that a timer begins: it only asks engines."""
    return _text(_parts_of_check(config))


def is_needed_for_check(config: Config) -> bool:
    return any(True for _ in _parts_of_check(config))


DROP_INS: Final[Mapping[str, tuple[Callable[[Config], str], Callable[[Config], bool]]]] = {
    SERVICE: (drop_in, is_needed),
    CHECK: (drop_in_of_check, is_needed_for_check),
}
"""By unit: the text, and whether it needs one."""


def _text(parts: Iterator[list[str]]) -> str:
    lines = [line for part in parts for line in ("", *part)]
    body = "\n".join(("", "[Service]", *lines[1:], "")) if lines else ""
    return sealed(_HEAD + body)


def _parts_of_check(config: Config) -> Iterator[list[str]]:
    if any(_is_another_users(h) for h in config.engines.hosts):
        yield _ROOTLESS
    if any(h.startswith(_TCP) for h in config.engines.hosts):
        yield [
            "# Engines at a port of this machine.",
            "PrivateNetwork=no",
            "IPAddressAllow=localhost",
            "RestrictAddressFamilies=AF_INET AF_INET6",
        ]


def _parts(config: Config) -> Iterator[list[str]]:
    if config.repair.roots:
        yield [
            "# Repair: owners, modes and ACLs may be changed there, and nowhere else.",
            f"CapabilityBoundingSet={' '.join(REPAIR_CAPS)}",
            "SystemCallFilter=@chown",
            *_writable(*config.repair.roots),
        ]
    elif any(_is_another_users(h) for h in config.engines.hosts):
        yield _ROOTLESS
    own = _own_places(config)
    if own:
        yield ["# Files of the service that the configuration puts elsewhere.", *_writable(*own)]
    if config.service.socket_group:
        yield [
            "# Who may ask at the status socket.",
            f"Group={config.service.socket_group}",
        ]


def _own_places(config: Config) -> list[str]:
    places = []
    if config.repair.state != STATE:
        places.append(config.repair.state)
    for file in (config.service.socket, config.metrics.textfile):
        directory = os.path.dirname(file)
        if file and directory != RUN:
            places.append(directory)
    return places


def _is_another_users(host: str) -> bool:
    return host.removeprefix("unix://").startswith("/run/user/")


def _writable(*paths: str) -> Iterator[str]:
    """The minus sign makes a missing path no error; it stands within the quotes."""
    for path in dict.fromkeys(map(os.path.normpath, paths)):
        word = quoted(path)
        ignored = f'"-{word[1:]}' if word.startswith('"') else f"-{word}"
        yield f"ReadWritePaths={ignored}"
