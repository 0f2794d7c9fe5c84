"""One refusal, with everything a remedy may ask about, and the words remedies share."""

from __future__ import annotations

from dataclasses import dataclass

from permdoctor.container.container import MountKind
from permdoctor.container.needs import Need, PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, Facts
from permdoctor.diagnosis.judge import Judgement, Phase, judge, operations_for
from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import path_argument
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.walk import Hop


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One refusal, with everything a remedy may ask about.

    ``bind`` is ``None`` for a path of the image.  ``host_path`` is the refusing object's place
    on the host, where it has one.
    """

    facts: Facts
    code: str
    subject: Subject
    need: PathNeed
    judgement: Judgement
    hops: tuple[Hop, ...]
    missing: bool = False
    bind: BindFacts | None = None
    host_path: bytes | None = None

    @property
    def at(self) -> Hop:
        assert self.judgement.at is not None
        return self.judgement.at

    @property
    def inode(self) -> Inode:
        return self.at.inode

    @property
    def cred(self) -> Cred:
        return self.subject.cred

    @property
    def bits(self) -> int:
        """The rwx bits that the need asks of the refusing inode."""
        if self.judgement.phase is Phase.WALK:
            return 1
        x = 1 if self.inode.is_dir else 0
        writes = Phase.READ not in operations_for(self.need.need, self.inode) or self.need.need in (
            Need.WRITE,
            Need.OWN,
        )
        return (6 if writes else 4) | x

    @property
    def owner_is_a_user(self) -> bool:
        """Whether the host owner is somebody who would miss the directory: not root."""
        return self.inode.uid is not None and self.inode.uid != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A remedy before its proof.  ``inode``/``cred`` are the world after it."""

    rank: int
    remedy: Remedy
    inode: Inode | None = None
    cred: Cred | None = None


def advice(
    name: str,
    title: str,
    commands: tuple[str, ...],
    *,
    where: str = "host",
    why: str = "",
    why_not: str = "",
    rank: int = 50,
) -> Draft:
    remedy = Remedy(
        name=name, title=title, commands=commands, where=where, why=why, why_not=why_not
    )
    return Draft(rank=rank, remedy=remedy)


def shown(case: Case) -> str:
    """The refusing object's path on the host, as a shell word."""
    return path_argument(case.host_path if case.host_path is not None else case.at.path)


def ids_of(subject: Subject, cred: Cred) -> str:
    ns = subject.cred.userns
    return f"{ns.uid(cred.fsuid)}:{ns.gid(cred.fsgid)}"


ENGINE_SOCKETS = (b"docker.sock", b"podman.sock", b"containerd.sock", b"crio.sock")


def is_engine_socket(path: bytes) -> bool:
    """Whether a path is called like the control socket of a container engine."""
    return path.rsplit(b"/", 1)[-1] in ENGINE_SOCKETS


def writable_place(facts: Facts, subject: Subject) -> bytes | None:
    """A mounted directory that the subject may write, for a cache to live in."""
    for b in facts.binds:
        if b.walk is None or b.walk.object is None or not b.walk.object.inode.is_dir:
            continue
        if b.bind.read_only or b.bind.kind not in (MountKind.BIND, MountKind.VOLUME):
            continue
        if judge(subject.cred, b.walk.hops, Need.WRITE, facts.sysctls).allowed:
            return b.bind.target
    return None


def letters(bits: int) -> str:
    return "".join(c for c, b in (("r", 4), ("w", 2), ("x", 1)) if bits & b)


def rwx(bits: int) -> str:
    return "".join(c if bits & b else "-" for c, b in (("r", 4), ("w", 2), ("x", 1)))


def verbs(bits: int) -> str:
    return "write" if bits & 2 else "read" if bits & 4 else "search"
