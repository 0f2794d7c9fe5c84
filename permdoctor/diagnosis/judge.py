"""Needs put to the kernel's rules: may this subject do what is needed of this path?

A need is a short list of operations; its verdict is the first refusal among them, with the walk's
steps before.  Steps name their inode by its path in the container.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.needs import Need
from permdoctor.kernel import operations as op
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import permission
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.text import printable
from permdoctor.kernel.verdict import Step, Verdict, Want
from permdoctor.kernel.walk import Hop, walk


class Phase(StrEnum):
    """The part of a need that was refused; the codes and remedies differ by it."""

    WALK = "reach"
    READ = "read"
    WRITE = "write"
    CREATE = "create"
    OWN = "own"


class Judgement(Struct, frozen=True, kw_only=True):
    """The verdict on a need; ``phase`` is the part refused, ``None`` where all is allowed.

    ``at`` is the hop at which it was refused: a directory on the way, or the object.
    """

    verdict: Verdict
    phase: Phase | None = None
    at: Hop | None = None

    @property
    def allowed(self) -> bool:
        return self.verdict.allowed


def operations_for(need: Need, inode: Inode) -> tuple[Phase, ...]:
    """What a need asks of an inode of this type."""
    if need is Need.NONE:
        return ()
    if inode.type is FileType.SOCKET:
        return (Phase.WRITE,)  # connect(2) asks for W, whatever the mount's flags
    return {
        Need.READ: (Phase.READ,),
        Need.WRITE: (Phase.READ, Phase.CREATE if inode.is_dir else Phase.WRITE),
        Need.OWN: (Phase.READ, Phase.CREATE if inode.is_dir else Phase.WRITE, Phase.OWN),
    }[need]


def ask(cred: Cred, inode: Inode, mount: Mount, phase: Phase) -> Verdict:
    """One part of a need, as the operation that a program would do."""
    match phase:
        case Phase.READ if inode.is_dir:
            return permission(cred, inode, mount, Want.R | Want.X, "object")
        case Phase.READ:
            return op.open_existing(cred, inode, mount, op.OpenFlags(want=Want.R))
        case Phase.WRITE if inode.type is FileType.SOCKET:
            return permission(cred, inode, mount, Want.W, "object")
        case Phase.WRITE:
            return op.open_existing(cred, inode, mount, op.OpenFlags(want=Want.R | Want.W))
        case Phase.CREATE:
            return op.create(cred, inode, mount)
        case Phase.OWN:
            return op.chmod(cred, inode, mount)
        case Phase.WALK:
            return permission(cred, inode, mount, Want.X, "object")


def rights(cred: Cred, inode: Inode, mount: Mount) -> frozenset[Phase]:
    """Everything of :func:`operations_for` that is allowed: READ, WRITE or CREATE, OWN."""
    return frozenset(
        p for p in operations_for(Need.OWN, inode) if ask(cred, inode, mount, p).allowed
    )


def judge(
    cred: Cred, hops: tuple[Hop, ...], need: Need, sysctls: Sysctls, *, missing: bool = False
) -> Judgement:
    """Walk the hops, then ask for what is needed of the last one.

    With ``missing`` the last hop is the directory in which the object would have to be created.
    """
    steps: list[Step] = []
    for verdict, phase, at in _questions(cred, hops, need, sysctls, missing):
        steps.extend(verdict.steps)
        if not verdict.allowed:
            refused = Verdict(errno=verdict.errno, steps=tuple(steps))
            return Judgement(verdict=refused, phase=phase, at=at)
    return Judgement(verdict=Verdict(errno=None, steps=tuple(steps)))


def _questions(
    cred: Cred, hops: tuple[Hop, ...], need: Need, sysctls: Sysctls, missing: bool
) -> Iterator[tuple[Verdict, Phase, Hop]]:
    way = walk(cred, hops, sysctls)
    last = way.steps[-1].about if way.steps else "0"
    yield _named(way, hops), Phase.WALK, hops[int(last)] if not way.allowed else hops[-1]
    end = hops[-1]
    if missing:
        search = permission(cred, end.inode, end.mount, Want.X, "object")
        yield _at(search, end), Phase.WALK, end
        if need in (Need.WRITE, Need.OWN):
            yield _at(op.create(cred, end.inode, end.mount), end), Phase.CREATE, end
        return
    for phase in operations_for(need, end.inode):
        yield _at(ask(cred, end.inode, end.mount, phase), end), phase, end


def _named(verdict: Verdict, hops: tuple[Hop, ...]) -> Verdict:
    """The walk's steps with paths instead of hop numbers."""
    steps = tuple(replace(s, about=printable(hops[int(s.about)].path)) for s in verdict.steps)
    return replace(verdict, steps=steps)


def _at(verdict: Verdict, hop: Hop) -> Verdict:
    """An operation's steps with the object's path; other roles keep their name."""
    path = printable(hop.path)
    steps = tuple(
        replace(s, about=path) if s.about in ("object", "parent") else s for s in verdict.steps
    )
    return replace(verdict, steps=steps)


class EntryTrouble(StrEnum):
    """What a subject cannot do to an entry below a mount's root."""

    UNREADABLE = "unreadable"
    UNWRITABLE = "unwritable"
    UNDELETABLE = "undeletable"


def judge_entry(
    cred: Cred, parent: Inode, inode: Inode, mount: Mount, need: Need
) -> tuple[EntryTrouble, Verdict] | None:
    """The worst trouble with one entry of a tree, ``None`` where there is none.

    Only files and directories count.  What the subject owns, or could chmod, is its own choice:
    a 0444 file of its own is no trouble (git keeps its objects so).
    """
    if inode.type not in (FileType.REGULAR, FileType.DIRECTORY):
        return None
    read = ask(cred, inode, mount, Phase.READ)
    if not read.allowed:
        return EntryTrouble.UNREADABLE, read
    if need not in (Need.WRITE, Need.OWN):
        return None
    write = ask(cred, inode, mount, Phase.CREATE if inode.is_dir else Phase.WRITE)
    if not write.allowed and not op.chmod(cred, inode, mount).allowed:
        return EntryTrouble.UNWRITABLE, write
    gone = op.delete(cred, parent, inode, mount)
    if not gone.allowed and not op.chmod(cred, parent, mount).allowed:
        return EntryTrouble.UNDELETABLE, gone
    return None
