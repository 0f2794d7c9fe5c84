"""What a person sees of a repair, before and after; and the same as JSON, against its schema."""

from __future__ import annotations

import importlib.resources
import json
import re
from typing import Any

import jsonschema
import pytest

from permdoctor.diagnosis.choice import Choice, Chosen, NotFixable
from permdoctor.diagnosis.effects import Effect, Right
from permdoctor.diagnosis.facts import HostUsers
from permdoctor.diagnosis.plan import Change, Left, Outcome, Reason, Summary, TreePlan
from permdoctor.diagnosis.proposal import Act, ChangedEntry, Checked, Past, Proposal, Result
from permdoctor.diagnosis.report import Skipped
from permdoctor.kernel.acl import Acl, AclEntry, Tag, from_mode
from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.render import history, plan
from permdoctor.render.difference import difference
from permdoctor.render.layout import plain
from permdoctor.render.repair_json import (
    SCHEMA_FILE,
    history_json,
    past_json,
    repair_json,
    schema_text,
)
from permdoctor.render.terminal import styled
from tests.render.builders import CHOWN, HOSTILE, finding, subject

DANGEROUS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
SHIPPED = importlib.resources.files("permdoctor.render").joinpath(SCHEMA_FILE)
NAMES = HostUsers(users=((0, "root"), (1000, "alice")), groups=((0, "root"),))
NOBODY = HostUsers()


def inode(uid: int | None = 0, gid: int | None = 0, mode: int = 0o755, **more: Any) -> Inode:
    more.setdefault("type", FileType.DIRECTORY)
    return Inode(
        uid=None if uid is None else Kuid(uid),
        gid=None if gid is None else Kgid(gid),
        mode=mode,
        **more,
    )


def with_user(acl: Acl, uid: int, perm: int) -> Acl:
    return acl.with_entry(Tag.USER, uid, perm)


BASE = from_mode(0o755)
OPEN = with_user(BASE, 1001, 7)
MASKED = Acl((*(e for e in OPEN.entries if e.tag is not Tag.MASK), AclEntry(tag=Tag.MASK, perm=5)))


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        pytest.param(
            inode(), inode(1001, 1001), "root:root 0755 -> 1001:1001", id="owner and group"
        ),
        pytest.param(inode(), inode(1000, 0), "root:root 0755 -> alice:root", id="a name"),
        pytest.param(
            inode(), inode(0, 2000, 0o2775), "root:root 0755 -> root:2000 2775", id="setgid"
        ),
        pytest.param(inode(), inode(mode=0o775), "root:root 0755 -> 0775", id="mode alone"),
        pytest.param(
            inode(),
            inode(mode=0o775, acl=OPEN),
            "root:root 0755, +user:1001:rwx",
            id="an entry; that the mask moves the group's bits is not said",
        ),
        pytest.param(
            inode(mode=0o775, acl=OPEN),
            inode(),
            "root:root 0775, -user:1001:rwx",
            id="and back",
        ),
        pytest.param(
            inode(mode=0o775, acl=with_user(BASE, 1001, 5)),
            inode(mode=0o775, acl=OPEN),
            "root:root 0775, user:1001:r-x -> rwx, mask::r-x -> rwx",
            id="an entry changed",
        ),
        pytest.param(
            inode(mode=0o755),
            inode(mode=0o755, acl=MASKED),
            "root:root 0755, +user:1001:rwx, +mask::r-x",
            id="a mask that takes something",
        ),
        pytest.param(
            inode(),
            inode(default_acl=BASE),
            "root:root 0755, default +user::rwx, default +group::r-x, default +other::r-x",
            id="a minimal default ACL says something",
        ),
        pytest.param(
            inode(default_acl=OPEN),
            inode(default_acl=with_user(OPEN, 1000, 4)),
            "root:root 0755, default +user:alice:r--",
            id="a default entry",
        ),
        pytest.param(
            inode(None, 0), inode(1001, 0), "unmapped:root 0755 -> 1001:root", id="unmapped"
        ),
        pytest.param(
            inode(1001, 1001, 0o4755, type=FileType.REGULAR),
            inode(0, 0, 0o755, type=FileType.REGULAR),
            "1001:1001 4755 -> root:root 0755",
            id="a bit that is lost",
        ),
    ],
)
def test_difference(before: Inode, after: Inode, shown: str) -> None:
    assert difference(before, after, NAMES) == shown


