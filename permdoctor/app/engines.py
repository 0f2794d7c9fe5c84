"""Which engines there are, and which of them knows a container.

Several engines may be given; a name is looked for in each.  The same name on two of them is two
containers.
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

    endpoints = find_endpoints(tuple(hosts), os.environ, tuple(configured))
    engines = tuple(DockerEngine(e) for e in endpoints)
    try:
        yield engines
    finally:
        for e in engines:
            e.close()


class AmbiguousNameError(UsageError):
    """Several engines have a container of this name."""


def find(engines: Sequence[Engine], name: str) -> tuple[Engine, Container]:
    """The one container of this name or id and its engine.

    Raises ``AmbiguousNameError``, and what :func:`find_all` does.
    """
    found = find_all(engines, name)
    if len(found) > 1:
        shown = [printable(c.engine.endpoint) for _, c in found]
        raise AmbiguousNameError(
            f"{len(found)} engines have a container {printable(name)}: {', '.join(shown)}",
            hint=f"say which: --host {shown[0]}",
        )
    return found[0]


def find_all(engines: Sequence[Engine], name: str) -> tuple[tuple[Engine, Container], ...]:
    """The containers of this name or id, one of each engine that knows it, at least one.  Whose
    name or full id it is goes before whose id only begins so.

    Raises an engine's complaint when none knows it: an engine that is down is worth more than "no
    such container" of another.
    """
    found: list[tuple[Engine, Container]] = []
    unknown: list[NoSuchContainerError] = []
    broken: list[PermdoctorError] = []
    for engine in engines:
        try:
            found.append((engine, engine.find(name)))
        except NoSuchContainerError as e:
            unknown.append(e)
        except PermdoctorError as e:
            broken.append(e)
    found = _each_once(found)
    exact = [f for f in found if name.removeprefix("/") in (f[1].name, f[1].id)]
    if found:
        return tuple(exact or found)
    if broken:
        raise broken[0]
    if len(unknown) == 1:
        raise unknown[0]
    hints = [e.hint for e in unknown if e.hint and e.hint.startswith("did you mean")]
    raise UsageError(
        f"no container is called {printable(name)} on any of {len(unknown)} engines",
        hint=hints[0] if hints else "`docker ps -a` lists them",
    )


def distinct(engines: Sequence[Engine]) -> Iterator[Engine]:
    """Each engine once, whatever several names it has; one that does not answer is itself."""
    known = set()
    for engine in engines:
        try:
            identity = engine.info.identity if len(engines) > 1 else None
        except PermdoctorError:
            identity = None
        if identity is None or identity not in known:
            yield engine
        known.add(identity)


def _each_once(found: list[tuple[Engine, Container]]) -> list[tuple[Engine, Container]]:
    """Two engines that are one know the same container."""
    each: dict[object, tuple[Engine, Container]] = {}
    for engine, container in found:
        each.setdefault(container.engine.identity or container.engine.endpoint, (engine, container))
    return list(each.values())
