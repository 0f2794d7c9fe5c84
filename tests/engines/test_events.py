"""The event stream: whatever a line holds, and however it is cut."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permdoctor.engines.events import (
    MAX_LINE,
    EngineEvent,
    EventStream,
    StreamEnded,
    TooLongError,
    parse_event,
)

ID = "a" * 64


def line(**more: object) -> bytes:
    event = {
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": ID, "Attributes": {"name": "one", "image": "x", "tier": "gold"}},
        "timeNano": 5,
    }
    return json.dumps(event | more).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            line(),
            EngineEvent(
                kind="container",
                action="start",
                container=ID,
                name="one",
                labels=(("tier", "gold"),),
                at=5,
            ),
            id="labels are what is no attribute of the event",
        ),
        pytest.param(
            line(Action="exec_start: sh -c x"),
            EngineEvent(
                kind="container",
                action="exec_start",
                container=ID,
                name="one",
                labels=(("tier", "gold"),),
                at=5,
            ),
            id="the command is left out",
        ),
        pytest.param(
            line(Type="volume", Action="mount", Actor={"Attributes": {"container": ID}}),
            EngineEvent(kind="volume", action="mount", container=ID, at=5),
            id="a volume's container",
        ),
        pytest.param(
            line(Type="daemon", Action="reload", Actor={}),
            EngineEvent(kind="daemon", action="reload", at=5),
            id="the engine itself",
        ),
        pytest.param(
            line(Action="remove", Actor={"ID": ID}),
            EngineEvent(kind="container", action="destroy", container=ID, at=5),
            id="Podman's words",
        ),
        pytest.param(
            line(Actor={"ID": "../../x\ud800"}),
            EngineEvent(kind="container", action="start", at=5),
            id="no id",
        ),
        pytest.param(b"[" * 100_000, None, id="nested"),
        pytest.param(b'{"Type":"container"}', None, id="nothing happened"),
        pytest.param(line(Type="image"), None, id="not ours"),
        pytest.param(b"\xff\xfe", None, id="no text"),
    ],
)
def test_a_line_is_an_event(text: bytes, expected: EngineEvent | None) -> None:
    assert parse_event(text) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["Type", "Action", "Actor", "ID", "Attributes", "timeNano", "status", "id"])


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.dictionaries(KEYS, JSON).map(lambda d: json.dumps(d).encode()))
def test_anything_is_an_event_or_nothing(text: bytes) -> None:
    event = parse_event(text)
    assert event is None or isinstance(event, EngineEvent)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """An engine that answers with these pieces, each sent for itself."""
    path, pieces = tmp_path / "sock", []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            for piece in pieces:
                peer.sendall(piece)
            if pieces == [HEAD]:
                peer.recv(1)  # until the reader is gone

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path, pieces
    thread.join(5)
    listener.close()


HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


def test_lines_come_whole_however_they_are_cut(served: tuple[Path, list[bytes]]) -> None:
    path, pieces = served
    pieces += [HEAD + b'{"a"', b":1}\n", b'\n{"b":2}\n{"c"', b":3}\n"]
    stream = EventStream(str(path), "1.41", 0.0, seconds=5)
    assert [stream.next(5) for _ in range(3)] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    with pytest.raises(StreamEnded):
        stream.next(5)
    stream.release()


def test_an_event_without_an_end_is_left_out(served: tuple[Path, list[bytes]]) -> None:
    path, pieces = served
    pieces += [HEAD, b"x" * (MAX_LINE + 200_000), b"\nafter\n"]
    stream = EventStream(str(path), "1.41", 0.0, seconds=5)
    with pytest.raises(TooLongError):
        stream.next(5)
    assert stream.next(5) == b"after"
    stream.release()


def test_silence_is_no_end(tmp_path: Path, served: tuple[Path, list[bytes]]) -> None:
    path, pieces = served
    pieces.append(HEAD)
    stream = EventStream(str(path), "1.41", 0.0, seconds=5)
    assert stream.next(0.05) is None
    stream.close()
    with pytest.raises(StreamEnded):
        stream.next(5)
    stream.release()