def test_a_hostile_account_is_escaped() -> None:
    names = HostUsers(users=((0, "\x1b[31m"),))
    assert DANGEROUS.search(difference(inode(), inode(1, 1), names)) is None


TREE = TreePlan(
    path=b"/srv/models",
    entries=1_210,
    changes=(
        Change(before=inode(), after=inode(1001, 1001), count=1, samples=(b".",)),
        Change(
            before=inode(mode=0o644, type=FileType.REGULAR),
            after=inode(mode=0o664, type=FileType.REGULAR, acl=with_user(from_mode(0o644), 7, 6)),
            count=1_204,
            samples=(b"a", b"b/c", b"d"),
        ),
        Change(
            before=inode(mode=0o4755, type=FileType.REGULAR),
            after=inode(1001, 0, 0o755, type=FileType.REGULAR),
            count=1,
            samples=(b"tool",),
            drops=("setuid",),
        ),
    ),
    left=(Left(reason=Reason.HARD_LINKS, count=2, samples=(b"x", b"y")),),
)
CHOICE = Choice(
    chosen=(Chosen(finding=finding(), remedy=CHOWN, path=b"/srv/models"),),
    optional=(Chosen(finding=finding(), remedy=CHOWN, path=b"/srv/models"),),
    left=(NotFixable(finding=finding(), reason="only the image can be changed", hint="do so"),),
)


def proposal(**more: Any) -> Proposal:
    fields: dict[str, Any] = {
        "act": Act.REPAIR,
        "what": "trainer",
        "summary": Summary(trees=(TREE,)),
        "command": "permdoctor fix trainer --apply",
        "choice": CHOICE,
        "effects": (
            Effect(
                who="alice (1000)",
                path=b"/srv/models",
                gains=(),
                loses=(Right.WRITE,),
                count=3,
                samples=(b"a", b"b", b"c"),
            ),
            Effect(
                who="1001:1001 in trainer",
                path=b"/srv/models",
                gains=(Right.READ, Right.SEARCH, Right.WRITE),
                loses=(Right.OWN,),
                count=1,
                samples=(b".",),
            ),
        ),
        "pauses": ("trainer", "notebook"),
        "names": NAMES,
        "subjects": (subject(),),
    }
    return Proposal(**(fields | more))


PLAN = """\
trainer: 1,206 entries to repair
  error PD101 /app/model: 1001:1001 cannot write here
    -> Give the directory, and nothing below it, to the process (chown-directory)
  /srv/models: 1,206 of 1,210 entries
    root:root 0755 -> 1001:1001                     1 directory: .
    root:root 0644, +user:7:rw-                     1,204 files, such as a, b/c, d
    root:root 4755 -> 1001:root 0755, loses setuid  1 file: tool
    skipped, more than one link, and another may lie outside the tree: 2 entries: x, y
  alice (1000) loses write on 3 entries: a, b, c
  1001:1001 in trainer loses own, gains read, search, write on /srv/models
  error PD101 /app/model: 1001:1001 cannot write here
    not repaired: only the image can be changed (do so)
  also possible: --remedy chown-directory
  paused meanwhile: trainer, notebook
  -> Apply it; it can be undone
     permdoctor fix trainer --apply
"""


def test_the_plan() -> None:
    assert plain(plan.proposal(proposal())) == PLAN


def test_what_is_applied_now_needs_no_line_for_later() -> None:
    assert "--apply" not in plain(plan.proposal(proposal(), applies=True))


EMPTY = Summary(trees=(TreePlan(path=b"/srv", entries=9, changes=()),))


