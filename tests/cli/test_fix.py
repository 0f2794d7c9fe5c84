"""``fix``, ``undo`` and ``history`` by what was typed: bad input, plan files, journals, policy.

Without an engine: trees by their name.  ``tests/acceptance/test_fix.py`` has the containers.
"""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import stat
import sys
from pathlib import Path

import jsonschema
import pytest

from permdoctor.cli import main
from permdoctor.render.repair_json import schema
from tests.cli.process import CONTROL, NO_ENGINE, permdoctor, python
from tests.cli.repairs import Answer, Run, metadata, runner, settings
from tests.lab.lab import Lab

DENIED = ("/", "/etc", "/usr/local", "/proc/self", "/dev", "/run", "/home", "/var/lib")


@pytest.fixture
def folder(lab: Lab) -> Path:
    return lab.directory(name="permdoctor")


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capsys, monkeypatch, settings(folder), NO_ENGINE)


@pytest.fixture
def tree(lab: Lab) -> Path:
    """Root's, with a set-id file, a link and a FIFO in it."""
    top = lab.directory(name="tree")
    (top / "a").mkdir()
    for name in ("a/f", "a/g", "suid", "linked"):
        (top / name).write_bytes(b"")
    (top / "suid").chmod(0o4755)
    os.link(top / "linked", top / "linked2")
    os.mkfifo(top / "fifo")
    (top / "dangling").symlink_to("/etc/shadow")
    return top


