"""What an engine says: events, JSON answers, files of containers that do not run, contexts."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from msgspec.structs import replace

from permdoctor.container.caps import predicted_effective
from permdoctor.container.container import Container, EngineInfo
from permdoctor.container.needs import PathNeed, asked_needs, bad_labels, environment_needs
from permdoctor.container.userns import predicted_userns
from permdoctor.container.users import resolve_user
from permdoctor.daemon import bounds
from permdoctor.daemon.events import Happened
from permdoctor.daemon.inbox import Inbox
from permdoctor.daemon.limits import Limits
from permdoctor.daemon.source import Source
from permdoctor.engines import Summary
from permdoctor.engines.archive import ImageInode, read_member
from permdoctor.engines.docker import DockerEngine
from permdoctor.engines.endpoints import DEFAULT, Endpoint, find_endpoints
from permdoctor.engines.events import EngineEvent, parse_event
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.ids import ID_MAX, Uid
from permdoctor.render import service_json
from permdoctor.render.service_json import View
from tests.fuzz.mutate import bytes_of, json_of, large
from tests.fuzz.oracle import fits, must, tellable
from tests.fuzz.run import Feed, Target, scratch, simple
from tests.fuzz.samples import lines_of, recorded
from tests.fuzz.targets.accounts import GROUP, PASSWD
from tests.render.builders import broken, result

ENDPOINT = Endpoint(url="unix:///run/docker.sock", origin="the default")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
FORMS = (
    View(),
    View(form="table", width=60),
    View(form="table", verbose=True),
    View(form="explain"),
)

Answers = Mapping[str, bytes]
"""By a part of the request's target; the first that fits."""


def docker(**more: bytes) -> Answers:
    return _answers("docker", more)


def podman(**more: bytes) -> Answers:
    return _answers("podman", more)


def _answers(product: str, more: Answers) -> Answers:
    """``more`` instead of what was recorded."""
    return {k: more.get(k.strip("/").replace("/", "_"), v) for k, v in _own(product).items()}


@cache
def _own(product: str) -> Answers:
    info = json.loads(recorded(f"{product}-info.json"))
    return {
        "/info": json.dumps(info | {"KernelVersion": os.uname().release}).encode(),
        "/containers/json": recorded(f"{product}-list.json"),
        "/exec/": recorded("docker-exec.json"),
        "/volumes/": recorded("docker-volume.json"),
        "/containers/": recorded(f"{product}-inspect.json"),
    }


class Canned:
    """A transport of which every answer is known."""

    def __init__(self, answers: Answers) -> None:
        self._answers = {"/_ping": b"OK", **answers}

    def get(self, target: str) -> Answered:
        body = next(v for k, v in self._answers.items() if k in target)
        return Answered(body)

    post = get

    def close(self) -> None:
        pass


class Answered:
    """A response."""

    status = 200
    headers: Mapping[str, str] = {"api-version": "1.41"}

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)

    def read(self, limit: int) -> bytes:
        return self._body.read(limit)

    def close(self) -> None:
        pass


# --- what is made of a container ---


