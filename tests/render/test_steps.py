"""Each step as a sentence: real verdicts of the rules, and what a person reads of them."""

from __future__ import annotations

import pytest

from permdoctor.container.subject import Subject
from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount, Superblock
from permdoctor.kernel.permission import permission
from permdoctor.kernel.verdict import Outcome, Rule, Step, Verdict, Want
from permdoctor.render.names import names_of, who, who_in_full
from permdoctor.render.steps import letters, reason, sentence
from tests.render.builders import REMAPPED, cred, directory, remapped, root, subject

PLAIN = Mount()
READ_ONLY = Mount(sb=Superblock(read_only=True))
MASKED = from_mode(0o750).with_entry(Tag.USER, 1001, 7).with_mode(0o750)
TWO_GROUPS = Acl(
    (
        AclEntry(tag=Tag.USER_OBJ, perm=7),
        AclEntry(tag=Tag.GROUP_OBJ, perm=5),
        AclEntry(tag=Tag.GROUP, perm=4, id=2000),
        AclEntry(tag=Tag.MASK, perm=7),
        AclEntry(tag=Tag.OTHER, perm=7),
    )
)


@pytest.mark.parametrize(
    ("by", "inode", "mount", "want", "expected"),
    [
        pytest.param(
            subject(),
            directory(),
            PLAIN,
            Want.W,
            "class other applies: r-x, asked for w: refused",
            id="other",
        ),
        pytest.param(
            subject(1001, 0),
            directory(),
            PLAIN,
            Want.W | Want.X,
            "class group (0 (root)) applies: r-x, asked for wx: refused",
            id="group, as in Label Studio",
        ),
        pytest.param(
            subject(),
            directory(1001, 1001, 0o577),
            PLAIN,
            Want.W,
            "class owner (1001 (model)) applies: r-x, asked for w: refused",
            id="the owner's bits refuse though others may",
        ),
        pytest.param(
            subject(),
            directory(1001, 1001, 0o700),
            PLAIN,
            Want.W,
            "class owner (1001 (model)) applies: rwx, asked for w: granted",
            id="granted",
        ),
        pytest.param(
            root(),
            directory(1000, 1000),
            PLAIN,
            Want.W,
            "class other applies: r-x, asked for w: refused; root here has no CAP_DAC_OVERRIDE",
            id="root with capabilities dropped",
        ),
        pytest.param(
            root(Cap.DAC_OVERRIDE),
            directory(1000, 1000),
            PLAIN,
            Want.W,
            "CAP_DAC_OVERRIDE grants it",
            id="root",
        ),
        pytest.param(
            remapped(0, Cap.DAC_OVERRIDE),
            directory(1000, 1000, 0o700),
            PLAIN,
            Want.R,
            "class other applies: ---, asked for r: refused; CAP_DAC_OVERRIDE is in the effective "
            "set but host uid 1000 has no mapping in this user namespace: it does not count",
            id="the owner is not mapped",
        ),
        pytest.param(
            remapped(0, Cap.DAC_OVERRIDE),
            directory(100_007, 1000, 0o700),
            PLAIN,
            Want.R,
            "class other applies: ---, asked for r: refused; CAP_DAC_OVERRIDE is in the effective "
            "set but host gid 1000 has no mapping in this user namespace: it does not count",
            id="the group is not mapped",
        ),
        pytest.param(
            subject(),
            directory(acl=MASKED, mode=0o750),
            PLAIN,
            Want.W,
            "ACL entry user 1001 (model) applies: rwx, of which the mask r-x leaves r-x, "
            "asked for w: refused",
            id="the mask cuts the entry",
        ),
        pytest.param(
            subject(1001, 0, cred=cred(1001, 0, groups=frozenset({Kgid(2000)}))),
            directory(acl=TWO_GROUPS, mode=0o777),
            PLAIN,
            Want.W,
            "a group entry matched and none covers w: refused",
            id="groups do not add up, and other is not asked",
        ),
        pytest.param(
            root(Cap.DAC_OVERRIDE),
            Inode(uid=Kuid(0), gid=Kgid(0), mode=0o644),
            PLAIN,
            Want.X,
            "class owner (0 (root)) applies: rw-, asked for x: refused; no x bit is set for "
            "anybody, and then no capability executes it",
            id="no x bit at all",
        ),
        pytest.param(
            subject(),
            directory(),
            READ_ONLY,
            Want.W,
            "the filesystem itself is read-only (ro superblock)",
            id="superblock",
        ),
        pytest.param(
            root(Cap.DAC_OVERRIDE),
            directory(immutable=True),
            PLAIN,
            Want.W,
            "it is immutable (chattr +i)",
            id="immutable",
        ),
        pytest.param(
            subject(),
            directory(uid=None),
            PLAIN,
            Want.W,
            "its owner or group has no mapping: such an inode cannot be changed, by root either",
            id="unmapped",
        ),
    ],
)
def test_reason(by: Subject, inode: Inode, mount: Mount, want: Want, expected: str) -> None:
    verdict = permission(by.cred, inode, mount, want)
    assert reason(verdict, by, names_of(by, (by,)), inode) == expected


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("outcome", Outcome)
def test_every_rule_has_a_sentence(rule: Rule, outcome: Outcome) -> None:
    step = Step(rule=rule, outcome=outcome, want=Want.W, has=Want.R, id=1001, cap=Cap.FOWNER)
    said = sentence(step, subject(), names_of(None, (subject(),)))
    assert len(said.split()) > 2, "a rule's bare name is no sentence"