def to(tree: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("fix", "--path", tree, "--to", "1001:1002", *more)


def newest(folder: Path) -> str:
    """The id of the latest journal: several may be of one second."""
    journals = (folder / "state" / "journal").iterdir()
    return max(journals, key=lambda j: (j / "about").stat().st_mtime_ns).name


# -- a tree by its name ----------------------------------------------------------------------


def test_the_plan_changes_nothing(run: Run, tree: Path, folder: Path) -> None:
    before = metadata(tree)
    done = run(*to(tree))
    assert (done.status, done.err) == (1, "")
    assert "root:root 0755 -> 1001:1002  2 directories: ., a" in done.out
    assert "root:root 0644 -> 1001:1002  2 files: a/f, a/g" in done.out
    for skipped in ("more than one link", "set-id files", "FIFOs", "symlinks"):
        assert f"skipped, {skipped}" in done.out
    assert "nobody is paused: no engine was asked" in done.out
    assert done.out.endswith(f"     permdoctor fix --path {tree} --to 1001:1002 --apply\n")
    assert metadata(tree) == before
    assert not (folder / "state").exists()


def test_apply_and_undo(run: Run, tree: Path, folder: Path) -> None:
    before = metadata(tree)
    done = run(*to(tree, "--apply", "--yes"))
    assert (done.status, done.err) == (1, ""), "as the same command says once more"
    assert "repaired: 4 of 4 entries\n  skipped, as the plan says: 5 entries\n" in done.out
    assert run(*to(tree, "--apply", "--yes")).status == 1
    owners = {p.name: (p.lstat().st_uid, p.lstat().st_gid) for p in tree.rglob("*")}
    assert {n for n, o in owners.items() if o == (1001, 1002)} == {"a", "f", "g"}
    assert (tree / "suid").stat().st_mode & 0o7777 == 0o4755
    again = run("undo", "--last", "--dry-run")
    assert (again.status, "4 entries to restore" in again.out) == (1, True)
    assert metadata(tree) != before
    undone = run("undo", newest(folder)[-4:], "--yes")
    assert (undone.status, undone.err) == (0, "")
    assert metadata(tree) == before
    assert run("undo", newest(folder), "--dry-run").status == 1, "an undo can be undone"


def test_undoing_twice_is_no_error(run: Run, tree: Path, folder: Path) -> None:
    run(*to(tree, "--apply", "--yes"))
    id_ = newest(folder)
    run("undo", id_, "--yes")
    again = run("undo", id_, "--yes")
    assert (again.status, again.out) == (0, f"{id_}: everything is as it was before\n")
    assert run("undo", "--last", "--yes").status == 2


def test_the_last_one_is_one_that_changed_something(run: Run, tree: Path, folder: Path) -> None:
    """Not one that found all of it done, nor an older one when an undo was undone."""
    run(*to(tree / "suid", "--set-id", "--apply", "--yes"))
    run(*to(tree / "a", "--plan-out", folder / "plan"))
    run(*to(tree / "a", "--apply", "--yes"))
    id_ = newest(folder)
    changed = metadata(tree)
    run("fix", "--plan", folder / "plan", "--apply", "--yes", "--allow", tree)
    assert newest(folder) != id_, "it is in the history"
    assert run("undo", "--last", "--yes").out.startswith(f"{id_}: 3 entries to restore")
    run("undo", newest(folder), "--yes")
    assert metadata(tree) == changed
    assert "undone" not in run("history", "show", id_).out
    assert run("undo", "--last", "--dry-run").out.startswith(f"{id_}: 3 entries to restore")


def test_a_tree_that_was_moved(run: Run, tree: Path) -> None:
    run(*to(tree / "a", "--apply", "--yes"))
    (tree / "a").rename(tree / "b")
    done = run("undo", "--last", "--yes")
    assert (done.status, "hint: --at DIR" in done.one_line) == (3, True)
    assert run("undo", "--last", "--yes", "--at", tree / "b").status == 0
    assert (tree / "b").stat().st_uid == 0


def test_what_was_changed_since_is_left_and_listed(run: Run, tree: Path) -> None:
    run(*to(tree, "--apply", "--yes"))
    os.chown(tree / "a" / "f", 7, 7)
    done = run("undo", "--last", "--yes")
    assert done.status == 1
    assert "left alone, changed since: 1 entry: a/f" in done.out
    assert (tree / "a" / "f").stat().st_uid == 7
    assert (tree / "a" / "g").stat().st_uid == 0


def test_nothing_to_do_is_one_line(run: Run, lab: Lab) -> None:
    tree = lab.directory(1001, 1002)
    done = run(*to(tree, "--apply", "--yes"))
    assert (done.status, done.out) == (0, f"{tree}: nothing to repair\n")
    assert run("history").out == "nothing was repaired here\n"


@pytest.mark.parametrize(
    ("options", "uid", "mode", "said"),
    [
        ((), 0, 0o4755, "skipped, set-id files"),
        (("--set-id",), 1001, 0o755, "loses setuid"),
    ],
)
def test_set_id_is_never_lost_silently(
    run: Run, tree: Path, options: tuple[str, ...], uid: int, mode: int, said: str
) -> None:
    assert said in run(*to(tree, *options)).out
    run(*to(tree, *options, "--apply", "--yes"))
    status = (tree / "suid").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (uid, mode)


@pytest.mark.parametrize(
    ("value", "owner"), [("7:8", (7, 8)), ("7", (7, 0)), ("7:", (7, 0)), (":8", (0, 8))]
)
def test_whom_it_is_given_to(run: Run, lab: Lab, value: str, owner: tuple[int, int]) -> None:
    tree = lab.directory()
    assert run("fix", "--path", tree, "--to", value, "--apply", "--yes").status == 0
    assert (tree.stat().st_uid, tree.stat().st_gid) == owner


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param((), "repair what?", id="nothing"),
        pytest.param(("x", "--path", "/y", "--to", "1"), "give one of", id="both"),
        pytest.param(("--path", "/y"), "needs --to UID:GID or --for", id="to whom"),
        pytest.param(("--path", "/y", "--to", "1", "--for", "x"), "needs --to", id="to both"),
        pytest.param(("x", "--to", "1:1"), "need --path", id="to without path"),
        pytest.param(("--path", "/y", "--to", "1", "--mount", "/a"), "for a CONTAINER", id="m"),
        pytest.param(("--path", "/y", "--to", "root"), "is none of UID", id="a name"),
        pytest.param(("--path", "/y", "--to", "1:2:3"), "is none of UID", id="three"),
        pytest.param(("--path", "/y", "--to", ":"), "is none of UID", id="nobody"),
        pytest.param(("--path", "/y", "--to", "-1:0"), "is none of UID", id="negative"),
        pytest.param(("--path", "/y", "--to", "4294967295"), "is none of UID", id="uid -1"),
        pytest.param(("--path", "", "--to", "1"), "an empty path", id="no path"),
        pytest.param(("x", "--mount", "a"), "is not an absolute path", id="relative mount"),
        pytest.param(("x", "--apply"), "no terminal to ask on: add --yes", id="nobody to ask"),
        pytest.param(("x", "--apply", "--format", "json"), "asks nobody", id="json asks nobody"),
        pytest.param(("x", "--plan-out", "f", "--apply", "-y"), "only writes the plan", id="out"),
        pytest.param(("--plan", "f", "--plan-out", "g"), "only writes the plan", id="plan to plan"),
        pytest.param(("--plan", "/nonexistent"), "cannot read the plan", id="no plan"),
        pytest.param(("x", "--live"), "repair.live is false", id="live is not allowed"),
        pytest.param(("--path", "/nonexistent", "--to", "1"), "No such file", id="no such path"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], message: str, run: Run) -> None:
    done = run("fix", *args)
    assert (done.status, done.out) == (2, "")
    assert message in done.one_line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("undo",), "which repair?"),
        (("undo", "x", "--last"), "which repair?"),
        (("undo", "--last"), "no terminal to ask on"),
        (("undo", "--last", "--yes"), "there is no repair that could be undone"),
        (("undo", "2026", "--yes"), "there is no repair 2026"),
        (("undo", "\x1b[31m", "--yes"), "there is no repair \\x1b[31m"),
        (("history", "show", "x"), "there is no repair x"),
        (("history", "list"), "No such command"),
    ],
)
def test_wrong_usage_of_the_way_back(args: tuple[str, ...], message: str, run: Run) -> None:
    done = run(*args)
    assert (done.status, done.out) == (2, "")
    assert message in done.one_line


