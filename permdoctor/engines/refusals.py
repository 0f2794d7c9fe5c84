"""Why an engine that answers is none to be asked."""

from __future__ import annotations

import os
from typing import Final

from permdoctor.engines.transport import EngineError, Response, not_an_engine
from permdoctor.kernel.text import printable

_UTSNAME: Final = 64
"""Characters of a kernel's release, at most (uname(2))."""


def no_engine(url: str, response: Response) -> EngineError:
    """Of an answer to ``/_ping``."""
    body = response.read(512)
    if b"HTTPS" in body or b"HTTP request to an" in body:
        return EngineError(
            f"{printable(url)}: the engine wants TLS",
            hint="set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or use a docker context",
        )
    if response.status in (401, 403):
        return EngineError(
            f"{printable(url)}: the engine refuses: {response.status}",
            hint="an authorization plugin or proxy stands before it",
        )
    return not_an_engine(url)


def require_this_kernel(url: str, facts: object) -> None:
    """``facts`` are the answer to ``/info``."""
    theirs = facts.get("KernelVersion") if isinstance(facts, dict) else None
    ours = os.uname().release
    if isinstance(theirs, str) and theirs and theirs != ours:
        raise EngineError(
            f"{printable(url)}: its containers run on another kernel"
            f" ({printable(theirs[:_UTSNAME])}, here {ours}):"
            " a virtual machine, or a forwarded socket",
            hint="run permdoctor where the containers run",
        )
