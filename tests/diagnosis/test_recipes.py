"""Recipes against entries that are wrong and entries that are right: what comes out, and that the
rules then allow what they refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import product

import pytest
from msgspec.structs import replace

from permdoctor.container.needs import Need
from permdoctor.diagnosis import edits
from permdoctor.diagnosis.judge import EntryTrouble, Phase, judge_entry, rights
from permdoctor.diagnosis.recipes import (
    Claim,
    CloseOthers,
    DefaultEntry,
    Give,
    Grant,
    GroupBits,
    OwnerBits,
    Party,
    Recipe,
    Scope,
    SharedGroup,
    ToOwner,
    UserEntry,
)
from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, Superblock
from permdoctor.kernel.operations import created

from .build import directory, inode, remapped, subject

DIR = directory("1001:1001", 0o755)
ROOT_OWNS = directory("0:0", 0o755)
STICKY = directory("0:0", 0o1777)
PLAIN = Mount()


def claim(
    ids: str = "1001:1001",
    need: Need = Need.WRITE,
    groups: tuple[int, ...] = (),
    mount: Mount = PLAIN,
    phases: tuple[Phase, ...] = (),
    about: tuple[EntryTrouble, ...] = (),
    spare: tuple[Party, ...] = (),
) -> Claim:
    return Claim(
        cred=subject(ids, groups).cred,
        mount=mount,
        need=need,
        phases=phases,
        about=frozenset(about),
        spare=spare,
    )


def party(ids: str, groups: tuple[int, ...] = (), need: Need = Need.WRITE) -> Party:
    return Party(cred=subject(ids, groups).cred, mount=PLAIN, need=need)


def acl(*entries: str) -> Acl:
    """``u::rwx``, ``u:5:r-x``, ``m::rwx`` ... as getfacl shows them."""
    tags = {"u": Tag.USER, "g": Tag.GROUP, "m": Tag.MASK, "o": Tag.OTHER}
    owners = {"u": Tag.USER_OBJ, "g": Tag.GROUP_OBJ}
    found = []
    for text in entries:
        letter, id_, perm = text.split(":")
        tag = tags[letter] if id_ or letter not in owners else owners[letter]
        bits = sum(b for c, b in zip(perm, (4, 2, 1), strict=True) if c != "-")
        found.append(AclEntry(tag=tag, perm=bits, id=int(id_) if id_ else None))
    return Acl(tuple(found))


def with_acl(of: Inode, *entries: str, default: tuple[str, ...] = ()) -> Inode:
    access = acl(*entries) if entries else None
    mode = of.mode if access is None else of.mode & ~0o777 | access.mode
    return replace(of, acl=access, mode=mode, default_acl=acl(*default) if default else None)


def below(kind: Callable[..., Grant], for_: Claim, **more: object) -> Grant:
    return kind(name="x", scope=Scope.BELOW, claim=for_, **more)


READS, WRITES = claim(need=Need.READ), claim()
FILE = inode("0:0", 0o600)
STRAY: dict[str, object] = {"gid": 1001, "of": frozenset({0})}

ENTRIES = [
    pytest.param(
        below(UserEntry, READS),
        DIR,
        FILE,
        with_acl(FILE, "u::rw-", "u:1001:r--", "g::---", "m::r--", "o::---"),
        id="an entry to read one file: no x",
    ),
    pytest.param(
        below(UserEntry, READS),
        DIR,
        inode("0:0", 0o700),
        with_acl(FILE, "u::rwx", "u:1001:r-x", "g::---", "m::r-x", "o::---"),
        id="x where somebody may execute it",
    ),
    pytest.param(
        below(UserEntry, WRITES),
        DIR,
        directory("0:0", 0o700),
        with_acl(directory("0:0", 0), "u::rwx", "u:1001:rwx", "g::---", "m::rwx", "o::---"),
        id="a directory to write",
    ),
    pytest.param(
        below(UserEntry, READS),
        DIR,
        with_acl(FILE, "u::rw-", "u:5:rwx", "g::r--", "m::---", "o::---"),
        with_acl(FILE, "u::rw-", "u:5:---", "u:1001:r--", "g::---", "m::r--", "o::---"),
        id="what the mask holds back stays asleep",
    ),
    pytest.param(
        below(UserEntry, READS),
        DIR,
        with_acl(FILE, "u::rw-", "u:1001:-w-", "g::---", "m::-w-", "o::---"),
        with_acl(FILE, "u::rw-", "u:1001:rw-", "g::---", "m::rw-", "o::---"),
        id="never less than it had",
    ),
    pytest.param(below(UserEntry, READS), DIR, inode("0:0", 0o644), None, id="readable already"),
    pytest.param(
        below(UserEntry, READS), DIR, inode("1001:0", 0o200), None, id="an owner has no use for one"
    ),
    pytest.param(
        below(UserEntry, claim(need=Need.READ, mount=Mount(sb=Superblock(acls=False)))),
        DIR,
        inode("0:1001", 0o000),
        None,
        id="a filesystem without ACLs, although a mask would be its group's bits",
    ),
    pytest.param(
        below(UserEntry, claim(mount=Mount(read_only=True))),
        DIR,
        inode("0:0", 0o644),
        None,
        id="a read-only mount is not made writable by an entry",
    ),
    pytest.param(
        below(UserEntry, claim(about=(EntryTrouble.UNREADABLE,))),
        DIR,
        inode("0:0", 0o644),
        None,
        id="not the trouble that is meant",
    ),
    pytest.param(
        below(UserEntry, READS), DIR, inode("0:0", 0o600, FileType.FIFO), None, id="a FIFO"
    ),
    pytest.param(
        below(UserEntry, READS), DIR, inode("0:0", 0o777, FileType.SYMLINK), None, id="a symlink"
    ),
    pytest.param(
        below(UserEntry, READS),
        DIR,
        replace(FILE, immutable=True),
        replace(
            with_acl(FILE, "u::rw-", "u:1001:r--", "g::---", "m::r--", "o::---"), immutable=True
        ),
        id="a flag is for the repair to see",
    ),
    pytest.param(
        below(Give, WRITES, **STRAY),
        replace(DIR, append_only=True),
        inode("0:0", 0o644, immutable=True),
        inode("1001:1001", 0o644, immutable=True),
        id="flags, to write",
    ),
    pytest.param(
        below(Give, WRITES, **STRAY), DIR, FILE, inode("1001:1001", 0o600), id="root left it behind"
    ),
    pytest.param(
        below(Give, WRITES, **STRAY), DIR, inode("5:5", 0o600), None, id="somebody's is not given"
    ),
    pytest.param(
        below(Give, WRITES, **STRAY),
        DIR,
        inode("0:50", 0o664),
        inode("1001:50", 0o664),
        id="a group that writes keeps it",
    ),
    pytest.param(
        below(Give, WRITES, **STRAY),
        DIR,
        directory("0:50", 0o2755),
        directory("1001:50", 0o2755),
        id="a group that is inherited stays",
    ),
    pytest.param(
        below(Give, WRITES, **STRAY),
        STICKY,
        inode("0:0", 0o666),
        inode("1001:1001", 0o666),
        id="to delete it in a sticky directory",
    ),
    pytest.param(
        below(Give, WRITES, **STRAY),
        ROOT_OWNS,
        inode("0:0", 0o666),
        None,
        id="its directory refuses: the entry is not the one",
    ),
    pytest.param(
        below(Give, WRITES, **STRAY),
        ROOT_OWNS,
        inode("0:0", 0o644),
        inode("1001:1001", 0o644),
        id="at least it can be written",
    ),
    pytest.param(
        below(Give, READS, **STRAY), DIR, inode("0:0", 0o200), None, id="its owner cannot read it"
    ),
    pytest.param(
        below(OwnerBits, READS),
        DIR,
        inode("1001:0", 0o200),
        inode("1001:0", 0o600),
        id="the owner's own bits",
    ),
    pytest.param(
        below(OwnerBits, READS),
        DIR,
        directory("1001:0", 0o055),
        directory("1001:0", 0o555),
        id="the owner of a directory",
    ),
    pytest.param(below(OwnerBits, READS), DIR, FILE, None, id="not its own"),
    pytest.param(
        below(OwnerBits, WRITES), DIR, inode("1001:0", 0o444), None, id="its own choice (git)"
    ),
    pytest.param(
        below(GroupBits, claim(groups=(50,))),
        DIR,
        inode("0:50", 0o644),
        inode("0:50", 0o664),
        id="in the group already",
    ),
    pytest.param(
        below(GroupBits, claim(groups=(50,))),
        DIR,
        with_acl(inode("0:50", 0), "u::rw-", "u:5:rw-", "g::rw-", "m::r--", "o::---"),
        None,
        id="g+w would wake another's entry",
    ),
    pytest.param(below(GroupBits, WRITES), DIR, inode("0:50", 0o644), None, id="not in the group"),
]


@pytest.mark.parametrize(("recipe", "parent", "entry", "expected"), ENTRIES)
def test_entries(recipe: Grant, parent: Inode, entry: Inode, expected: Inode | None) -> None:
    assert recipe.change(parent, entry) == expected
    if expected is None:
        return
    of = recipe.claim
    parent = replace(parent, append_only=False)
    before = judge_entry(of.cred, parent, entry, of.mount, of.need)
    after = judge_entry(of.cred, parent, replace(expected, immutable=False), of.mount, of.need)
    assert before is not None
    assert after is None or after[0] is EntryTrouble.UNDELETABLE is not before[0]
    assert recipe.change(parent, expected) is None, "once is enough"


def root(kind: Callable[..., Grant], for_: Claim, **more: object) -> Grant:
    return kind(name="x", scope=Scope.ROOT, claim=for_, **more)


CREATES = (Phase.READ, Phase.CREATE)
PASSES = (Phase.WALK,)


@pytest.mark.parametrize(
    ("recipe", "entry", "expected"),
    [
        pytest.param(
            root(OwnerBits, claim(phases=CREATES)),
            directory("1001:1001", 0o555),
            directory("1001:1001", 0o755),
            id="chmod-owner",
        ),
        pytest.param(
            root(GroupBits, claim("1001:0", phases=CREATES)),
            ROOT_OWNS,
            directory("0:0", 0o775),
            id="chmod-group",
        ),
        pytest.param(
            root(Give, claim(phases=CREATES), gid=1001, bits_too=True),
            directory("5:5", 0o055),
            directory("1001:1001", 0o755),
            id="chown-directory, with the bits",
        ),
        pytest.param(
            root(Give, claim(need=Need.OWN, phases=(*CREATES, Phase.OWN)), gid=1001),
            directory("0:0", 0o777),
            directory("1001:1001", 0o777),
            id="to own what it can write",
        ),
        pytest.param(
            root(Give, claim(need=Need.READ, phases=(Phase.READ,)), gid=1001, bits_too=True),
            FILE,
            inode("1001:1001", 0o600),
            id="chown-file",
        ),
        pytest.param(
            root(UserEntry, claim(phases=PASSES)),
            directory("0:0", 0o700),
            with_acl(directory("0:0", 0), "u::rwx", "u:1001:--x", "g::---", "m::--x", "o::---"),
            id="acl-user, to pass through",
        ),
        pytest.param(
            root(UserEntry, claim(need=Need.OWN, phases=(*CREATES, Phase.OWN))),
            ROOT_OWNS,
            None,
            id="no entry makes an owner",
        ),
        pytest.param(
            root(SharedGroup, claim(groups=(50,)), gid=50),
            directory("5:5", 0o755),
            with_acl(directory("5:50", 0o2775), default=("u::rwx", "g::rwx", "o::r-x")),
            id="shared-group",
        ),
        pytest.param(
            root(SharedGroup, claim(groups=(50,)), gid=50),
            with_acl(directory("5:50", 0), "u::rwx", "u:6:rwx", "g::r-x", "m::r-x", "o::---"),
            with_acl(
                directory("5:50", 0o2000),
                *("u::rwx", "u:6:r-x", "g::rwx", "m::rwx", "o::---"),
                default=("u::rwx", "g::rwx", "o::---"),
            ),
            id="shared-group, beside an ACL",
        ),
        pytest.param(root(SharedGroup, claim(), gid=50), ROOT_OWNS, None, id="not in the group"),
        pytest.param(
            root(DefaultEntry, claim("1000:1000")),
            ROOT_OWNS,
            with_acl(
                ROOT_OWNS,
                *("u::rwx", "u:1000:rwx", "g::r-x", "m::rwx", "o::r-x"),
                default=("u::rwx", "u:1000:rwx", "g::r-x", "m::rwx", "o::r-x"),
            ),
            id="default-acl",
        ),
    ],
)
def test_objects(recipe: Grant, entry: Inode, expected: Inode | None) -> None:
    assert recipe.change(None, entry) == expected
    if expected is not None:
        assert recipe.trouble(None, expected) is None
        assert recipe.change(None, expected) is None, "once is enough"


def test_what_is_made_in_a_shared_directory_is_the_groups() -> None:
    recipe = root(SharedGroup, claim(groups=(50,)), gid=50)
    shared = recipe.change(None, directory("5:5", 0o755))
    assert shared is not None
    theirs = created(subject("6:6", (50,)).cred, shared, PLAIN, mode=0o666, umask=0o022)
    assert Phase.WRITE in rights(recipe.claim.cred, theirs, PLAIN)


@pytest.mark.parametrize(
    ("parties", "entry", "expected"),
    [
        pytest.param((), directory("0:0", 0o777), directory("0:0", 0o775), id="nobody lives on it"),
        pytest.param((), STICKY, None, id="sticky is meant so"),
        pytest.param((), inode("0:0", 0o666, FileType.SOCKET), None, id="a socket"),
        pytest.param((party("0:0"),), FILE, None, id="not open"),
        pytest.param(
            (party("1001:1001"),),
            directory("0:0", 0o777),
            with_acl(ROOT_OWNS, "u::rwx", "u:1001:rwx", "g::rwx", "m::rwx", "o::r-x"),
            id="an entry for who lives on it",
        ),
        pytest.param(
            (party("1001:1001", need=Need.READ),),
            inode("0:0", 0o666),
            inode("0:0", 0o664),
            id="who only reads needs none",
        ),
        pytest.param(
            (replace(party("1001:1001"), mount=Mount(sb=Superblock(acls=False))),),
            inode("0:0", 0o666),
            None,
            id="without ACLs it would be taken from it",
        ),
    ],
)
def test_closing(parties: tuple[Party, ...], entry: Inode, expected: Inode | None) -> None:
    recipe = CloseOthers(name="chmod-others", scope=Scope.ALL, parties=parties)
    assert recipe.change(None, entry) == expected
    assert expected is None or recipe.change(None, expected) is None


GROUP = party("7:7", groups=(60,))


@pytest.mark.parametrize(
    ("entry", "gid"),
    [
        pytest.param(directory("0:60", 0o755), 1001, id="may do what anybody may"),
        pytest.param(directory("0:60", 0o750), 60, id="reads, and others do not"),
        pytest.param(directory("0:60", 0o770), 60, id="writes"),
        pytest.param(directory("0:60", 0o2755), 60, id="is inherited"),
        pytest.param(directory("0:0", 0o750), 1001, id="is root's"),
    ],
)
def test_whose_group_stays(entry: Inode, gid: int) -> None:
    given = root(Give, claim(), gid=1001, bits_too=True).change(None, entry)
    assert given is not None
    assert given.gid == gid


@pytest.mark.parametrize(
    ("recipe", "entry"),
    [
        pytest.param(
            root(Give, claim(spare=(GROUP,)), gid=1001, bits_too=True, keeps_group=False),
            directory("0:60", 0o750),
            id="a group that reads would be taken away",
        ),
        pytest.param(
            root(Give, claim(spare=(party("7:7"),)), gid=1001, bits_too=True),
            directory("7:7", 0o755),
            id="an owner that writes",
        ),
    ],
)
def test_the_careful_take_from_nobody(recipe: Grant, entry: Inode) -> None:
    assert recipe.change(None, entry) is not None
    assert replace(recipe, careful=True).change(None, entry) is None


def test_to_owner() -> None:
    recipe = ToOwner(name="to", scope=Scope.ALL, uid=5, gid=None)
    assert recipe.change(None, inode("0:7", 0o600)) == inode("5:7", 0o600)
    assert recipe.change(None, inode("5:7", 0o600)) is None


MODES = (0o000, 0o200, 0o400, 0o600, 0o640, 0o660, 0o644, 0o755, 0o2770, 0o1777)
KINDS: tuple[Recipe, ...] = (
    *(below(k, claim(groups=(50,))) for k in (OwnerBits, GroupBits, UserEntry)),
    below(Give, claim(groups=(50,)), gid=1001, bits_too=True),
)


@pytest.mark.parametrize("recipe", KINDS, ids=lambda r: type(r).__name__)
def test_a_recipe_never_makes_anything_worse(recipe: Grant) -> None:
    """Whatever the entry: what is changed was refused before and is allowed after, nothing but
    owner, mode and ACL differs, and nobody who is neither owner nor in the group gains.
    """
    stranger = subject("31337:31337").cred
    parents = (DIR, ROOT_OWNS, STICKY)
    owners = ("0:0", "1001:1001", "5:50", "0:1001")
    types = (FileType.REGULAR, FileType.DIRECTORY)
    changed = 0
    for parent, owner, mode, type_ in product(parents, owners, MODES, types):
        entry = inode(owner, mode, type_)
        new = recipe.change(parent, entry)
        if new is None:
            continue
        changed += 1
        assert recipe.trouble(parent, entry) is not None
        assert recipe.trouble(parent, new) in (None, EntryTrouble.UNDELETABLE)
        assert rights(stranger, new, PLAIN) == rights(stranger, entry, PLAIN)
        assert (new.type, new.nlink) == (entry.type, entry.nlink)
    assert changed


def test_recipes_travel() -> None:
    spare = tuple(party(f"{n}:{n}") for n in range(64))
    of = claim(spare=spare)
    of = replace(of, cred=subject("0:0", ns=remapped()).cred)
    recipe = below(Give, of, **STRAY)
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize(
    ("old", "tag", "id_", "perm", "new"),
    [
        pytest.param(0o640, Tag.USER, 5, 4, ("u::rw-", "u:5:r--", "g::r--", "m::r--", "o::---")),
        pytest.param(0o604, Tag.GROUP, 5, 7, ("u::rw-", "g::---", "g:5:rwx", "m::rwx", "o::r--")),
        pytest.param(0o640, Tag.GROUP_OBJ, None, 6, ("u::rw-", "g::rw-", "o::---")),
    ],
)
def test_entries_as_setfacl_sets_them(
    old: int, tag: Tag, id_: int | None, perm: int, new: tuple[str, ...]
) -> None:
    of = edits.set_entry(inode("0:0", old), tag, id_, perm)
    assert (of.acl or from_mode(of.mode)) == acl(*new)
    assert of.mode == acl(*new).mode