def test_an_id_that_is_nearly_right(run: Run, tree: Path, folder: Path) -> None:
    run(*to(tree, "--apply", "--yes"))
    id_ = newest(folder)
    wrong = id_[:-1] + ("0" if id_[-1] != "0" else "1")
    assert f"hint: did you mean {id_}?" in run("undo", wrong, "--yes").one_line


@pytest.mark.parametrize("path", DENIED)
@pytest.mark.parametrize("more", [(), ("--apply", "--yes"), ("--apply", "--yes", "--force")])
def test_the_hosts_own_places(run: Run, path: str, more: tuple[str, ...], folder: Path) -> None:
    if not os.path.lexists(path):
        pytest.skip(f"there is no {path} here")
    before = os.lstat(path)
    done = run("fix", "--path", path, "--to", "65534:65534", *more)
    assert (done.status, done.out) == (2, "")
    assert (path, "home directory" in done.one_line) != ("/", True)
    assert os.lstat(path) == before
    assert not (folder / "state").exists()


def test_an_accounts_home(run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = pwd.struct_passwd(("x", "x", 1001, 1001, "", str(tree), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [somebody])
    done = run(*to(tree, "--apply", "--yes"))
    assert done.status == 2
    assert "is a home directory" in done.one_line


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('deny = ["{tree}"]', "repair.deny protects"),
        ('deny = ["{tree}/a"]', "contains"),
        ('remedies = ["acl-user"]', "not among repair.remedies"),
    ],
)
def test_what_the_administrator_forbids(
    rules: str, message: str, run: Run, tree: Path, folder: Path
) -> None:
    settings(folder, rules.format(tree=tree))
    before = metadata(tree)
    done = run(*to(tree, "--apply", "--yes"))
    assert done.status == 2
    assert message in done.one_line
    assert metadata(tree) == before


