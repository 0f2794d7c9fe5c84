"""Everybody who uses a mount: whom a repair must not take anything from."""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.container.needs import Need
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import Facts, Neighbour
from permdoctor.diagnosis.recipes import Party
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable

MOST = 64


def users_of(facts: Facts, source: bytes, but: Subject | None = None) -> Iterator[Neighbour]:
    """The container's own subjects (``but`` one), then whoever else mounts or owns it.

    ``source`` is a mount's place on the host.
    """
    for b in facts.binds:
        if b.bind.host_path != source:
            continue
        for s in facts.subjects:
            if s is not but:
                yield Neighbour(
                    who=f"{s.label} in {printable(facts.container.name)}",
                    cred_of=s,
                    rw=not b.bind.read_only,
                    host_path=source,
                    mount=b.bind.mount,
                )
    yield from (n for n in facts.neighbours if n.host_path == source)


def party_of(user: Neighbour) -> Party:
    """With what it needs: to read and write, or to read where it cannot write."""
    need = Need.WRITE if user.rw else Need.READ
    return Party(cred=user.cred_of.cred, mount=user.mount, need=need)


def parties_of(facts: Facts, path: bytes | None, but: Subject | None = None) -> tuple[Party, ...]:
    """Who uses the mount that a path of the host lies on."""
    sources = [b.bind.host_path for b in facts.binds if b.bind.host_path is not None]
    above = [s for s in sources if path is not None and is_beneath(path, s)]
    if not above:
        return ()
    found = (party_of(n) for n in users_of(facts, max(above, key=len), but))
    return tuple(dict.fromkeys(found))[:MOST]
