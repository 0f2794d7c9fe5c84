"""One refusal, with everything that details and remedies may ask about."""

from __future__ import annotations

from msgspec import Struct

from permdoctor.container.needs import Need, PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, Facts
from permdoctor.diagnosis.judge import Judgement, Phase, operations_for
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.walk import Hop


class Case(Struct, frozen=True, kw_only=True):
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