def test_a_verdict_without_steps_has_no_reason() -> None:
    assert reason(Verdict(errno=None), subject(), names_of(None, ())) == ""


@pytest.mark.parametrize(
    ("want", "expected"),
    [(Want.W, "w"), (Want.R | Want.W, "rw"), (Want.NONE, "nothing"), (Want(7), "rwx")],
)
def test_letters(want: Want, expected: str) -> None:
    assert letters(want) == expected


@pytest.mark.parametrize(
    ("by", "short", "full"),
    [
        pytest.param(
            subject(), "1001:1001 (model)", "1001:1001 (model) = host 1001:1001", id="plain"
        ),
        pytest.param(
            remapped(1000, host_user="dockremap"),
            "1000:1000 = host 101000:101000",
            "1000:1000 = host 101000:101000 (dockremap)",
            id="remapped",
        ),
        pytest.param(
            subject(cred=cred(1001, 0, groups=frozenset({Kgid(0), Kgid(33), Kgid(1500)}))),
            "1001:0 (model)",
            "1001:0 (model) = host 1001:0, groups 33 1500",
            id="groups",
        ),
        pytest.param(
            subject(cred=cred(5, userns=REMAPPED)),
            "unmapped:unmapped (model) = host 5:5",
            "unmapped:unmapped (model) = host 5:5",
            id="outside its own namespace",
        ),
    ],
)
def test_who(by: Subject, short: str, full: str) -> None:
    assert (who(by), who_in_full(by)) == (short, full)


@pytest.mark.parametrize(
    ("by", "host", "sentence", "column"),
    [
        pytest.param(subject(), 1001, "1001 (model)", "model(1001)", id="same"),
        pytest.param(subject(), 7, "7", "7", id="no name"),
        pytest.param(
            remapped(), 100_000, "0 (root) = host 100000", "root(0)=100000", id="remapped root"
        ),
        pytest.param(remapped(), 0, "host 0 (root), unmapped here", "host:0", id="unmapped"),
        pytest.param(subject(), None, "an id without mapping", "unmapped", id="invalid"),
    ],
)
def test_names(by: Subject, host: int | None, sentence: str, column: str) -> None:
    names = names_of(by, (by,))
    assert (names.user(host), names.user_column(host)) == (sentence, column)
