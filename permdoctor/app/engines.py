"""Which engines there are, and which of them knows a container.

Several engines may be given; a name is looked for in each, in order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from permdoctor.container.container import Container
from permdoctor.engines import Engine, NoSuchContainerError
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.kernel.text import printable


@contextmanager
def connected(hosts: Sequence[str], configured: Sequence[str]) -> Iterator[tuple[Engine, ...]]:
    """The engines of ``--host``, else of the configuration, else the one the docker CLI uses."""
    from permdoctor.engines.docker import DockerEngine
    from permdoctor.engines.endpoints import find_endpoints

    endpoints = find_endpoints(tuple(hosts) or tuple(configured), os.environ)
    engines = tuple(DockerEngine(e) for e in endpoints)
    try:
        yield engines
    finally:
        for e in engines:
            e.close()


def find(engines: Sequence[Engine], name: str) -> tuple[Engine, Container]:
    """The container of this name or id and its engine.

    Raises the last engine's complaint when none knows it: an engine that is down is worth more
    than "no such container" of another.
    """
    unknown: list[NoSuchContainerError] = []
    broken: list[PermdoctorError] = []
    for engine in engines:
        try:
            return engine, engine.find(name)
        except NoSuchContainerError as e:
            unknown.append(e)
        except PermdoctorError as e:
            broken.append(e)
    if broken:
        raise broken[0]
    if len(unknown) == 1:
        raise unknown[0]
    hints = [e.hint for e in unknown if e.hint and e.hint.startswith("did you mean")]
    raise UsageError(
        f"no container is called {printable(name)} on any of {len(unknown)} engines",
        hint=hints[0] if hints else "`docker ps -a` lists them",
    )
