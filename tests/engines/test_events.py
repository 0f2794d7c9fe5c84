"""The event stream: whatever a line holds, and however it is cut."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from permdoctor.engines.endpoints import Endpoint, TlsFiles
from permdoctor.engines.events import (
    MAX_LINE,
    EngineEvent,
    EventStream,
    StreamEnded,
    TooLongError,
    parse_event,
)
from permdoctor.engines.transport import EngineError
from tests.engines.test_tcp import make_keys
from tests.lab.patience import within

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


Served = tuple[Endpoint, list[bytes]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


def endpoint_of(kind: str, listener: socket.socket, keys: Path) -> Endpoint:
    address = listener.getsockname()
    if kind == "unix":
        return Endpoint(url=f"unix://{address}", origin="test")
    ca, cert, key = (str(keys / f"{name}.pem") for name in ("ca", "cert", "key"))
    files = TlsFiles(ca=ca, cert=cert, key=key) if kind == "tls" else None
    return Endpoint(url=f"tcp://127.0.0.1:{address[1]}", origin="test", tls=files)


def secured(peer: socket.socket, kind: str, keys: Path) -> socket.socket:
    """The engine's side of a connection."""
    if kind != "tls":
        return peer
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=keys / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(keys / "cert.pem", keys / "key.pem")
    with peer:
        return context.wrap_socket(peer, server_side=True)


@pytest.fixture(params=["unix", "tcp", "tls"])
def served(request: pytest.FixtureRequest, tmp_path: Path, keys: Path) -> Iterator[Served]:
    """An engine that answers with these pieces, each sent for itself."""
    pieces: list[bytes] = []
    if request.param == "unix":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
    else:
        listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with contextlib.suppress(OSError), secured(peer, request.param, keys) as peer:
            peer.recv(4096)
            for piece in pieces:
                peer.sendall(piece)
            if pieces == [HEAD]:
                peer.recv(1)  # until the reader is gone

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield endpoint_of(request.param, listener, keys), pieces
    thread.join(60)
    listener.close()


HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


def test_lines_come_whole_however_they_are_cut(served: Served) -> None:
    endpoint, pieces = served
    pieces += [HEAD + b'{"a"', b":1}\n", b'\n{"b":2}\n{"c"', b":3}\n"]
    stream = EventStream(endpoint, "1.41", 0.0, seconds=60)
    assert [stream.next(5) for _ in range(3)] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    with pytest.raises(StreamEnded):
        stream.next(5)
    stream.release()


def test_an_event_without_an_end_is_left_out(served: Served) -> None:
    endpoint, pieces = served
    pieces += [HEAD, b"x" * (MAX_LINE + 200_000), b"\nafter\n"]
    stream = EventStream(endpoint, "1.41", 0.0, seconds=60)
    with pytest.raises(TooLongError):
        stream.next(5)
    assert stream.next(5) == b"after"
    stream.release()


def test_silence_is_no_end(served: Served) -> None:
    endpoint, pieces = served
    pieces.append(HEAD)
    stream = EventStream(endpoint, "1.41", 0.0, seconds=60)
    assert stream.next(0.05) is None
    threading.Timer(0.1, stream.close).start()
    with within(30, "it is hung up from another thread"), pytest.raises(StreamEnded):
        stream.next(60)
    stream.release()


@pytest.mark.parametrize("served", ["tls"], indirect=True)
def test_who_is_not_who_he_says_is_not_listened_to(served: Served, tmp_path: Path) -> None:
    """A certificate that another authority has signed."""
    endpoint, _ = served
    assert endpoint.tls is not None
    make_keys(tmp_path)
    other = replace(endpoint, tls=replace(endpoint.tls, ca=str(tmp_path / "ca.pem")))
    with pytest.raises(EngineError, match=r"TLS: .*certificate"):
        EventStream(other, "1.41", 0.0, seconds=60)