def test_a_plan_that_is_too_large(run: Run, tree: Path, folder: Path) -> None:
    settings(folder, "max_entries = 3")
    before = metadata(tree)
    shown = run(*to(tree))
    assert shown.status == 3
    assert "not complete: stopped" in shown.out
    done = run(*to(tree, "--apply", "--yes"))
    assert done.status == 3
    assert "the plan is not complete" in done.err.splitlines()[0]
    assert "repair.max_entries" in done.err
    assert metadata(tree) == before


def test_a_path_behind_a_symlink_is_named(run: Run, tree: Path, lab: Lab) -> None:
    link = lab.directory() / "link"
    link.symlink_to(tree)
    done = run(*to(link, "--apply", "--yes"))
    assert done.status == 2
    assert f"hint: name the place itself: --path {tree}" in done.one_line


@pytest.mark.parametrize("protected", ["0", "1"])
def test_live_needs_protected_hardlinks(
    run: Run, tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, protected: str
) -> None:
    from permdoctor.kernel.sysctls import Sysctls

    settings(folder, "live = true")
    sysctls = Sysctls(protected_hardlinks=int(protected))
    monkeypatch.setattr("permdoctor.app.fix.procfs.read_sysctls", lambda: sysctls)
    done = run(*to(tree, "--live"))
    assert (done.status, "fs.protected_hardlinks is 0" in done.err) == (
        (2, True) if protected == "0" else (1, False)
    )


# -- without root ----------------------------------------------------------------------------


def as_nobody(*args: str | Path) -> Answer:
    """``main`` in a child that is uid 65534: the same interpreter, wherever it is installed."""
    import permdoctor.app.fix
    import permdoctor.app.history
    import permdoctor.app.undo  # noqa: F401 - nobody may be unable to read where these lie

    reads, writes = zip(os.pipe(), os.pipe(), strict=True)
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(w, "wb", 0)) for w in writes)
        status = 99
        try:
            status = main([str(a) for a in args])
            sys.stdout.flush()
        finally:
            os._exit(status)
    for w in writes:
        os.close(w)
    texts = []
    for r in reads:
        with os.fdopen(r) as stream:
            texts.append(stream.read())
    return Answer(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), texts[0], texts[1])


@pytest.fixture
def nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERMDOCTOR_CONFIG", str(settings(folder)))
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)


@pytest.mark.usefixtures("nobody")
def test_without_root_the_plan_works(tree: Path) -> None:
    done = as_nobody(*to(tree))
    assert (done.status, done.err) == (1, "")
    assert "root:root 0755 -> 1001:1002  2 directories: ., a" in done.out


@pytest.mark.usefixtures("nobody")
def test_without_root_apply_says_what_is_missing(tree: Path) -> None:
    before = metadata(tree)
    for args in (to(tree, "--apply", "--yes"), ("undo", "--last", "--yes")):
        done = as_nobody(*args)
        assert (done.status, done.out) == (3, "")
        assert "uid 65534 lacks CAP_CHOWN" in done.one_line
        assert "hint: run it with sudo" in done.err
    assert metadata(tree) == before


@pytest.mark.usefixtures("nobody")
def test_without_root_the_history_is_closed(run: Run, tree: Path) -> None:
    run(*to(tree, "--apply", "--yes"))
    done = as_nobody("history")
    assert (done.status, done.out) == (3, "")
    assert "run it as root" in done.one_line


@pytest.mark.usefixtures("nobody")
def test_an_ordinary_user_is_not_told_of_interrupted_repairs(folder: Path, run: Run) -> None:
    active = folder / "state" / "active"
    active.mkdir(parents=True)
    (active / "20261122-051205-3f2a").touch()
    assert as_nobody("codes", "PD101").err == ""


# -- plan files ------------------------------------------------------------------------------


