"""The commands that a report shows and the recipe of the same remedy, on a real filesystem: they
make the same of it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from permdoctor.container.binds import SourceState
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts, Neighbour, Tree
from permdoctor.diagnosis.recipes import Recipe, Scope
from permdoctor.diagnosis.report import Coverage, Remedy
from permdoctor.host.entries import facts_of_fd, to_inode
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from tests.diagnosis.build import bind, directory, facts, host_user, neighbour, subject
from tests.lab.filesystems import mounted_fs
from tests.lab.needs import MissingError, need_tools

State = dict[str, Inode]
Row = tuple[str, int, int, int, str]
"""Path (a directory ends in /; "" is the root), uid, gid, mode, ACL as setfacl takes it."""


@pytest.fixture(scope="module")
def tmpfs() -> Iterator[Path]:
    try:
        need_tools("setfacl")
        with mounted_fs("tmpfs") as path:
            yield Path(path)
    except MissingError as e:
        pytest.skip(str(e))


def made(top: Path, rows: tuple[Row, ...]) -> None:
    for name, uid, gid, mode, acl in rows:
        path = top / name
        if name.endswith("/") or not name:
            path.mkdir(exist_ok=True)
        else:
            path.touch()
        os.chown(path, uid, gid)
        path.chmod(mode)
        if acl:
            subprocess.run(["setfacl", "-m", acl, path], check=True)


def state(top: Path) -> State:
    """Every inode of the tree, by its path; the root is the empty one."""
    found: State = {}
    for path in (top, *sorted(top.rglob("*"))):
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        inode = to_inode(facts_of_fd(fd), Mount())
        os.close(fd)
        found["" if path == top else str(path.relative_to(top))] = inode
    return found


def tree(of: State) -> Tree:
    """Each entry a class of its own."""
    classes = tuple(
        EntryClass(parent=of[os.path.dirname(name)], inode=i, count=1, samples=(os.fsencode(name),))
        for name, i in of.items()
        if name
    )
    return Tree(classes=classes, coverage=Coverage(entries=len(classes)))


def by_recipe(recipe: Recipe, of: State) -> State:
    """Parents first, as a repair plans it."""
    after: State = {}
    for name in sorted(of):
        parent = after[os.path.dirname(name)] if name else None
        asked = recipe.scope is Scope.ALL or (recipe.scope is Scope.ROOT) == (not name)
        after[name] = (recipe.change(parent, of[name]) if asked else None) or of[name]
    return after


def seen(top: Path, ids: str, others: tuple[Neighbour, ...] = (), *, ro: bool = False) -> Facts:
    of = state(top)
    mounted: BindFacts = bind("/data", of[""], source=str(top), ro=ro, tree=tree(of))
    mounted = replace(mounted, bind=replace(mounted.bind, source_state=SourceState.PRESENT))
    return facts(subject(ids), mounted, neighbours=others)


ALICE = host_user(1000, "alice")
TWO = ("a/", 0, 0, 0o755, ""), ("a/f", 0, 0, 0o666, "")


@pytest.mark.parametrize(
    ("remedy", "rows", "ids", "ro"),
    [
        pytest.param("chown-directory", [("", 0, 0, 0o755, "")], "1001:1001", False, id="S4"),
        pytest.param("chown-directory", [("", 0, 0, 0o055, "")], "1001:1001", False, id="u bits"),
        pytest.param("chown-directory", [("", 0, 50, 0o2755, "")], "1001:1001", False, id="setgid"),
        pytest.param(
            "chown-directory",
            [("", 0, 0, 0o755, "u:1001:rwx,m::r-x")],
            "1001:1001",
            False,
            id="C18 the ACL's mask",
        ),
        pytest.param("chmod-group", [("", 0, 0, 0o755, "")], "1001:0", False, id="C1"),
        pytest.param("chmod-owner", [("", 1001, 5, 0o555, "")], "1001:1001", False, id="u+w"),
        pytest.param(
            "chmod-owner", [("", 1001, 5, 0o555, "u:7:rwx")], "1001:1001", False, id="u+w, ACL"
        ),
        pytest.param("acl-user", [("", 1000, 1000, 0o700, "")], "1001:1001", False, id="acl-user"),
        pytest.param(
            "acl-user",
            [("", 1000, 1000, 0o700, "u:7:rwx,g:8:r-x,g::rwx,m::--x")],
            "1001:1001",
            False,
            id="acl-user: others stay asleep",
        ),
        pytest.param(
            "acl-user",
            [("", 1000, 1000, 0o700, "u:1001:-wx")],
            "1001:1001",
            True,
            id="acl-user: more than it had",
        ),
        pytest.param("shared-group", [("", 5, 5, 0o755, "")], "1001:1001", False, id="C13"),
        pytest.param(
            "shared-group",
            [("", 5, 5, 0o750, "u:7:rwx,m::r-x")],
            "1001:1001",
            False,
            id="C13 beside an ACL",
        ),
        pytest.param(
            "acl-entries",
            [("", 0, 0, 0o755, ""), ("w", 0, 0, 0o600, ""), ("run", 0, 0, 0o700, "")],
            "1001:1001",
            True,
            id="S1a",
        ),
        pytest.param(
            "acl-entries",
            [
                ("", 1001, 1001, 0o755, ""),
                *((f"{n}", 1000, 0, 0o644, "") for n in range(5)),
                ("d/", 1000, 0, 0o750, ""),
            ],
            "1001:1001",
            False,
            id="by find",
        ),
        pytest.param(
            "chown-entries",
            [
                ("", 1001, 1001, 0o755, ""),
                *((f"{n}", 0, n, 0o664, "") for n in range(4)),
                ("d/", 0, 0, 0o755, ""),
                ("alice", 1000, 1000, 0o644, ""),
            ],
            "1001:1001",
            False,
            id="what root left behind",
        ),
        pytest.param(
            "chown-entries",
            [("", 0, 0, 0o1777, ""), ("ckpt", 0, 0, 0o644, "")],
            "1001:1001",
            False,
            id="C18 sticky",
        ),
        pytest.param(
            "chmod-entries",
            [("", 1001, 1001, 0o755, ""), ("w", 1001, 0, 0o200, ""), ("d/", 1001, 0, 0o311, "")],
            "1001:1001",
            False,
            id="the owner's bits",
        ),
        pytest.param("chmod-others", [("", 0, 0, 0o777, "")], "1001:1001", False, id="C14"),
        pytest.param(
            "chmod-others",
            [("", 1001, 0, 0o755, ""), ("f", 0, 0, 0o666, ""), ("tmp/", 0, 0, 0o1777, "")],
            "1001:1001",
            False,
            id="C14 below",
        ),
        pytest.param(
            "default-acl",
            [("", 1001, 1001, 0o755, "")],
            "1001:1001",
            False,
            id="for the people of the host",
        ),
        pytest.param(
            "chown-leftovers",
            [("", 1000, 1000, 0o755, ""), ("hub/", 0, 0, 0o755, ""), ("hub/x", 0, 0, 0o644, "")],
            "0:0",
            False,
            id="C12",
        ),
    ],
)
def test_commands_and_recipe_agree(
    remedy: str, rows: list[Row], ids: str, ro: bool, tmpfs: Path, tmp_path: Path
) -> None:
    top = tmpfs / tmp_path.name
    made(top, tuple(rows))
    others = (
        neighbour("container db", subject("5:5"), str(top)),
        neighbour("alice", ALICE, str(top)),
    )
    of = seen(top, ids, tuple(n for n in others if n.cred_of.cred.fsuid == rows[0][1]), ro=ro)
    if remedy == "default-acl":
        of = replace(of, users=replace(of.users, logins=(ALICE,)))
    found = [r for f in diagnose(of).findings for r in f.remedies if r.name == remedy]
    assert found, [r.name for f in diagnose(of).findings for r in f.remedies]
    expected = by_recipe(only(found[0]), state(top))
    assert expected != state(top)
    run(found[0])
    assert state(top) == expected


def only(remedy: Remedy) -> Recipe:
    (recipe,) = remedy.recipes
    return recipe


def run(remedy: Remedy) -> None:
    for command in remedy.commands:
        if command not in remedy.by_hand:
            subprocess.run(["bash", "-ec", command], check=True)


def test_the_directory_is_named_that_keeps_entries_from_being_deleted(
    tmpfs: Path, tmp_path: Path
) -> None:
    top = tmpfs / tmp_path.name
    made(top, (("", 1001, 1001, 0o755, ""), *TWO))
    findings = diagnose(seen(top, "1001:1001")).findings
    (found,) = (f for f in findings if f.code == "PD202")
    expected = by_recipe(only(found.remedies[0]), state(top))
    assert expected["a"] == directory("1001:1001", 0o755, nlink=expected["a"].nlink)
    run(found.remedies[0])
    assert state(top) == expected
