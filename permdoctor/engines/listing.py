"""A container as the engine's list shows it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from permdoctor.container.container import RequestedMount
from permdoctor.container.inspect import (
    label_pairs,
    number_of,
    requested_mounts,
    state_word,
    text_of,
)
from permdoctor.engines import Summary
from permdoctor.kernel.mountinfo import is_beneath

MAYBE_REFUSED: Final = (
    b'{"status":["created"]}',
    b'{"status":["exited"],"exited":["126","127","128"]}',
)
"""Filters of ``/containers/json``: what has never run, and what has; the codes are Docker's own for
a start that failed (moby: daemon/start.go, daemon/errors.go), and those of a shell.
"""

MOST_REFUSED: Final = 64
"""The newest of either are asked about."""

LATELY: Final = 86_400
"""Seconds: an attempt of yesterday that nobody has tidied up is no news."""


def summary(obj: dict[str, Any]) -> Summary:
    """One element of the answer to ``/containers/json``."""
    names = obj.get("Names")
    listed = names if isinstance(names, list) else ()
    own = [text_of(n).removeprefix("/") for n in listed if isinstance(n, str)]
    # A link shows as "/other/alias": the container's own name has no further slash.
    name = next((n for n in own if "/" not in n), own[0] if own else "")
    return Summary(
        id=text_of(obj.get("Id")),
        name=name,
        image=text_of(obj.get("Image")),
        state=state_word(obj.get("State")),
        mounts=requested_mounts(obj.get("Mounts"), None),
        labels=label_pairs(obj.get("Labels")),
    )


def is_refused(obj: Any, row: dict[str, Any], now: float) -> bool:
    """Whether a container that does not run has an error of its start: one that is to run always,
    or that was made (``row``) within ``LATELY`` of ``now``, in seconds since the epoch.
    """
    state = obj.get("State") if isinstance(obj, dict) else None
    if not isinstance(state, dict) or not text_of(state.get("Error")):
        return False
    if state.get("Running") is True:
        return False
    host = obj.get("HostConfig")
    policy = host.get("RestartPolicy") if isinstance(host, dict) else None
    always = text_of(policy.get("Name")) if isinstance(policy, dict) else ""
    made = number_of(row.get("Created")) or 0
    return always not in ("", "no") or now - made < LATELY


def touches(mount: RequestedMount, sources: Collection[bytes]) -> bool:
    """Whether its source is one of these host paths, or lies below or above one."""
    own = mount.source
    return own is not None and any(is_beneath(own, s) or is_beneath(s, own) for s in sources)