@pytest.mark.parametrize(
    ("of", "line"),
    [
        pytest.param(
            proposal(summary=Summary(trees=()), choice=Choice(), effects=()),
            "trainer: nothing to repair\n",
            id="nothing is refused",
        ),
        pytest.param(
            proposal(summary=EMPTY, choice=None, effects=()),
            "trainer: nothing to repair\n",
            id="a tree that is as it is to be",
        ),
        pytest.param(
            proposal(
                summary=Summary(trees=()), choice=Choice(optional=CHOICE.optional), effects=()
            ),
            "trainer: nothing to repair (--remedy chown-directory would be possible)\n",
            id="what is only possible",
        ),
        pytest.param(
            proposal(act=Act.UNDO, what="x", summary=EMPTY, choice=None, effects=(), already=3),
            "x: everything is as it was before\n",
            id="undone already",
        ),
    ],
)
def test_nothing_to_do_is_one_line(of: Proposal, line: str) -> None:
    assert plain(plan.proposal(of)) == line
    assert not of.has_work


@pytest.mark.parametrize(
    ("of", "said"),
    [
        pytest.param(
            proposal(summary=Summary(trees=()), effects=()),
            "not repaired: only the image can be changed",
            id="what cannot be repaired",
        ),
        pytest.param(
            proposal(
                summary=Summary(
                    trees=(TreePlan(path=b"/s", entries=9, changes=(), left=TREE.left),)
                ),
                choice=None,
            ),
            "skipped, more than one link",
            id="everything wrong is skipped",
        ),
        pytest.param(
            proposal(act=Act.UNDO, summary=EMPTY, choice=None, changed=TREE.left),
            "left alone, more than one link",
            id="changed since",
        ),
        pytest.param(
            proposal(summary=Summary(trees=(TREE,), stopped="stopped at 5 entries")),
            "not complete: stopped at 5 entries",
            id="an incomplete plan",
        ),
        pytest.param(
            proposal(pauses=(), live="--live: containers can write there meanwhile"),
            "nobody is paused: --live",
            id="nobody is paused",
        ),
        pytest.param(
            proposal(skipped=(Skipped(what="/x", reason="EACCES", hint="as root"),)),
            "not read: /x: EACCES (as root)",
            id="what could not be read",
        ),
    ],
)
def test_nothing_is_hidden(of: Proposal, said: str) -> None:
    assert said in plain(plan.proposal(of))
    assert of.has_work


def test_columns_give_way_on_a_narrow_terminal() -> None:
    """Not one of a few cells at the right edge."""
    shown = styled(plan.tree(TREE, HostUsers()), width=40, color=False).splitlines()
    assert not [s for s in shown if s.startswith(" " * 12)]


def test_an_incomplete_plan_offers_no_way_to_apply_it() -> None:
    shown = plan.proposal(proposal(summary=Summary(trees=(TREE,), stopped="stopped")))
    assert "--apply" not in plain(shown)


def result(**more: Any) -> Result:
    fields: dict[str, Any] = {
        "id": "20261122-051205-3f2a",
        "outcome": Outcome(planned=3, applied=3),
        "target": Checked(who="trainer", before=(subject(),), solved=(finding(),)),
        "others": (Checked(who="reader"),),
        "resumed": ("trainer",),
    }
    return Result(**(fields | more))


RESULT = """\
repaired: 3 of 3 entries
  resumed: trainer
  trainer: checked again: the problem is gone
  reader: checked again: as before
  -> Take it back
     permdoctor undo 20261122-051205-3f2a
"""
SOMEBODY = (subject(),)
BROKEN = Checked(who="reader", new=(finding(),), after=SOMEBODY)
STUCK = (Skipped(what="trainer", reason="the engine is down", hint="docker unpause c0ffee"),)


def test_the_result() -> None:
    assert plain(plan.result(result(), Act.REPAIR)) == RESULT


