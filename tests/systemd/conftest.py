"""One booted machine for all tests here: it is up after a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.needs import MissingError
from tests.systemd.machine import Machine, booted


@pytest.fixture(scope="package")
def machine() -> Iterator[Machine]:
    """Booted, with the units installed and nothing started."""
    try:
        manager = booted()
        made = manager.__enter__()
    except MissingError as e:
        pytest.skip(str(e))
    try:
        made.permdoctor("systemd", "install")
        yield made
    finally:
        manager.__exit__(None, None, None)
