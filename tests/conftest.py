"""Fixtures for everybody.  Engines start at their first use and live for the session."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import engine as engines
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab
from tests.lab.needs import MissingError
from tests.lab.podman import start_podman

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Hundreds of interpreters are started, on several workers: each module is compiled once."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""A run in the background of a shell ignores it, and so would every program that is tested."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers (``-n``): files, the longest first."""
    from tests.lab.spread import ByFile

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        from tests.lab.spread import rank

        items.sort(key=lambda item: rank(item.nodeid))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Directories, filesystems and the image tarball.  Needs root."""
    try:
        made = Lab().open()
    except MissingError as e:
        pytest.skip(str(e))
    yield made
    made.close()


def _engine(start: Callable[[], Engine]) -> Iterator[Engine]:
    try:
        engine = start()
    except MissingError as e:
        pytest.skip(str(e))
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def dockerd(lab: Lab) -> Iterator[Engine]:
    """A plain Docker Engine."""
    yield from _engine(lambda: engines.start_docker(lab.root / "plain", lab.image))


@pytest.fixture(scope="session")
def dockerd_remap(lab: Lab) -> Iterator[Engine]:
    """userns-remap with one extent, 165536:65536."""
    yield from _engine(
        lambda: engines.start_remapped(lab.root / "remap", lab.image, [(165536, 65536)])
    )


@pytest.fixture(scope="session")
def dockerd_remap2(lab: Lab) -> Iterator[Engine]:
    """userns-remap with several extents: 0-999 at 200000, 1000-65535 at 300000."""
    yield from _engine(
        lambda: engines.start_remapped(
            lab.root / "remap2", lab.image, [(200000, 1000), (300000, 64536)]
        )
    )


@pytest.fixture(scope="session")
def dockerd_rootless(lab: Lab) -> Iterator[Engine]:
    """Rootless Docker as alice, uid 1000, subuid 100000:65536."""
    yield from _engine(lambda: engines.start_rootless(lab.root / "rootless", lab.image))


@pytest.fixture(scope="session")
def podman(lab: Lab) -> Iterator[Engine]:
    """Podman's compatible socket, rootful."""
    yield from _engine(lambda: start_podman(lab.root / "podman", lab.image))


@pytest.fixture
def boxes() -> Iterator[list[Box]]:
    """Append containers to it; they are removed after the test."""
    made: list[Box] = []
    yield made
    for box in made:
        box.rm()
