"""A container as the engine's list shows it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from permdoctor.container.container import RequestedMount
from permdoctor.container.inspect import (
    label_pairs,
    requested_mounts,
    state_word,
    text_of,
)
from permdoctor.engines import Summary
from permdoctor.kernel.mountinfo import is_beneath

MAYBE_REFUSED: Final = b'{"status":["created","exited"]}'
"""A filter of ``/containers/json``.  Exit codes tell nothing: that of the last run may stay."""

MOST_REFUSED: Final = 256
"""So many of these are asked about, the newest first, as the engine lists them."""


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


def start_error(obj: Any) -> str:
    """State.Error of a container that does not run: why it could not be started; or nothing."""
    state = obj.get("State") if isinstance(obj, dict) else None
    if not isinstance(state, dict) or state.get("Running") is True:
        return ""
    return text_of(state.get("Error"))


def touches(mount: RequestedMount, sources: Collection[bytes]) -> bool:
    """Whether its source is one of these host paths, or lies below or above one."""
    own = mount.source
    return own is not None and any(is_beneath(own, s) or is_beneath(s, own) for s in sources)
