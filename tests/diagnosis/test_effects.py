"""Who gains and who loses by a plan, and that asking once for many is the same as asking each."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from msgspec.structs import replace

from permdoctor.diagnosis.effects import Effect, Right, effects
from permdoctor.diagnosis.facts import Facts, HostUsers
from permdoctor.diagnosis.judge import Phase, rights
from permdoctor.diagnosis.parties import users_of
from permdoctor.diagnosis.plan import Change, Summary, TreePlan
from permdoctor.kernel.acl import Acl, AclEntry, Tag
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import FileType, Inode

from .build import bind, container, directory, facts, host_user, inode, neighbour, remapped, subject
from .test_recipes import with_acl

RIGHT = {
    Phase.READ: Right.READ,
    Phase.CREATE: Right.WRITE,
    Phase.WRITE: Right.WRITE,
    Phase.OWN: Right.OWN,
}
DATA = bind("/data", directory("1000:1000", 0o755))
ALICE = neighbour("alice (1000)", host_user(1000, "alice"))
DB = neighbour("container db", subject("999:999"))
TRAINER = facts(subject("1001:1001"), DATA, neighbours=(ALICE, DB))


def summary(*changes: tuple[Inode, Inode, int], path: bytes = b"/srv/source") -> Summary:
    made = tuple(
        Change(before=old, after=new, count=n, samples=(b"x%d" % i,))
        for i, (old, new, n) in enumerate(changes)
    )
    return Summary(trees=(TreePlan(path=path, entries=sum(c.count for c in made), changes=made),))


def said(found: tuple[Effect, ...]) -> list[tuple[str, str, str, int]]:
    return [(e.who, "+".join(e.gains), "+".join(e.loses), e.count) for e in found]


FILE = inode("1000:1000", 0o640)
GIVEN = (FILE, inode("1001:1001", 0o640), 7)


@pytest.mark.parametrize(
    ("plan", "of", "expected"),
    [
        pytest.param(
            summary(GIVEN),
            TRAINER,
            [
                ("alice (1000)", "", "read+write+own", 7),
                ("1001:1001 in trainer", "read+write+own", "", 7),
            ],
            id="chown",
        ),
        pytest.param(
            summary(
                (FILE, with_acl(FILE, "u::rw-", "u:1001:rw-", "g::r--", "m::rw-", "o::---"), 1)
            ),
            TRAINER,
            [("1001:1001 in trainer", "read+write", "", 1)],
            id="an ACL entry: nobody loses",
        ),
        pytest.param(
            summary((inode("0:0", 0o666), inode("0:0", 0o664), 3)),
            TRAINER,
            [
                ("1001:1001 in trainer", "", "write", 3),
                ("alice (1000)", "", "write", 3),
                ("container db", "", "write", 3),
            ],
            id="closed to others",
        ),
        pytest.param(
            summary((directory("0:0", 0o700), directory("0:0", 0o711), 1)),
            facts(subject("1001:1001"), DATA),
            [("1001:1001 in trainer", "search", "", 1)],
            id="to pass through",
        ),
        pytest.param(
            summary(GIVEN, path=b"/srv"),
            facts(subject("1001:1001"), DATA),
            [
                ("uid 1000", "", "read+write+own", 7),
                ("1001:1001 in trainer", "read+write+own", "", 7),
            ],
            id="a mount in the tree; an owner that is a number",
        ),
        pytest.param(
            summary(GIVEN),
            None,
            [("uid 1000", "", "read+write+own", 7)],
            id="no container at all",
        ),
        pytest.param(
            summary((inode("0:0", 0o600), inode("1001:1001", 0o600), 1)),
            facts(subject("0:0"), DATA),
            [],
            id="root loses nothing",
        ),
        pytest.param(
            summary((directory("0:0", 0o755), directory("0:0", 0o2755), 1)),
            TRAINER,
            [],
            id="nothing to anybody",
        ),
    ],
)
def test_effects(
    plan: Summary, of: Facts | None, expected: list[tuple[str, str, str, int]]
) -> None:
    assert said(effects(plan, of)) == expected


def test_names_of_owners() -> None:
    users = HostUsers(users=((1000, "ali\x1bce"),))
    (one,) = effects(summary(GIVEN), None, users)
    assert one.who == "ali\\x1bce (1000)"
    (one,) = effects(summary(GIVEN), None, HostUsers(logins=(host_user(1000, "alice"),)))
    assert one.who == "alice (1000)"


def test_a_hostile_container_name() -> None:
    of = replace(TRAINER, container=container("a\x1b[2J"))
    assert effects(summary(GIVEN), of)[-1].who == "1001:1001 in a\\x1b[2J"


def test_samples_are_three_and_losses_come_first() -> None:
    plan = summary(*[GIVEN] * 5, (inode("0:0", 0o600), inode("0:0", 0o604), 1000))
    found = effects(plan, TRAINER)
    assert [bool(e.loses) for e in found] == sorted((bool(e.loses) for e in found), reverse=True)
    assert found[0].samples == (b"x0", b"x1", b"x2")


def some_inode(rnd: random.Random, ids: int) -> Inode:
    acl = None
    mode = rnd.randrange(0o10000)
    if rnd.random() < 0.3:
        named = sorted(rnd.sample(range(1000, 1000 + ids), 3))
        acl = Acl(
            (
                AclEntry(tag=Tag.USER_OBJ, perm=mode >> 6 & 7),
                *(AclEntry(tag=Tag.USER, id=n, perm=rnd.randrange(8)) for n in named),
                AclEntry(tag=Tag.GROUP_OBJ, perm=rnd.randrange(8)),
                *(AclEntry(tag=Tag.GROUP, id=n, perm=rnd.randrange(8)) for n in named),
                AclEntry(tag=Tag.MASK, perm=mode >> 3 & 7),
                AclEntry(tag=Tag.OTHER, perm=mode & 7),
            )
        )
    return Inode(
        uid=Kuid(rnd.randrange(1000, 1000 + ids)),
        gid=Kgid(rnd.randrange(1000, 1000 + ids)),
        mode=mode,
        type=rnd.choice((FileType.REGULAR, FileType.DIRECTORY)),
        acl=acl,
        immutable=rnd.random() < 0.1,
    )


def test_asking_once_for_many_is_asking_each() -> None:
    """Every right gained or lost, of every person, counted by the rules one by one."""
    rnd = random.Random(7)
    crowd = (
        *(subject(f"{n}:{n + 1}", groups=(n + 2,)) for n in range(1000, 1008)),
        subject("0:0"),
        subject("0:0", ns=remapped(1002, 4)),
    )
    of = facts(crowd, DATA)
    plan = summary(*((some_inode(rnd, 12), some_inode(rnd, 12), 1) for _ in range(200)))
    expected: Counter[tuple[str, Right, bool]] = Counter()
    for n in users_of(of, b"/srv/source"):
        for c in plan.trees[0].changes:
            before = rights(n.cred_of.cred, c.before, n.mount)
            after = rights(n.cred_of.cred, c.after, n.mount)
            old, new = {RIGHT[p] for p in before}, {RIGHT[p] for p in after}
            expected.update((n.who, r, True) for r in new - old)
            expected.update((n.who, r, False) for r in old - new)
    found: Counter[tuple[str, Right, bool]] = Counter()
    for e in effects(plan, of):
        if " in " in e.who:
            found.update({(e.who, r, True): e.count for r in e.gains if r is not Right.SEARCH})
            found.update({(e.who, r, False): e.count for r in e.loses if r is not Right.SEARCH})
    assert found == expected
    assert len(found) > 40


def test_thousands_of_kinds_and_a_crowd_are_soon_judged() -> None:
    """Each alone would be half a million questions."""
    rnd = random.Random(7)
    crowd = tuple(subject(f"{n}:{n}") for n in range(1000, 1064))
    plan = summary(*((some_inode(rnd, 3000), some_inode(rnd, 3000), 1) for _ in range(800)))
    began = time.process_time()
    assert effects(plan, facts(crowd, DATA))
    assert time.process_time() - began < 5