@pytest.fixture
def plan(run: Run, tree: Path, folder: Path) -> Path:
    file = folder / "plan"
    done = run(*to(tree, "--plan-out", file))
    assert done.status == 1
    assert done.out.endswith(f"     permdoctor fix --plan {file} --allow {tree} --apply\n")
    return file


def test_a_plan_file_is_roots_alone(plan: Path) -> None:
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600


def test_a_plan_is_never_written_over_a_file(run: Run, plan: Path, tree: Path) -> None:
    before = plan.read_bytes()
    done = run(*to(tree, "--plan-out", plan))
    assert (done.status, done.out) == (2, "")
    assert "exists" in done.one_line
    assert plan.read_bytes() == before


def test_a_plan_is_shown_and_applied(run: Run, plan: Path, tree: Path) -> None:
    shown = run("fix", "--plan", plan)
    assert (shown.status, shown.err) == (1, "")
    assert "root:root 0644 -> 1001:1002  2 files: a/f, a/g" in shown.out
    assert (tree / "a" / "f").stat().st_uid == 0
    refused = run("fix", "--plan", plan, "--apply", "--yes")
    assert refused.status == 2
    assert "repair.roots" in refused.one_line
    assert f"--allow {tree}" in refused.err
    done = run("fix", "--plan", plan, "--apply", "--yes", "--allow", tree)
    assert (done.status, done.err) == (1, ""), "entries are skipped"
    assert (tree / "a" / "f").stat().st_uid == 1001


def test_a_plan_that_no_longer_fits_is_refused_entry_by_entry(
    run: Run, plan: Path, tree: Path
) -> None:
    os.chown(tree / "a" / "f", 7, 7)
    (tree / "a" / "new").write_bytes(b"")
    done = run("fix", "--plan", plan, "--apply", "--yes", "--allow", tree)
    assert done.status == 1
    assert "left alone, changed since" in done.out
    assert [(tree / "a" / n).stat().st_uid for n in ("f", "g", "new")] == [7, 1001, 0]


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def open_to_others(file: Path) -> None:
    file.chmod(0o622)


def somebodys(file: Path) -> None:
    os.chown(file, 1001, 1001)


def text(file: Path) -> None:
    file.write_text("chown root /etc/shadow\n")


def of_another_host(file: Path) -> None:
    (file.parent / "state" / "key").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "was changed since it was written|is damaged"),
        (cut, "was changed since it was written|is damaged"),
        (open_to_others, "can be written by others"),
        (somebodys, "can be written by others"),
        (text, "is no plan of permdoctor"),
        (of_another_host, "made on another host"),
    ],
)
def test_a_plan_that_is_not_to_be_trusted(
    spoil: object, message: str, run: Run, plan: Path, tree: Path
) -> None:
    assert callable(spoil)
    spoil(plan)
    before = metadata(tree)
    for more in ((), ("--apply", "--yes", "--allow", str(tree))):
        done = run("fix", "--plan", plan, *more)
        assert (done.status, done.out) == (2, "")
        assert re.search(message, done.one_line)
    assert metadata(tree) == before


# -- journals --------------------------------------------------------------------------------


def test_history(run: Run, tree: Path, folder: Path) -> None:
    run(*to(tree, "--apply", "--yes"))
    id_ = newest(folder)
    run("undo", "--last", "--yes")
    listed = run("history").out.splitlines()
    assert [x.split()[0] == id_ for x in listed] == [True, False], "the newest is the last"
    assert "done, undone" in listed[0]
    assert f"undo of {id_}" in listed[1]
    shown = run("history", "show", id_[-4:], "--entries")
    assert (shown.status, shown.err) == (0, "")
    assert f" permdoctor fix --path {tree} --to 1001:1002 --apply\n" in shown.out
    assert f"  applied: {tree}/a/f  0:0 0644 -> 1001:1002\n" in shown.out