@pytest.mark.parametrize(
    ("of", "act", "said", "solved"),
    [
        pytest.param(result(), Act.REPAIR, "the problem is gone", True, id="all is well"),
        pytest.param(
            result(target=Checked(who="t", remaining=(finding(),))),
            Act.REPAIR,
            "the problem is not gone\n    error PD101",
            False,
            id="it did not help",
        ),
        pytest.param(
            result(target=Checked(who="t", solved=(finding(),), new=(finding(),))),
            Act.REPAIR,
            "the problem is gone\n  t: found now; repair it again:\n    error PD101",
            False,
            id="it helped, and showed another",
        ),
        pytest.param(
            result(target=Checked(who="t")),
            Act.REPAIR,
            "t: checked again: as before",
            True,
            id="nothing was refused",
        ),
        pytest.param(
            result(others=(BROKEN,)),
            Act.REPAIR,
            "reader: 1 new problem\n    error PD101",
            False,
            id="it broke somebody else",
        ),
        pytest.param(
            result(target=Checked(who="t", failed="it is gone")),
            Act.REPAIR,
            "t: could not be checked again: it is gone",
            False,
            id="nobody knows",
        ),
        pytest.param(
            result(outcome=Outcome(planned=3, applied=2, left=TREE.left)),
            Act.REPAIR,
            "repaired: 2 of 3 entries\n  left alone, more than one link",
            False,
            id="entries are left",
        ),
        pytest.param(
            result(outcome=Outcome(planned=3, applied=1, stopped="EROFS")),
            Act.REPAIR,
            "1 of 3 entries; stopped: EROFS",
            False,
            id="stopped",
        ),
        pytest.param(
            result(stuck=STUCK),
            Act.REPAIR,
            "STILL PAUSED: trainer: the engine is down (docker unpause c0ffee)",
            False,
            id="still paused",
        ),
        pytest.param(
            result(outcome=Outcome(planned=3, applied=2, already=1)),
            Act.REPAIR,
            "2 of 3 entries, 1 were so already",
            True,
            id="so already",
        ),
        pytest.param(
            result(target=None, others=(BROKEN,)),
            Act.UNDO,
            "reader: 1 problem as before the repair:",
            True,
            id="an undo brings the old problem back",
        ),
        pytest.param(
            result(outcome=Outcome(planned=3, applied=2, left=TREE.left), target=None),
            Act.UNDO,
            "restored: 2 of 3 entries\n  left alone",
            False,
            id="an undo that could not do all",
        ),
    ],
)
def test_every_end(of: Result, act: Act, said: str, solved: bool) -> None:
    assert said in plain(plan.result(of, act))
    assert proposal(act=act).is_solved_by(of) is solved


def test_what_was_changed_since_is_left_and_decides() -> None:
    assert not proposal(act=Act.UNDO, changed=TREE.left).is_solved_by(result(target=None))


def past(**more: Any) -> Past:
    fields: dict[str, Any] = {
        "id": "20261122-051205-3f2a",
        "act": Act.REPAIR,
        "status": "done",
        "started": "2026-11-22 05:12:05Z",
        "host": "vm",
        "container": "trainer",
        "remedies": ("chown-directory",),
        "roots": (b"/srv/models",),
        "command": "permdoctor fix trainer --apply",
        "summary": Summary(trees=(TREE,)),
        "outcome": Outcome(planned=1_206, applied=1_206),
    }
    return Past(**(fields | more))


UNDO = past(id="u", act=Act.UNDO, of="r", container="", remedies=())


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (past(), "done  /srv/models for trainer by chown-directory  1,206 of 1,206 entries"),
        (past(undone_by="u"), "done, undone"),
        (UNDO, "undo of r, /srv/models"),
        (past(status="interrupted", outcome=None), "? of 1,206 entries"),
        (past(damaged="its checksum is wrong"), "damaged  its checksum is wrong"),
    ],
)
def test_history(of: Past, said: str) -> None:
    assert said in plain(history.table([of]))
    stacked = history.table([of], width=40)
    assert all(each.width < 120 for each in stacked)
    assert len(stacked) == 2


def test_nothing_was_repaired() -> None:
    assert plain(history.table([])) == "nothing was repaired here\n"


def test_one_of_the_history() -> None:
    shown = plain(history.one(past(paused=("trainer",), outcome=None)))
    assert "asked as  permdoctor fix trainer --apply" in shown
    assert "paused    trainer" in shown
    assert "skipped, more than one link" in shown


