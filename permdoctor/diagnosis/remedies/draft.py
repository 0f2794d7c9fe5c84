"""A remedy before its proof, and the words that remedies share."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.container import MountKind
from permdoctor.container.needs import Need
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.edits import Spec
from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.judge import judge
from permdoctor.diagnosis.recipes import Recipe
from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import path_argument
from permdoctor.kernel.acl import Tag
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import FileType, Inode


class Draft(Struct, frozen=True, kw_only=True):
    """A remedy before its proof.  ``inode``/``cred`` are the world after it: of a remedy with
    recipes the inode is theirs (:func:`with_recipe`).
    """

    rank: int
    remedy: Remedy
    inode: Inode | None = None
    cred: Cred | None = None


def with_recipe(
    rank: int, recipe: Recipe, case: Case, remedy: Remedy, cred: Cred | None = None
) -> Iterator[Draft]:
    """A change of the refusing inode; nothing where its recipe does not help.

    A device or a socket is changed by people alone: it is made anew at the next start.
    """
    inode = recipe.change(None, case.inode)
    if inode is None:
        return
    if inode.type in (FileType.REGULAR, FileType.DIRECTORY):
        remedy = replace(remedy, recipes=(recipe,))
    yield Draft(rank=rank, remedy=remedy, inode=inode, cred=cred)


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


def specs(of: tuple[Spec, ...]) -> Iterator[str]:
    """Entries as setfacl takes them: ``u:1000:r-x``, ``g::rwx``."""
    for tag, id_, perm in of:
        letter = "u" if tag is Tag.USER else "g"
        yield f"{letter}:{'' if id_ is None else id_}:{rwx(perm)}"


def verbs(bits: int) -> str:
    return "write" if bits & 2 else "read" if bits & 4 else "search"