@pytest.mark.parametrize("name", ["about", "plan", "outcome"])
def test_a_corrupt_journal_is_one_line_and_the_others_are_not_affected(
    name: str, run: Run, tree: Path, folder: Path, lab: Lab
) -> None:
    run(*to(tree, "--apply", "--yes"))
    id_ = newest(folder)
    run("fix", "--path", lab.directory(), "--to", "7", "--apply", "--yes")
    flip(folder / "state" / "journal" / id_ / name)
    before = metadata(tree)
    listed = run("history")
    assert listed.status == 0
    assert len(listed.out.splitlines()) == 2
    assert ("damaged" in listed.out) is (name != "plan")
    done = run("undo", id_, "--yes")
    assert (done.status, done.out) == (3, "")
    assert "damaged" in done.one_line
    assert metadata(tree) == before
    assert run("undo", "--last", "--yes").status == 0


def test_a_state_directory_that_others_can_write(run: Run, tree: Path, folder: Path) -> None:
    (folder / "state").mkdir(mode=0o777)
    (folder / "state").chmod(0o777)
    before = metadata(tree)
    done = run(*to(tree, "--apply", "--yes"))
    assert (done.status, done.out) == (3, "")
    assert "is not ours alone" in done.one_line
    assert metadata(tree) == before


# -- JSON ------------------------------------------------------------------------------------


def test_json(run: Run, tree: Path, folder: Path) -> None:
    shown = run(*to(tree, "--format", "json"))
    applied = run(*to(tree, "--format", "json", "--apply", "--yes"))
    id_ = newest(folder)
    undone = run("undo", id_, "--yes", "--format", "json")
    listed = run("history", "--format", "json")
    one = run("history", "show", id_, "--entries", "--format", "json")
    documents = [json.loads(d.out) for d in (shown, applied, undone, listed, one)]
    for document in documents:
        jsonschema.validate(document, schema())
    assert documents[0]["result"] is None
    assert documents[1]["result"]["id"] == id_
    assert documents[1]["result"]["solved"] is False, "entries are skipped"
    assert [d["undone_by"] for d in documents[3]["repairs"]] == [
        documents[3]["repairs"][1]["id"],
        "",
    ]
    assert {e["mark"] for e in documents[4]["entries"]} == {"applied"}


# -- the terminal ----------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_a_terminal_is_asked(
    run: Run, tree: Path, typed: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    done = run(*to(tree / "a", "--apply"))
    assert "Repair it? [y/N]" in done.out + done.err
    assert done.status == status
    assert ((tree / "a" / "f").stat().st_uid == 1001) is (status == 0)
    assert ("nothing was changed" in done.err) is (status == 1)


def test_hostile_names_reach_no_terminal(run: Run, lab: Lab) -> None:
    tree = lab.directory()
    for name in (b"\x1b[31m", b"\n\r", b"\xff", b"\xe2\x80\xae"):
        (tree / os.fsdecode(name)).write_bytes(b"")
    shown = [run(*to(tree)), run(*to(tree, "--apply", "--yes"))]
    shown += [run("history"), run("undo", "--last", "--yes")]
    assert CONTROL.search("".join(d.out + d.err for d in shown)) is None


def test_names_of_files_are_completed(folder: Path, run: Run, tree: Path) -> None:
    run(*to(tree, "--apply", "--yes"))
    done = permdoctor(
        _PERMDOCTOR_COMPLETE="bash_complete",
        COMP_WORDS="permdoctor undo 20",
        COMP_CWORD="2",
        PERMDOCTOR_CONFIG=str(settings(folder)),
    )
    assert done.stdout.split() == [f"plain,{newest(folder)}"]


def test_what_an_interrupted_repair_costs_when_there_is_none(folder: Path) -> None:
    """No module of repair/ is imported to find out that there is none."""
    done = python(
        "from permdoctor.cli import main\n"
        "main(['codes', 'PD101'])\n"
        "print([m for m in sys.modules if m.startswith('permdoctor.repair')], file=sys.stderr)",
        PERMDOCTOR_CONFIG=str(settings(folder)),
    )
    assert done.stderr == "[]\n"
