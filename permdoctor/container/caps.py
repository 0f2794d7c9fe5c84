"""The effective capabilities that an engine gives the first process.  Used for prediction only:
of a running process ``CapEff`` is read.

Mirrors moby ``oci/caps/utils.go`` (``TweakCapabilities``) and ``oci/oci.go``
(``SetCapabilities``): a non-root user's effective set is empty whatever was added.  Podman gives
such a user exactly what ``--cap-add`` names (``specgen/generate/security_linux.go``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from permdoctor.container.container import Container
from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, Cap
from permdoctor.kernel.ids import Uid

PODMAN_DEFAULT: Final = DOCKER_DEFAULT & ~(Cap.MKNOD | Cap.NET_RAW | Cap.AUDIT_WRITE)
"""containers/common ``pkg/config/default.go``."""


def predicted_effective(container: Container, uid: Uid) -> Cap:
    """The effective set of the first process, running as the *inside* ``uid``."""
    podman = container.engine.product == "podman"
    if uid != 0:
        return _named(container.caps_added) if podman and not container.privileged else Cap.NONE
    if container.privileged:
        return ALL
    added, dropped = container.caps_added, container.caps_dropped
    if "ALL" in added:
        return ALL & ~_named(d for d in dropped if d != "ALL")
    if "ALL" in dropped:
        return _named(added)
    default = PODMAN_DEFAULT if podman else DOCKER_DEFAULT
    return default & ~_named(dropped) | _named(added)


def _named(names: Iterable[str]) -> Cap:
    """The set; a name that this version does not know adds nothing."""
    caps = Cap.NONE
    for name in names:
        caps |= ALL if name == "ALL" else Cap.__members__.get(name, Cap.NONE)
    return caps
