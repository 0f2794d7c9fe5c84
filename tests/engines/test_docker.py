"""Finding containers, their mounts and files, neighbours; and everything that can go wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from permdoctor.container.container import EngineInfo, MountKind, State
from permdoctor.container.userns import SubIds, parse_subids, predicted_userns
from permdoctor.engines import ContainerGoneError, NoSuchContainerError, OwnerUnknownError
from permdoctor.engines.archive import ImageInode
from permdoctor.engines.docker import DockerEngine
from permdoctor.engines.endpoints import Endpoint
from permdoctor.engines.listing import start_error
from permdoctor.engines.transport import UnixTransport
from permdoctor.errors import CannotCheckError, PermdoctorError
from permdoctor.kernel.ids import INITIAL
from permdoctor.kernel.inode import FileType
from tests.engines.conftest import client
from tests.lab.engine import Box, Engine
from tests.lab.lab import Lab


@pytest.fixture
def quokka(dockerd: Engine) -> Iterator[Box]:
    box = dockerd.create(name="quokka")
    yield box
    box.rm()


def failure(call: Callable[[], object]) -> PermdoctorError:
    with pytest.raises(PermdoctorError) as e:
        call()
    return e.value


# -- finding -------------------------------------------------------------------------------


@pytest.mark.engine
def test_find_by_name_id_and_beginning(docker: DockerEngine, quokka: Box) -> None:
    for name in ("quokka", "/quokka", quokka.id, quokka.id[:12]):
        found = docker.find(name)
        assert (found.name, found.id, found.state) == ("quokka", quokka.id, State.CREATED)
    assert not found.running


@pytest.mark.engine
@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("quoka", "did you mean quokka?"),
        ("quok", "did you mean quokka?"),
        ("QUOKKA", "did you mean quokka?"),
        ("quokka/", "did you mean quokka?"),
        ("zzzzz", "`docker ps -a` lists them"),
        ("", "`docker ps -a` lists them"),
        ("../info", "`docker ps -a` lists them"),
    ],
)
def test_unknown_names(docker: DockerEngine, quokka: Box, asked: str, hint: str) -> None:
    error = failure(lambda: docker.find(asked))
    assert isinstance(error, NoSuchContainerError)
    assert error.exit_status == 2
    assert error.hint == hint


@pytest.mark.engine
def test_ambiguous_beginnings_name_the_candidates(docker: DockerEngine, dockerd: Engine) -> None:
    made: dict[str, Box] = {}
    try:
        for n in range(17):  # seventeen ids, sixteen first digits
            box = dockerd.create(name=f"many{n}")
            twin = made.get(box.id[0])
            made[box.id[0] if twin is None else box.id] = box
            if twin is not None:
                break
        assert twin is not None
        error = failure(lambda: docker.find(box.id[0]))
        assert isinstance(error, NoSuchContainerError)
        assert twin.name in error.message
        assert box.name in error.message
    finally:
        for box in made.values():
            box.rm()


@pytest.mark.engine
def test_list(docker: DockerEngine, dockerd: Engine, quokka: Box) -> None:
    box = dockerd.run(name="alive")
    try:
        running = {s.name: s.state for s in docker.list()}
        every = {s.name: s.state for s in docker.list(every=True)}
        assert running["alive"] is every["alive"] is State.RUNNING
        assert "quokka" not in running
        assert every["quokka"] is State.CREATED
    finally:
        box.rm()


# -- mounts --------------------------------------------------------------------------------


@pytest.mark.engine
def test_mounts_as_inspect_says(
    docker: DockerEngine, dockerd: Engine, lab: Lab, boxes: list[Box]
) -> None:
    source, model = str(lab.directory()), str(lab.directory(name="model"))
    link = lab.directory() / "link"
    link.symlink_to(source)
    dockerd.docker(
        "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={model}", "bound"
    )
    box = dockerd.create(
        *("-v", f"{source}:/rw", "-v", f"{source}:/ro:ro", "-v", f"{link}:/link"),
        *("-v", "named:/vol", "-v", "bound:/bound", "-v", "/anonymous", "--tmpfs", "/t:size=1m"),
        *("--mount", f"type=bind,src={source},dst=/flat,bind-nonrecursive"),
        *("--device", "/dev/null:/dev/zilch:r"),
    )
    boxes.append(box)
    mounts = {m.target: m for m in docker.find(box.name).mounts}
    assert [(t.decode(), m.kind, m.read_only, m.nonrecursive) for t, m in mounts.items()] == [
        ("/anonymous", MountKind.VOLUME, False, False),
        ("/bound", MountKind.VOLUME, False, False),
        ("/dev/zilch", MountKind.DEVICE, True, False),
        ("/flat", MountKind.BIND, False, True),
        ("/link", MountKind.BIND, False, False),
        ("/ro", MountKind.BIND, True, False),
        ("/rw", MountKind.BIND, False, False),
        ("/t", MountKind.TMPFS, False, False),
        ("/vol", MountKind.VOLUME, False, False),
    ]
    assert mounts[b"/link"].source == os.fsencode(link)
    assert mounts[b"/vol"].volume == "named"
    assert mounts[b"/vol"].source == os.fsencode(dockerd.data_root / "volumes/named/_data")
    assert (mounts[b"/bound"].volume, mounts[b"/bound"].source) == ("bound", model.encode())
    assert mounts[b"/dev/zilch"].source == b"/dev/null"
    assert mounts[b"/t"].source is None


@pytest.mark.engine
def test_refused(docker: DockerEngine, dockerd: Engine, quokka: Box) -> None:
    """Not one that nobody has tried to start."""
    box = dockerd.create("-u", "nosuch")
    try:
        assert docker.refused() == ()
        dockerd.docker_process("start", box.id)
        (found,) = docker.refused()
    finally:
        box.rm()
    assert (found.id, found.name, found.state) == (box.id, box.name, State.CREATED)


@pytest.mark.engine
def test_refused_after_it_has_run(docker: DockerEngine, dockerd: Engine, lab: Lab) -> None:
    """As when the host is started again, and something else lies at its source."""
    source = lab.directory() / "x"
    source.touch()
    box = dockerd.run("--restart=always", "-v", f"{source}:/etc/x")
    try:
        dockerd.docker("stop", "-t", "0", box.id)
        source.unlink()
        source.mkdir()
        dockerd.docker_process("start", box.id)
        (found,) = docker.refused()
    finally:
        box.rm()
    assert (found.id, found.state) == (box.id, State.EXITED)


@pytest.mark.engine
def test_what_is_known_to_be_refused_is_asked_about(
    docker: DockerEngine, dockerd: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes very many containers hides nobody."""
    monkeypatch.setattr("permdoctor.engines.docker.MOST_REFUSED", 1)
    boxes = [dockerd.create("-u", "nosuch")]
    try:
        dockerd.docker_process("start", boxes[0].id)
        boxes.append(dockerd.create())
        assert docker.refused() == ()
        assert [s.id for s in docker.refused(known={boxes[0].id})] == [boxes[0].id]
    finally:
        for box in boxes:
            box.rm()


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        ({"State": {"Error": "no such user", "Running": False}}, "no such user"),
        ({"State": {"Error": "no such user", "Running": True}}, ""),
        ({"State": {"Error": "", "Running": False}}, ""),
        ({"State": {"Error": ["x"]}}, ""),
        ({"State": 1}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_start_error(obj: object, error: str) -> None:
    assert start_error(obj) == error


@pytest.mark.engine
def test_containers_using(docker: DockerEngine, dockerd: Engine, lab: Lab) -> None:
    top = lab.directory()
    (top / "a").mkdir()
    beside = lab.directory()
    made = [
        dockerd.create("-v", f"{top}:/d", "-v", f"{beside}:/e", name="above"),
        dockerd.create("-v", f"{top}/a:/d:ro", name="same"),
        dockerd.create("-v", f"{beside}:/d", name="beside"),
    ]
    try:
        found = docker.containers_using({os.fsencode(top / "a")})
        assert [(s.name, [(m.target, m.read_only) for m in s.mounts]) for s in found] == [
            ("above", [(b"/d", False)]),
            ("same", [(b"/d", True)]),
        ]
        assert docker.containers_using(set()) == ()
        made.append(dockerd.create("-v", f"{top}/a:/d", name="since"))
        for age, known in ((60.0, 2), (0.0, 3)):
            assert len(docker.containers_using({os.fsencode(top / "a")}, max_age=age)) == known
    finally:
        for box in made:
            box.rm()


# -- files of a container that does not run ------------------------------------------------


@pytest.mark.engine
def test_image_files(docker: DockerEngine, dockerd: Engine, boxes: list[Box]) -> None:
    image = dockerd.image()
    made = dockerd.run(
        image=image,
        command=(
            "sh", "-c",
            "ln -s passwd /etc/rel; ln -s /etc/rel /etc/abs; ln -s loop /etc/loop;"
            "mkfifo /etc/fifo; mkdir /b\t; truncate -s 4G /etc/huge; echo x > /etc/weird%00é",
        ),
    )  # fmt: skip
    boxes.append(made)
    assert made.wait() == 0
    box = docker.find(made.name)
    read = {
        path: docker.image_file(box, path.encode(), 12)
        for path in (
            "/etc/passwd", "/etc/rel", "/etc/abs", "/etc/loop", "/etc/fifo", "/etc", "/nope",
            "/etc/passwd/x", "/etc/huge", "/etc/weird%00é",
        )
    }  # fmt: skip
    assert read == {
        "/etc/passwd": b"root:x:0:0:r",
        "/etc/rel": b"root:x:0:0:r",
        "/etc/abs": b"root:x:0:0:r",
        "/etc/loop": None,
        "/etc/fifo": None,
        "/etc": None,
        "/nope": None,
        "/etc/passwd/x": None,
        "/etc/huge": b"\0" * 12,
        "/etc/weird%00é": b"x\n",
    }


@pytest.mark.engine
@pytest.mark.parametrize("fixture", ["dockerd", "dockerd_remap", "dockerd_rootless"])
def test_image_inodes_have_the_ids_that_the_process_meets(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    engine: Engine = request.getfixturevalue(fixture)
    docker, box = client(engine), engine.create()
    text = {"dockerd_remap": b"d:165536:65536", "dockerd_rootless": b"alice:100000:65536"}
    try:
        container = docker.find(box.name)
        ranges = parse_subids(text.get(fixture, b""))
        ids = SubIds(uids=ranges, gids=ranges, name="alice")
        ns = predicted_userns(container.engine, "", ids)
        before = {p: docker.image_inode(container, p) for p in (b"/root", b"/home/app", b"/tmp")}
        link = docker.image_inode(container, b"/bin/sh")
        engine.docker("start", box.id)
        for path, seen in before.items():
            st = os.stat(f"/proc/{box.pid()}/root{path.decode()}")
            assert seen is not None
            inode = seen.to_inode(container.engine, ns)
            assert (inode.uid, inode.gid) == (st.st_uid, st.st_gid)
            assert (inode.type, inode.mode) == (FileType.DIRECTORY, st.st_mode & 0o7777)
        assert link is not None
        assert (link.type, link.target) == (FileType.SYMLINK, b"busybox")
        assert docker.image_inode(container, b"/nope") is None
    finally:
        box.rm()


@pytest.mark.engine
def test_a_deleted_image_does_not_matter(docker: DockerEngine, dockerd: Engine) -> None:
    box = dockerd.run("-u", "app", image=dockerd.image("LABEL gone=1"))
    try:
        dockerd.docker("rmi", "-f", dockerd.image("LABEL gone=1"))
        container = docker.find(box.name)
        assert container.user == "app"
        assert docker.image_file(container, b"/etc/passwd", 4) == b"root"
    finally:
        box.rm()


# -- what goes wrong -----------------------------------------------------------------------


@pytest.mark.engine
def test_removed_in_the_middle(docker: DockerEngine, dockerd: Engine) -> None:
    box = dockerd.run()
    container = docker.find(box.name)
    box.rm()
    for call in (
        lambda: docker.inspect(container.id),
        lambda: docker.image_file(container, b"/etc/passwd", 10),
        lambda: docker.image_inode(container, b"/etc"),
    ):
        error = failure(call)
        assert isinstance(error, ContainerGoneError)
        assert error.exit_status == 3


@pytest.mark.engine
def test_socket_not_permitted(dockerd: Engine) -> None:
    program = (
        "from permdoctor.engines.docker import DockerEngine;"
        "from permdoctor.engines.endpoints import Endpoint;"
        "from permdoctor.engines.transport import EngineError\n"
        "import os, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: DockerEngine(Endpoint(url=sys.argv[1], origin='')).info\n"
        "except EngineError as e: print(e.message, '|', e.hint)"
    )
    os.chmod(dockerd.socket, 0o660)
    done = subprocess.run(
        [sys.executable, "-c", program, dockerd.host], capture_output=True, text=True, check=True
    )
    assert f"{dockerd.host}: permission denied: uid 65534 may not talk to the engine" in done.stdout
    assert "sudo" in done.stdout


def endpoint(path: Path) -> DockerEngine:
    return DockerEngine(Endpoint(url=f"unix://{path}", origin=""), UnixTransport(str(path), 0.5))


def test_no_socket(tmp_path: Path) -> None:
    error = failure(lambda: endpoint(tmp_path / "x.sock").find("box"))
    assert isinstance(error, CannotCheckError)
    assert "no such socket" in error.message
    assert error.hint


def test_no_socket_but_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    error = failure(lambda: endpoint(tmp_path / "f").find("box"))
    assert "nobody listens there" in error.message


def test_path_too_long(tmp_path: Path) -> None:
    error = failure(lambda: endpoint(tmp_path / ("x" * 200)).find("box"))
    assert "too long" in error.message


@contextlib.contextmanager
def server(path: Path, *answers: bytes | None) -> Iterator[None]:
    """Something that listens and says these bytes, one answer a connection; ``None`` says
    nothing and keeps the connection.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    kept = []

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
                connection.recv(4096)
                kept.append(connection)
                if answer is not None:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                return  # the client asked for less, or hung up: its right

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes a waiting accept
        thread.join(60)
        listener.close()
        for connection in kept:
            connection.close()


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.0 {status}\r\n{headers}\r\n".encode() + body


PING = http(b"OK", headers="Api-Version: 1.41\r\n")


@pytest.mark.parametrize(
    ("answers", "phrase"),
    [
        pytest.param((b"SSH-2.0-OpenSSH\r\n",), "no container engine", id="another protocol"),
        pytest.param((b"",), "no container engine", id="hangs up"),
        pytest.param((b"A" * 100_000,), "no container engine", id="endless head"),
        pytest.param((b"HTTP/1.1 abc\r\n\r\n",), "no container engine", id="no status"),
        pytest.param((http(b"hi"),), "no container engine", id="another web server"),
        pytest.param((http(b"hi", headers="Api-Version: ../x\r\n"),), "no container", id="version"),
        pytest.param((http(b"", "403 Forbidden"),), "refuses: 403", id="authorization"),
        pytest.param((None,), "did not answer within 0.5 s", id="silent"),
        pytest.param((PING, None, None), "did not answer within 0.5 s", id="silent later"),
        pytest.param((PING, http(b'{"a'), http(b'{"b')), "cut off or no JSON", id="cut off"),
        pytest.param(
            (PING, http(b"[" * 50_000), http(b"{}")), "cut off or no JSON", id="deep JSON"
        ),
        pytest.param(
            (PING, http(b"{}"), http(b'{"message":"a\\u001b[31m\\nb"}', "500 no"), http(b"[]")),
            "the engine answers 500: a\\x1b[31m b", id="its own words, escaped",
        ),
        pytest.param(
            (PING, http(b'{"KernelVersion":"1.2.3"}'), http(b'{"Id":"x"}')), "another kernel",
            id="another kernel",
        ),
    ],
)  # fmt: skip
def test_not_an_engine(tmp_path: Path, answers: tuple[bytes | None, ...], phrase: str) -> None:
    with server(tmp_path / "s", *answers):
        error = failure(lambda: endpoint(tmp_path / "s").find("box"))
    assert isinstance(error, CannotCheckError)
    assert phrase in error.message
    assert "\x1b" not in error.message


def test_a_long_body_may_come_with_the_head(tmp_path: Path) -> None:
    body = http(b'{"Id":"x","Pad":"%s"}' % (b"x" * 200_000))
    with server(tmp_path / "s", PING, http(b"{}"), body):
        assert endpoint(tmp_path / "s").find("box").id == "x"


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"{}", b'{"Id":7,"State":[],"ExecIDs":{"a":1},"Mounts":[null]}'],
)
def test_odd_answers_are_survived(tmp_path: Path, body: bytes) -> None:
    with server(tmp_path / "s", PING, http(body), http(body), http(body)):
        assert endpoint(tmp_path / "s").find("box").engine.api_version == "1.41"


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\0" * 1024,
        b"garbage" * 1000,
        b"x" * 100 + b"0" * 24 + b"77777777777 " + b"\0" * 376,
    ],
)
def test_hostile_archives_do_no_harm(tmp_path: Path, stream: bytes) -> None:
    container_json = http(b'{"Id":"x"}')
    with server(tmp_path / "s", PING, container_json, container_json, http(stream)):
        engine = endpoint(tmp_path / "s")
        box = engine.find("box")
        error = failure(lambda: engine.image_file(box, b"/etc/passwd", 100))
    assert "archive" in error.message


def test_initial_namespace_keeps_ids() -> None:
    seen = ImageInode(uid=5, gid=6, mode=0o755, type=FileType.DIRECTORY)
    inode = seen.to_inode(EngineInfo(endpoint=""), INITIAL)
    assert (inode.uid, inode.gid) == (5, 6)


def test_podman_is_not_believed_about_owners(tmp_path: Path) -> None:
    """Its archives give every file to the container's user (seen on 4.3)."""
    with server(tmp_path / "s", PING, http(b'{"BuildahVersion":"1.28.2"}'), http(b'{"Id":"x"}')):
        engine = endpoint(tmp_path / "s")
        box = engine.find("box")
        assert isinstance(failure(lambda: engine.image_inode(box, b"/root")), OwnerUnknownError)
