"""A status socket at which a server answers."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from permdoctor.config import Log as LogConfig
from permdoctor.daemon import log
from permdoctor.daemon.shown import Facts
from permdoctor.daemon.state import State
from permdoctor.daemon.status import StatusServer
from permdoctor.render.service_json import View
from tests.daemon.status.served import FACTS, Serve, busy, unexpected


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may search, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="pd-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def written() -> Iterator[io.BytesIO]:
    """What is logged."""
    raw = io.BytesIO()
    before = (list(logging.getLogger().handlers), threading.excepthook)
    log.configure(LogConfig(format="json"), {}, io.TextIOWrapper(raw, encoding="utf-8"))
    yield raw
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:], threading.excepthook = before


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    """Start a server at ``place/s``."""
    started: list[StatusServer] = []

    def start(
        given: State | None = None,
        *,
        group: str = "",
        answer: Callable[[str, View], bytes] = unexpected,
        facts: Facts = FACTS,
        **more: Any,
    ) -> StatusServer:
        server = StatusServer(
            str(place / "s"), group, lambda: given or busy(), answer, lambda: facts, **more
        )
        server.start()
        started.append(server)
        return server

    yield start
    for each in started:
        each.close()
