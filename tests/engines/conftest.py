"""Shared by the tests of this folder: our client of a lab engine, and the truth of /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from permdoctor.container.container import Container
from permdoctor.container.predicted import predicted_subject
from permdoctor.container.subject import Subject
from permdoctor.container.userns import SubIds, parse_subids, predicted_userns
from permdoctor.engines.docker import DockerEngine
from permdoctor.engines.endpoints import find_endpoints
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.ids import IdMap
from permdoctor.kernel.procstatus import parse_id_map, parse_status
from tests.lab.engine import Engine


def client(engine: Engine) -> DockerEngine:
    """Our engine client for a lab daemon."""
    return DockerEngine(find_endpoints([engine.host], {})[0])


@dataclass(frozen=True, kw_only=True)
class Who:
    """What decides about files, in host ids: predicted, or read from /proc."""

    uid: int
    gid: int
    groups: frozenset[int]
    effective: int
    uids: IdMap
    gids: IdMap


UNKNOWN_TO_OLD_ENGINES = Cap.PERFMON | Cap.BPF | Cap.CHECKPOINT_RESTORE
"""Docker 20.10's "ALL" is what its library knew; none of these has to do with files."""


def truth(pid: int) -> Who:
    proc = Path(f"/proc/{pid}")
    status = parse_status((proc / "status").read_bytes())
    return Who(
        uid=status.fsuid,
        gid=status.fsgid,
        groups=status.groups,
        effective=status.effective & ~UNKNOWN_TO_OLD_ENGINES,
        uids=parse_id_map((proc / "uid_map").read_bytes()),
        gids=parse_id_map((proc / "gid_map").read_bytes()),
    )


_accounts: dict[tuple[str, str], tuple[bytes | None, bytes | None]] = {}


def predicted(docker: DockerEngine, container: Container, subids: str = "") -> tuple[Subject, Who]:
    """As the program does it: configuration, the image's files, the daemon's subids."""
    ranges = parse_subids(subids.encode())
    ns = predicted_userns(
        container.engine,
        container.userns_mode,
        SubIds(uids=ranges, gids=ranges, name="alice"),
    )
    key = (docker.endpoint.url, container.image)
    if key not in _accounts:  # the engine forks for each file: ask once for each image
        passwd = docker.image_file(container, b"/etc/passwd", 1 << 20)
        _accounts[key] = (passwd, docker.image_file(container, b"/etc/group", 1 << 20))
    passwd, group = _accounts[key]
    subject = predicted_subject(container, passwd, group, ns)
    cred = subject.cred
    return subject, Who(
        uid=cred.fsuid,
        gid=cred.fsgid,
        groups=frozenset(cred.groups),
        effective=cred.effective & ~UNKNOWN_TO_OLD_ENGINES,
        uids=ns.uids,
        gids=ns.gids,
    )


@pytest.fixture(scope="session")
def docker(dockerd: Engine) -> DockerEngine:
    return client(dockerd)
