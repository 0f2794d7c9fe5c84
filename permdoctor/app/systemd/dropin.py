"""What a configuration needs beyond the unit that ships, which may only read: a drop-in for it.

Pure: a function of the configuration.  Paths of ``repair.roots`` become the only writable ones
besides the service's own; a root that does not exist yet is ignored until the service is started
again (systemd.exec(5), ReadWritePaths=).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from permdoctor.app.systemd.units import quoted, sealed
from permdoctor.config import Config

NAME = "50-configuration.conf"

STATE = "/var/lib/permdoctor"
RUN = "/run/permdoctor"
REPAIR_CAPS = ("CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_DAC_OVERRIDE", "CAP_SETFCAP")
"""As ``app/rights.py`` asks for them."""

_HEAD = """\
# What the configuration needs beyond the unit.  Made by `permdoctor systemd drop-in`: make it again
# when repair.roots, engines.hosts or a path of the service has changed.
"""


def drop_in(config: Config) -> str:
    """The text; only a head if nothing more is needed.  Raises ``UsageError`` for a path that
    cannot stand in a unit.
    """
    lines = [line for part in _parts(config) for line in ("", *part)]
    body = "\n".join(("", "[Service]", *lines[1:], "")) if lines else ""
    return sealed(_HEAD + body)


def is_needed(config: Config) -> bool:
    return any(True for _ in _parts(config))


def _parts(config: Config) -> Iterator[list[str]]:
    if config.repair.roots:
        yield [
            "# Repair: owners, modes and ACLs may be changed there, and nowhere else.",
            f"CapabilityBoundingSet={' '.join(REPAIR_CAPS)}",
            "SystemCallFilter=@chown",
            *_writable(*config.repair.roots),
        ]
    elif any(_is_another_users(h) for h in config.engines.hosts):
        yield [
            "# The sockets of rootless engines are their users'.",
            "CapabilityBoundingSet=CAP_DAC_OVERRIDE",
        ]
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
