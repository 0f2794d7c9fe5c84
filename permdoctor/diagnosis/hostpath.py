"""Where the host sees a path of the container."""

from __future__ import annotations

from permdoctor.container.binds import covering
from permdoctor.diagnosis.facts import Facts


def host_path_of(facts: Facts, path: bytes) -> bytes | None:
    """Below the bind that the path lies on; ``None`` for a path of the image or of a tmpfs."""
    bind = covering(tuple(b.bind for b in facts.binds), path)
    if bind is None or bind.host_path is None:
        return None
    rest = path[len(bind.target.rstrip(b"/")) :].lstrip(b"/")
    return bind.host_path.rstrip(b"/") + b"/" + rest if rest else bind.host_path
