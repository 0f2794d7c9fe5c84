"""Where repair is allowed, and what: a pure function of the configuration and of a question.

Three answers, in this order.  *Denied*: the host's own places, and what ``repair.deny`` names; no
option changes that.  *Not allowed*: no root of ``repair.roots`` and no ``--allow`` or ``--path`` is
above the place.  Else it is allowed.  Every path here is a resolved one: whoever can make a symlink
must not be able to move a root.  (``root.py`` asks again by device and inode.)
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.config import Repair
from permdoctor.container.container import Container, State, is_engine_socket
from permdoctor.container.needs import clean_path
from permdoctor.diagnosis import system
from permdoctor.diagnosis.shell import path_argument
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.text import printable

HOME = b"/home"
TREES = (*system.TREES, b"/usr", b"/run", b"/var/run", b"/root/.ssh")


class Machine(Struct, frozen=True, kw_only=True):
    """What the host says of itself.  ``homes`` are those of its accounts, ``data_roots`` those of
    the engines that are asked.
    """

    homes: frozenset[bytes] = frozenset()
    data_roots: tuple[bytes, ...] = ()


class Question(Struct, frozen=True, kw_only=True):
    """May this be repaired?  ``path`` is resolved.  ``named``: the user gave the path itself
    (``--path``); ``allow`` are the directories of ``--allow``.  ``deep``: what lies below it is
    meant, too.
    """

    path: bytes
    remedies: tuple[str, ...] = ()
    named: bool = False
    allow: tuple[bytes, ...] = ()
    socket: bool = False
    deep: bool = True


class Kind(StrEnum):
    """DENIED stays so whatever is asked; NOT_ALLOWED can be allowed by who runs the command."""

    DENIED = "denied"
    NOT_ALLOWED = "not-allowed"


class Refusal(Struct, frozen=True, kw_only=True):
    """Why not, in one line, and what to do about it."""

    kind: Kind
    message: str
    hint: str


def judge(rules: Repair, machine: Machine, question: Question) -> Refusal | None:
    """``None``: it is allowed."""
    return (
        _denied(rules, machine, question)
        or _remedies(rules, question.remedies)
        or _outside(rules, question)
    )


def judge_live(rules: Repair, sysctls: Sysctls) -> Refusal | None:
    """Whether it may go on while containers can write in the tree (``--live``).

    Without fs.protected_hardlinks they could link a foreign file into it and unlink it again in
    time: then no check that a program can make is enough.
    """
    if not rules.live:
        return Refusal(
            kind=Kind.NOT_ALLOWED,
            message="--live is not allowed: repair.live is false",
            hint="without --live the containers that can write there are paused meanwhile",
        )
    if not sysctls.protected_hardlinks:
        return Refusal(
            kind=Kind.DENIED,
            message="--live is not safe here: fs.protected_hardlinks is 0",
            hint="sysctl fs.protected_hardlinks=1, or repair without --live",
        )
    return None


def judge_unasked(
    rules: Repair, machine: Machine, question: Question, container: Container, entries: int
) -> Refusal | None:
    """As :func:`judge`, where nobody is there to be asked or to allow more: one table of
    ``repair.unasked`` must allow all of it, for a container that did run.
    """
    refused = judge(rules, machine, replace(question, named=False, allow=()))
    if refused is not None:
        return refused
    if container.state is State.CREATED or (container.error and not container.running):
        return Refusal(
            kind=Kind.NOT_ALLOWED,
            message=f"{printable(container.name)} was not started",
            hint="a person can repair it: permdoctor fix",
        )
    engine = container.engine
    for table in rules.unasked:
        if (
            (table.engine == engine.endpoint if table.engine else engine.by_root)
            and fnmatch.fnmatchcase(container.name, table.container)
            and set(question.remedies) == {table.remedy}
            and any(is_beneath(question.path, r) for r in _paths(table.roots))
            and entries <= table.max_entries
        ):
            return None
    return Refusal(
        kind=Kind.NOT_ALLOWED,
        message=f"no table of repair.unasked allows this in {printable(question.path)}",
        hint="a person can repair it: permdoctor fix",
    )


def _denied(rules: Repair, machine: Machine, question: Question) -> Refusal | None:
    path = question.path
    shown = printable(path)
    for deny in _paths(rules.deny):
        if is_beneath(path, deny):
            return _never(f"{shown}: repair.deny protects {printable(deny)}", "it is meant so")
        if question.deep and is_beneath(deny, path):
            return _never(
                f"{shown} contains {printable(deny)}, which repair.deny protects",
                "repair the directories beside it one by one: --path DIR",
            )
    if question.socket or is_engine_socket(path):
        return _never(f"{shown} is a socket", "see `permdoctor codes PD205` for what helps")
    if path in machine.homes or (path.rpartition(b"/")[0] == HOME and path != HOME):
        return _never(
            f"{shown} is a home directory",
            "its owner and mode protect what lies in it; repair a directory in it instead",
        )
    for root in (*system.ENGINES, *machine.data_roots):
        above = path == root or (question.deep and is_beneath(root, path))
        if above or (is_beneath(path, root) and system.is_system(path, root)):
            return _never(
                f"{shown} is or contains a container engine's own directory ({printable(root)})",
                "only the data of its volumes can be repaired",
            )
    if path in system.EXACT or any(is_beneath(path, t) for t in TREES):
        return _never(
            f"{shown} is the host's own: its owners and modes keep the host's users apart",
            "mount only the directory that the container needs",
        )
    return None


def _never(message: str, hint: str) -> Refusal:
    return Refusal(kind=Kind.DENIED, message=f"nothing is repaired here: {message}", hint=hint)


def _remedies(rules: Repair, wanted: Iterable[str]) -> Refusal | None:
    for name in wanted:
        if rules.remedies and name not in rules.remedies:
            return Refusal(
                kind=Kind.DENIED,
                message=f"remedy {name} is not among repair.remedies",
                hint=f"allowed are: {', '.join(map(printable, rules.remedies))}",
            )
    return None


def _outside(rules: Repair, question: Question) -> Refusal | None:
    roots = (*_paths(rules.roots), *question.allow)
    if question.named or any(is_beneath(question.path, r) for r in roots):
        return None
    shown = path_argument(question.path)
    return Refusal(
        kind=Kind.NOT_ALLOWED,
        message=f"repair is not allowed in {printable(question.path)}: repair.roots does not name "
        "it, or a directory above it",
        hint=f"--allow {shown} allows it for this command",
    )


def _paths(texts: Iterable[str]) -> Iterable[bytes]:
    return (clean_path(t.encode("utf-8", "surrogateescape")) for t in texts)