HOSTILE_TEXT = HOSTILE.decode("utf-8", "surrogateescape")
ENTRY = ChangedEntry(path=HOSTILE, before=inode(), after=inode(1, 1), mark="applied")
HOSTILE_LEFT = (Left(reason=Reason.FAILED, count=1, samples=(HOSTILE,), detail=HOSTILE_TEXT),)
HOSTILE_TREE = TreePlan(
    path=HOSTILE,
    entries=1,
    changes=(Change(before=inode(), after=inode(1, 1), count=1, samples=(HOSTILE,)),),
    left=HOSTILE_LEFT,
)
HOSTILE_PLAN = proposal(
    what=HOSTILE_TEXT,
    summary=Summary(trees=(HOSTILE_TREE,), stopped=HOSTILE_TEXT),
    pauses=(HOSTILE_TEXT,),
    effects=(
        Effect(
            who=HOSTILE_TEXT,
            path=HOSTILE,
            gains=tuple(Right),
            loses=(),
            count=1,
            samples=(HOSTILE,),
        ),
    ),
    changed=HOSTILE_LEFT,
    command=HOSTILE_TEXT,
)
HOSTILE_RESULT = result(
    id=HOSTILE_TEXT,
    outcome=Outcome(planned=1, applied=1, left=HOSTILE_LEFT, stopped=HOSTILE_TEXT),
    target=Checked(who=HOSTILE_TEXT, failed=HOSTILE_TEXT),
    resumed=(HOSTILE_TEXT,),
    stuck=(Skipped(what=HOSTILE_TEXT, reason=HOSTILE_TEXT, hint=HOSTILE_TEXT),),
)
HOSTILE_PAST = past(
    container=HOSTILE_TEXT, roots=(HOSTILE,), command=HOSTILE_TEXT, paused=(HOSTILE_TEXT,)
)


def test_hostile_names_reach_no_terminal() -> None:
    shown = plain(
        [
            *plan.proposal(HOSTILE_PLAN),
            *plan.result(HOSTILE_RESULT, Act.REPAIR),
            *history.table([HOSTILE_PAST]),
            *history.one(HOSTILE_PAST),
            *(each for chunk in history.entries([ENTRY]) for each in chunk),
        ]
    )
    assert "red" in shown
    assert DANGEROUS.search(shown) is None


# -- JSON ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SHIPPED.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_that_of_the_types() -> None:
    """Regenerate with ``python -m tests.render.test_plan``."""
    assert SHIPPED.read_text("utf-8") == schema_text()


@pytest.mark.parametrize(
    ("of", "done"),
    [
        pytest.param(proposal(), None, id="a plan"),
        pytest.param(proposal(), result(others=(BROKEN,), stuck=STUCK), id="applied"),
        pytest.param(HOSTILE_PLAN, HOSTILE_RESULT, id="hostile"),
        pytest.param(
            proposal(act=Act.UNDO, choice=None, already=1, changed=TREE.left),
            result(target=None),
            id="undo",
        ),
    ],
)
def test_a_repair_is_valid(
    validator: jsonschema.Draft202012Validator, of: Proposal, done: Result | None
) -> None:
    text = repair_json(of, done, "0.1.0")
    validator.validate(json.loads(text))
    assert DANGEROUS.search(text) is None
    assert (json.loads(text)["result"] is None) is (done is None)


@pytest.mark.parametrize(
    "of", [past(), UNDO, HOSTILE_PAST, past(damaged="x")], ids=["repair", "undo", "hostile", "bad"]
)
def test_the_history_is_valid(validator: jsonschema.Draft202012Validator, of: Past) -> None:
    validator.validate(json.loads(history_json([of], "0.1.0")))
    for entries in (None, [], [ENTRY], [ENTRY, ENTRY]):
        document = json.loads("".join(past_json(of, entries, "0.1.0")))
        validator.validate(document)
        listed = document["entries"]
        assert (None if entries is None else len(entries)) == (
            None if listed is None else len(listed)
        )


def test_the_schema_can_refuse(validator: jsonschema.Draft202012Validator) -> None:
    document = json.loads(repair_json(proposal(), None, "0.1.0"))
    del document["plan"]["pauses"]
    assert not validator.is_valid(document)
    assert not validator.is_valid({**document, "schema": "permdoctor-repair/2"})


if __name__ == "__main__":
    from pathlib import Path

    Path(str(SHIPPED)).write_text(schema_text(), "utf-8")