def inspect(answers: Callable[..., Answers], data: bytes) -> None:
    engine = DockerEngine(ENDPOINT, Canned(answers(containers=data)))
    container = engine.find("trainer")
    fits(container, Container)
    fits(engine.refused(), tuple[Summary, ...])
    must(all(p > 0 for p in container.exec_pids), f"pids {container.exec_pids}")
    must(container.pid is None or container.pid > 0, f"pid {container.pid}")
    for m in container.mounts:
        must(m.target.startswith(b"/") and b"\0" not in m.target, f"target {m.target!r}")
        must(b"\0" not in (m.source or b""), f"source {m.source!r}")
    must(len({m.target for m in container.mounts}) == len(container.mounts), "a target twice")
    needs = (*asked_needs(container), *environment_needs(container, b"/root"))
    fits(needs, tuple[PathNeed, ...])
    fits(bad_labels(container), tuple[tuple[str, str], ...])
    predicted_effective(container, Uid(0))
    with _told():
        predicted_userns(container.engine, container.userns_mode)
    with _told():
        resolve_user(container.user, container.group_add, PASSWD[0], GROUP[0])
    if len(data) % 3 == 0:
        _shown(container, FORMS[len(data) // 3 % len(FORMS)])


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PermdoctorError as e:
        tellable(e)


def _shown(container: Container, view: View) -> None:
    """A report of it can be written, and says nothing that a terminal would obey."""
    text = service_json.checked(result(replace(broken(), container=container)), view)
    must(CONTROL.search(text.decode("utf-8")) is None, "a control character is shown")


# --- lists and other answers ---


def listed(answers: Callable[..., Answers], data: bytes) -> None:
    engine = DockerEngine(ENDPOINT, Canned(answers(containers_json=data)))
    found = engine.list(every=True)
    fits(found, tuple[Summary, ...])
    fits(engine.refused(), tuple[Summary, ...])
    fits(tuple(engine.containers_using([b"/srv", b"/"])), tuple[Summary, ...])
    inbox = Inbox(10)
    source = Source(ENDPOINT, inbox)
    for summary in found[:50]:
        seen = source._seen(summary, lambda _: "")
        must(seen.name.isprintable(), f"a name that is not printable: {seen.name!r}")
        fits(bounds.labels_of(seen, Limits()), tuple[tuple[str, str], ...])
    inbox.close()
    with _told():
        engine.find("no-such-name")


def info(answers: Callable[..., Answers], data: bytes) -> None:
    found = DockerEngine(ENDPOINT, Canned(answers(info=data))).info
    fits(found, EngineInfo)
    with _told():
        predicted_userns(found)


def others(data: bytes) -> None:
    """An exec session, and a volume; when a container started."""
    created = recorded("docker-inspect.json").replace(b'"running"', b'"exited"', 1)
    for answers in (docker(exec=data), docker(containers=created, volumes=data)):
        fits(DockerEngine(ENDPOINT, Canned(answers)).find("trainer"), Container)
    fits(DockerEngine(ENDPOINT, Canned(docker(containers=data))).started("x"), str)


# --- events ---


def event(data: bytes) -> None:
    found = parse_event(data)
    if found is None:
        return
    fits(found, EngineEvent)
    must(found.kind in ("container", "volume", "daemon"), f"kind {found.kind}")
    must(re.fullmatch(r"([0-9A-Za-z][\w.-]{0,127})?", found.container, re.A), found.container)
    inbox = Inbox(10)
    Source(ENDPOINT, inbox)._happened(found)
    for each in inbox.take(10):
        must(isinstance(each, Happened), f"{each} is no event")
        seen = each.container
        must(bounds.fits(seen.ref, Limits()), f"an id that is none: {seen.ref}")
        must(bounds.name_of(seen).isprintable(), f"a name that is not printable: {seen.name!r}")
        fits(bounds.labels_of(seen, Limits()), tuple[tuple[str, str], ...])
    inbox.close()


# --- files ---


def archive(data: bytes) -> None:
    inode, content = read_member(Answered(data), 1 << 20)
    fits(inode, ImageInode)
    must(0 <= inode.uid <= ID_MAX and 0 <= inode.gid <= ID_MAX, f"owner {inode.uid}:{inode.gid}")
    must(0 <= inode.mode <= 0o7777, f"mode {inode.mode:o}")
    must(len(content) <= 1 << 20, f"{len(content)} bytes")


def _tar(format_: int, **fields: Any) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=format_) as tar:
        member = tarfile.TarInfo("etc/passwd")
        content = b"root:x:0:0::/:/bin/sh\n"
        member.size = len(content)
        for name, value in fields.items():
            setattr(member, name, value)
        tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


TARS = (
    recorded("passwd.tar"),
    _tar(tarfile.USTAR_FORMAT, type=tarfile.DIRTYPE, size=0),
    _tar(tarfile.GNU_FORMAT, name="x" * 300, uid=1 << 30),
    _tar(tarfile.PAX_FORMAT, name="ä" * 300, uid=1 << 31, pax_headers={"SCHILY.xattr.a": "b"}),
    _tar(tarfile.PAX_FORMAT, type=tarfile.SYMTYPE, size=0, linkname="/etc/ä" * 50),
    _tar(tarfile.PAX_FORMAT, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
)
_DAMAGED_TAR = bytes_of(
    TARS, (b"ustar\x0000", b"0000644\0", b"\x80" + b"\xff" * 7, b"L", b"x", b"K")
)


def tar_of(chance: Random) -> bytes:
    """Damaged, with a header's checksum mended: the damage is to be read."""
    data = bytearray(_DAMAGED_TAR(chance))
    if len(data) >= 512 and chance.random() < 0.8:
        for at in range(0, min(len(data) - 511, 2048), 512):
            header = data[at : at + 512]
            header[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(header)
    return large(chance, bytes(data))


@contextlib.contextmanager
def contexts() -> Iterator[Feed]:
    """The docker CLI's config.json, and a context's meta.json."""
    with scratch() as home:
        meta = Path(home, "contexts", "meta", hashlib.sha256(b"lab").hexdigest())
        meta.mkdir(parents=True)
        Path(home, "config.json").write_text('{"currentContext": "lab"}')

        def feed(data: bytes) -> None:
            (meta / "meta.json").write_bytes(data)
            environ = {"DOCKER_CONFIG": home, "HOME": home}
            with _told():
                found = find_endpoints((), environ)
                fits(found, tuple[Endpoint, ...])
                must(found[0].url.startswith(("unix:///", "tcp://")), f"endpoint {found[0].url!r}")
            host = data.decode("utf-8", "surrogateescape").replace("\0", "")[:1000]
            find_endpoints((), environ | {"DOCKER_HOST": host})

        yield feed


META = json.dumps(
    {
        "Name": "lab",
        "Metadata": {},
        "Endpoints": {"docker": {"Host": DEFAULT, "SkipTLSVerify": False}},
    }
).encode()
HOSTS = (
    b"tcp://127.0.0.1:2375",
    b"unix:///run/user/1000/docker.sock",
    b"ssh://root@host",
    b"[::1]:1",
)


def meta_of(chance: Random) -> bytes:
    return (META_JSON if chance.random() < 0.5 else META_HOST)(chance)


META_JSON = json_of((META,))
META_HOST = bytes_of(HOSTS, (b"tcp://", b"unix://", b":", b"[", b"]", b"127.1", b"localhost", b"@"))


def _json(name: str, feed: Feed, *samples: bytes) -> Target:
    return Target(name=name, make=json_of(samples), open=simple(feed), seconds=0.5)


TARGETS = (
    Target(
        name="events",
        make=json_of([*lines_of("docker-events"), *lines_of("podman-events")]),
        open=simple(event),
        errors=(),
    ),
    _json("docker-inspect", partial(inspect, docker), recorded("docker-inspect.json")),
    _json("podman-inspect", partial(inspect, podman), recorded("podman-inspect.json")),
    _json("docker-list", partial(listed, docker), recorded("docker-list.json")),
    _json("podman-list", partial(listed, podman), recorded("podman-list.json")),
    _json("docker-info", partial(info, docker), _own("docker")["/info"]),
    _json("podman-info", partial(info, podman), _own("podman")["/info"]),
    _json(
        "other-answers",
        others,
        recorded("docker-exec.json"),
        recorded("docker-volume.json"),
        recorded("docker-inspect.json"),
    ),
    Target(name="image-archive", make=tar_of, open=simple(archive)),
    Target(name="docker-context", make=meta_of, open=contexts),
)
