"""Where repair is allowed: every rule of the policy, as tables."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from permdoctor.config import Repair, Unasked
from permdoctor.container.container import Container, EngineInfo, State
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.repair.policy import (
    Kind,
    Machine,
    Question,
    judge,
    judge_live,
    judge_unasked,
)

MACHINE = Machine(
    homes=frozenset({b"/srv/people/carol", b"/var/www"}), data_roots=(b"/data/docker/1000.1000",)
)
ROOTS = Repair(roots=("/srv/models", "/opt/x/"), deny=("/srv/models/keys",))


def asked(path: bytes, rules: Repair = ROOTS, **more: object) -> Kind | None:
    refused = judge(rules, MACHINE, Question(path=path, **more))  # type: ignore[arg-type]
    return None if refused is None else refused.kind


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        pytest.param(b"/opt/x", None, id="a root itself"),
        pytest.param(b"/srv/models/a/b", None, id="below a root"),
        pytest.param(b"/opt/x/y", None, id="a root written with a slash at its end"),
        pytest.param(b"/srv/models2", Kind.NOT_ALLOWED, id="a longer name is no place below"),
        pytest.param(b"/srv/other", Kind.NOT_ALLOWED, id="beside"),
        pytest.param(b"/srv/models/keys", Kind.DENIED, id="deny wins over roots"),
        pytest.param(b"/srv/models/keys/a", Kind.DENIED, id="below what is denied"),
        pytest.param(b"/srv/models/keysets", None, id="not what is denied"),
    ],
)
def test_roots_and_deny(path: bytes, answer: Kind | None) -> None:
    assert asked(path) is answer


@pytest.mark.parametrize(
    ("path", "deep", "answer"),
    [
        pytest.param(b"/srv/models", True, Kind.DENIED, id="with what is denied in it"),
        pytest.param(b"/srv/models", False, None, id="the directory alone"),
        pytest.param(b"/data", True, Kind.DENIED, id="with an engine in it"),
        pytest.param(b"/data", False, None, id="beside an engine"),
        pytest.param(b"/data/docker/1000.1000", False, Kind.DENIED, id="an engine's own"),
        pytest.param(b"/var/lib", False, Kind.DENIED, id="the host's own, alone"),
    ],
)
def test_what_contains_a_denied_place(path: bytes, deep: bool, answer: Kind | None) -> None:
    rules = Repair(roots=("/",), deny=("/srv/models/keys",))
    assert asked(path, rules, deep=deep) is answer


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"/etc", b"/etc/app/conf", b"/usr", b"/usr/local", b"/usr/local/share/x",
        b"/usr/lib/x", b"/bin", b"/sbin/x", b"/lib", b"/lib64/x", b"/boot", b"/boot/efi",
        b"/proc", b"/proc/sys", b"/sys", b"/sys/fs", b"/dev", b"/dev/shm/x", b"/run",
        b"/run/app", b"/var/run/app", b"/var", b"/var/lib", b"/home", b"/root", b"/root/.ssh",
        b"/tmp", b"/srv", b"/home/alice", b"/srv/people/carol", b"/var/www",
        b"/var/lib/docker", b"/var/lib/docker/overlay2/x", b"/var/lib/containers/storage",
        b"/var/lib/docker/volumes", b"/var/lib/docker/volumes/v", b"/data/docker/1000.1000",
        b"/data/docker", b"/data", b"/data/docker/1000.1000/image", b"/srv/app/docker.sock",
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [{}, {"named": True}, {"allow": (b"/",)}], ids=str)
def test_the_hosts_own_places_whatever_is_asked(path: bytes, more: dict[str, object]) -> None:
    assert asked(path, Repair(roots=("/",)), **more) is Kind.DENIED


@pytest.mark.parametrize(
    "path",
    [
        b"/home/alice/models", b"/srv/people/carol/data", b"/srv/people", b"/var/www/site",
        b"/var/lib/docker/volumes/v/_data", b"/var/lib/docker/volumes/v/_data/x",
        b"/data/docker/1000.1000/volumes/v/_data", b"/data/else", b"/root/models", b"/tmp/x",
        b"/var/lib/app", b"/etcetera", b"/runs/1",
    ],
)  # fmt: skip
def test_what_is_not_the_hosts_own(path: bytes) -> None:
    assert asked(path, Repair(roots=("/",))) is None


def test_a_socket_is_none_whatever_it_is_called() -> None:
    assert asked(b"/srv/models/s", socket=True) is Kind.DENIED


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        pytest.param({}, Kind.NOT_ALLOWED, id="nobody, nowhere"),
        pytest.param({"allow": (b"/srv",)}, None, id="--allow"),
        pytest.param({"allow": (b"/srv/b",)}, Kind.NOT_ALLOWED, id="--allow of another"),
        pytest.param({"named": True}, None, id="--path"),
    ],
)
def test_by_default_and_by_option(more: dict[str, object], answer: Kind | None) -> None:
    assert asked(b"/srv/a", Repair(), **more) is answer


@pytest.mark.parametrize("more", [{"named": True}, {"allow": (b"/srv/models/keys",)}], ids=str)
def test_no_option_wins_over_deny(more: dict[str, object]) -> None:
    assert asked(b"/srv/models/keys", **more) is Kind.DENIED


def test_the_line_names_the_key_and_the_option() -> None:
    refused = judge(Repair(), MACHINE, Question(path=b"/srv/a b"))
    assert refused is not None
    assert "/srv/a b" in refused.message
    assert "repair.roots" in refused.message
    assert "--allow '/srv/a b'" in refused.hint


def test_a_hostile_name_stays_one_clean_line() -> None:
    refused = judge(Repair(), MACHINE, Question(path=b"/srv/\x1b[31m\n"))
    assert refused is not None
    assert (refused.message + refused.hint).isprintable()


@pytest.mark.parametrize(
    ("remedies", "answer"),
    [
        (("acl-user",), None),
        ((), None),
        (("chown-directory",), Kind.DENIED),
        (("acl-user", "chown-directory"), Kind.DENIED),
    ],
)
def test_remedies(remedies: tuple[str, ...], answer: Kind | None) -> None:
    rules = Repair(roots=("/srv",), remedies=("acl-user",))
    assert asked(b"/srv/x", rules, remedies=remedies) is answer
    assert asked(b"/srv/x", Repair(roots=("/srv",)), remedies=remedies) is None


@pytest.mark.parametrize(
    ("allowed", "protected", "answer"),
    [
        (True, 1, None),
        (True, 0, Kind.DENIED),
        (False, 1, Kind.NOT_ALLOWED),
        (False, 0, Kind.NOT_ALLOWED),
    ],
)
def test_live(allowed: bool, protected: int, answer: Kind | None) -> None:
    refused = judge_live(Repair(live=allowed), Sysctls(protected_hardlinks=protected))
    assert (None if refused is None else refused.kind) is answer


BY_ROOT = EngineInfo(endpoint="unix:///var/run/docker.sock", uid=0)


def named(name: str, engine: EngineInfo = BY_ROOT) -> Container:
    return Container(id="1", name=name, engine=engine, state=State.RUNNING, pid=1)


TABLE = Unasked(container="train*", remedy="acl-user", roots=("/srv/models/a",), max_entries=10)


@pytest.mark.parametrize(
    ("rules", "path", "container", "remedies", "entries", "allowed"),
    [
        pytest.param((TABLE,), b"/srv/models/a/b", "trainer", ("acl-user",), 10, True, id="all"),
        pytest.param((), b"/srv/models/a", "trainer", ("acl-user",), 1, False, id="no table"),
        pytest.param((TABLE,), b"/srv/models", "trainer", ("acl-user",), 1, False, id="above"),
        pytest.param((TABLE,), b"/srv/models/a", "web", ("acl-user",), 1, False, id="another"),
        pytest.param((TABLE,), b"/srv/models/a", "trainer", ("chown",), 1, False, id="remedy"),
        pytest.param(
            (TABLE,), b"/srv/models/a", "trainer", ("acl-user", "chown"), 1, False, id="and more"
        ),
        pytest.param((TABLE,), b"/srv/models/a", "trainer", (), 1, False, id="no remedy"),
        pytest.param((TABLE,), b"/srv/models/a", "trainer", ("acl-user",), 11, False, id="many"),
    ],
)
def test_unasked(
    rules: tuple[Unasked, ...],
    path: bytes,
    container: str,
    remedies: tuple[str, ...],
    entries: int,
    allowed: bool,
) -> None:
    policy = Repair(roots=("/srv/models",), unasked=rules)
    question = Question(path=path, remedies=remedies, named=True, allow=(b"/",))
    box = named(container)
    assert (judge_unasked(policy, MACHINE, question, box, entries) is None) is allowed


ALICE = EngineInfo(endpoint="unix:///run/user/1000/docker.sock", uid=1000)


@pytest.mark.parametrize(
    ("engine", "table", "allowed"),
    [
        pytest.param(BY_ROOT, "", True, id="root's"),
        pytest.param(ALICE, "", False, id="a user's"),
        pytest.param(replace(ALICE, uid=0, rootless=True), "", False, id="it says so itself"),
        pytest.param(replace(BY_ROOT, uid=None), "", False, id="over TCP"),
        pytest.param(ALICE, ALICE.endpoint, True, id="a user's, by name"),
        pytest.param(BY_ROOT, ALICE.endpoint, False, id="root's, and another is named"),
    ],
)
def test_unasked_is_for_names_that_root_gave(engine: EngineInfo, table: str, allowed: bool) -> None:
    """Whoever runs an engine calls his containers as he likes."""
    policy = Repair(roots=("/srv/models",), unasked=(replace(TABLE, engine=table),))
    question = Question(path=b"/srv/models/a", remedies=("acl-user",))
    refused = judge_unasked(policy, MACHINE, question, named("trainer", engine), 1)
    assert (refused is None) is allowed


@pytest.mark.parametrize(
    ("state", "error", "allowed"),
    [
        (State.RUNNING, "", True),
        (State.RESTARTING, "", True),
        (State.EXITED, "", True),
        (State.CREATED, "", False),
        (State.CREATED, "no such program", False),
        (State.EXITED, "no such program", False),
    ],
)
def test_unasked_is_for_what_did_run(state: State, error: str, allowed: bool) -> None:
    """Else a start that must fail would do."""
    policy = Repair(roots=("/srv/models",), unasked=(TABLE,))
    question = Question(path=b"/srv/models/a", remedies=("acl-user",))
    box = replace(named("trainer"), state=state, error=error)
    assert (judge_unasked(policy, MACHINE, question, box, 1) is None) is allowed


def test_unasked_is_within_what_is_allowed_at_all() -> None:
    """A table alone allows nothing, and no option counts: nobody gave one."""
    question = Question(path=b"/srv/models/a", remedies=("acl-user",), named=True, allow=(b"/",))
    assert judge_unasked(Repair(unasked=(TABLE,)), MACHINE, question, named("trainer"), 1)
