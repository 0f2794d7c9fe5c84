"""The one command that engines are given: freeze a container's processes, and let them go on.

POST ``/containers/ID/pause`` and ``unpause`` (freezer cgroup).  What is already as it is wanted is
no error; engines answer 409 or 500 to that, so the state is asked for only then.
"""

from __future__ import annotations

from typing import Any, Literal

from permdoctor.container.container import State
from permdoctor.container.inspect import state_word
from permdoctor.engines.transport import AnsweredError, Transport, read_done, read_json, segment


def switch(
    transport: Transport, api: str, endpoint: str, id_: str, command: Literal["pause", "unpause"]
) -> bool:
    """Whether the command changed anything: False where the container is gone, or was not in the
    state that the command ends.  Raises :class:`AnsweredError` where the engine cannot do it
    (rootless without a freezer).
    """
    place = f"/v{api}/containers/{segment(id_)}"
    try:
        read_done(transport.post(f"{place}/{command}"), endpoint)
    except AnsweredError:
        fits = State.RUNNING if command == "pause" else State.PAUSED
        if _state(transport, f"{place}/json", endpoint) is fits:
            raise
        return False
    return True


def _state(transport: Transport, target: str, endpoint: str) -> State:
    """UNKNOWN for a container that is gone."""
    try:
        obj: Any = read_json(transport.get(target), endpoint)
    except AnsweredError as e:
        if e.status != 404:
            raise
        return State.UNKNOWN
    state = obj.get("State") if isinstance(obj, dict) else None
    return state_word(state.get("Status") if isinstance(state, dict) else None)
