"""The model against the running kernel: no disagreement, for a fixed seed and a fresh one.

The silence of a run counts only as far as it looked, so what it must have seen is asserted too.
``python -m tests.differential`` runs it longer.
"""

from __future__ import annotations

import random

import pytest

from permdoctor.kernel.verdict import Outcome, Rule
from tests.differential import run, sysctls
from tests.differential.__main__ import summary
from tests.differential.compare import Tally
from tests.lab.needs import MissingError

FIXED_SEED = 20240229
FRESH_SEED = random.SystemRandom().getrandbits(32)
CASES = 105_000
"""For each seed."""

CELLS = {
    op: {"ok", *errnos.split()}
    for op, errnos in {
        "access": "EACCES EPERM EROFS",
        "chmod": "EACCES EPERM EROFS EOVERFLOW EOPNOTSUPP",
        "chown": "EACCES EPERM EROFS EOVERFLOW EINVAL",
        "create": "EACCES EPERM EROFS EOVERFLOW EEXIST",
        "delete": "EACCES EPERM EROFS EOVERFLOW ENOTDIR EISDIR",
        "execute": "EACCES ELOOP",
        "link": "EACCES EPERM EROFS EOVERFLOW EEXIST EXDEV",
        "open": "EACCES EPERM EROFS EEXIST EISDIR ENOTDIR ELOOP",
        "rename": "EACCES EPERM EROFS EOVERFLOW EXDEV ENOTDIR EISDIR",
        "set_acl": "EACCES EPERM EROFS EINVAL EOPNOTSUPP",
        "stat": "EACCES",
        "utimes": "EACCES EPERM EROFS EOVERFLOW",
        "walk": "EACCES ENOTDIR ELOOP",
    }.items()
}
"""Every answer that the model can give to an operation of the generator."""

GRANTING = {
    Rule.OWNER_BITS,
    Rule.ACL_USER,
    Rule.ACL_OWNING_GROUP,
    Rule.ACL_GROUP,
    Rule.ACL_OTHER,
    Rule.GROUP_BITS,
    Rule.OTHER_BITS,
    Rule.CAPABILITY,
    Rule.OWNER,
}
NEVER_LAST = {Rule.ACL_SWITCHED_OFF, Rule.ACL_GROUP_CLASS, Rule.MISSING, Rule.MOUNTPOINT}
"""Rules after which another is always asked, and those that only a real container shows
(``tests/acceptance``): what is missing, and what is mounted on."""

REFUSING = {*Rule} - GRANTING - NEVER_LAST | {Rule.CAPABILITY}

LEAST = 10
"""So often must each of them have been seen."""


@pytest.fixture(scope="module", params=[FIXED_SEED, FRESH_SEED], ids=["fixed", "fresh"])
def tally(request: pytest.FixtureRequest) -> Tally:
    seed: int = request.param
    plan = run.Plan(CASES, seed)
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\npython -m tests.differential --cases {CASES} --seed {seed}", flush=True)
    try:
        return run.run(plan)
    except MissingError as e:
        pytest.skip(str(e))


def test_the_model_agrees_with_the_kernel(tally: Tally) -> None:
    print(summary(tally))
    assert not tally.disagreements, "\n\n".join(map(str, tally.disagreements))
    assert tally.cases >= CASES


def test_every_filesystem_took_part(tally: Tally) -> None:
    assert {kind for kind, n in tally.kinds.items() if n > CASES / 8} == {
        "tmpfs",
        "ext4",
        "xfs",
        "btrfs",
    }


def test_every_answer_was_seen_and_no_other(tally: Tally) -> None:
    expected = {(op, answer) for op, answers in CELLS.items() for answer in answers}
    assert set(tally.cells) <= expected
    assert {cell for cell in expected if tally.cells[cell] < LEAST} == set()


def test_every_rule_decided(tally: Tally) -> None:
    expected = {f"{rule}/{Outcome.GRANTS}" for rule in GRANTING}
    expected |= {f"{rule}/{Outcome.REFUSES}" for rule in REFUSING}
    unseen = {rule for rule in expected if tally.rules[rule] < LEAST}
    assert unseen <= _rules_switched_off()


def _rules_switched_off() -> set[str]:
    """By a sysctl that this machine has at 0 and that could not be set."""
    there = sysctls.read()
    with sysctls.varied() as set_sysctls:
        if set_sysctls(there):
            return set()
    by_rule = {
        Rule.PROTECTED_SYMLINKS: there.protected_symlinks,
        Rule.PROTECTED_HARDLINKS: there.protected_hardlinks,
    }
    return {f"{rule}/{Outcome.REFUSES}" for rule, value in by_rule.items() if not value}


def test_every_result_was_compared(tally: Tally) -> None:
    """What chmod, chown, a new ACL and a new inode leave behind."""
    assert {op for op, n in tally.results.items() if n >= 100} == {
        "chmod",
        "chown",
        "create",
        "set_acl",
    }


def test_a_round_is_repeated_by_its_number() -> None:
    """What a disagreement's description promises."""
    plan = run.Plan(cases=1, seed=FIXED_SEED, only=2 * run.ROUNDS_OF_EPOCH + 3)
    try:
        first, second = run.run(plan), run.run(plan)
    except MissingError as e:
        pytest.skip(str(e))
    assert first.cells == second.cells
    assert set(first.kinds) == {"btrfs"}
