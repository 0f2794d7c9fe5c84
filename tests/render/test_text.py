"""The text formats: what a person sees, on a terminal of any width and in a pipe."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from permdoctor.container.container import State
from permdoctor.container.subject import Basis
from permdoctor.diagnosis.explanation import ExplainedOperation, Explanation
from permdoctor.diagnosis.report import (
    CheckResult,
    Coverage,
    ProbeResult,
    Report,
    Severity,
    Skipped,
)
from permdoctor.kernel.acl import Tag, from_mode
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.verdict import Verdict
from permdoctor.render.explain import coverage, explain
from permdoctor.render.layout import Line, Span, Style, cells, columns, line, plain, span
from permdoctor.render.table import table
from permdoctor.render.terminal import styled
from permdoctor.render.walk import explanation as walk_lines
from permdoctor.render.walk import mode_string
from tests.render.builders import (
    broken,
    container,
    directory,
    explanation,
    finding,
    hops,
    hostile_explanation,
    hostile_report,
    info,
    mount,
    remapped,
    report,
    result,
    root,
    subject,
    write_verdict,
)

SGR = re.compile(r"\x1b\[[0-9;]*m")
DANGEROUS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")

SKIPPED = Skipped(what="/proc/1/root", reason="EACCES", hint="run it as root")


def text(of: CheckResult, **options: bool) -> str:
    return plain(table(of, **options))


BROKEN = """\
trainer: 1 error, 1 info
  as 1001:1001 (model) = host 1001:1001  python[4121]
  /app/model  rw bind  /home/model  0:0 (root:root) 0755 ext4  write: EACCES
  /data       ro bind  /home/model  0:0 (root:root) 0755 ext4  ok
  error PD101 /app/model: 1001:1001 cannot write here
    class other applies: r-x, asked for w: refused
    -> Give the directory, and nothing below it, to the process (and 1 other: --format explain)
       chown 1001:1001 /home/model
  1 info not shown (-v)
"""


def test_a_block() -> None:
    assert text(result(broken())) == BROKEN


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(report(), "trainer: ok, 3 mounts, as 1001:1001 (model)", id="healthy"),
        pytest.param(
            report(mounts=(mount(),), subjects=(root(), subject())),
            "trainer: ok, 1 mount, as 0:0 (root), 1001:1001 (model)",
            id="two users",
        ),
        pytest.param(
            report(findings=(info(), info())),
            "trainer: ok, 3 mounts, as 1001:1001 (model) (2 infos, -v shows)",
            id="informations are counted",
        ),
        pytest.param(
            report(
                basis=Basis.PREDICTED,
                container=container(state=State.EXITED, pid=None, exit_code=1),
            ),
            "trainer: ok, 3 mounts, as 1001:1001 (model) (exited 1, predicted from configuration)",
            id="predicted",
        ),
        pytest.param(
            report(subjects=(remapped(),)),
            "trainer: ok, 3 mounts, as 1000:1000 = host 101000:101000",
            id="remapped",
        ),
    ],
)
def test_a_healthy_container_is_one_line(of: Report, expected: str) -> None:
    assert text(result(of)) == expected + "\n"


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(
            report(skipped=(SKIPPED,)),
            "  not read: /proc/1/root: EACCES (run it as root)",
            id="a fact that could not be read",
        ),
        pytest.param(report(judged=False), "trainer: not judged", id="too little is known"),
        pytest.param(
            report(
                probes=(
                    ProbeResult(
                        target=b"/data",
                        subject=0,
                        want="write",
                        predicted="ok",
                        observed="EACCES",
                        agrees=False,
                        note="SELinux",
                    ),
                )
            ),
            "  probe: DISAGREES: write /data as 1001:1001 (model): "
            "predicted ok, the kernel says EACCES (SELinux)",
            id="the kernel says otherwise",
        ),
    ],
)
def test_what_must_not_be_left_out(of: Report, expected: str) -> None:
    shown = text(result(of)).splitlines()
    assert len(shown) > 1
    assert expected in shown


def test_informations_are_shown_when_asked_for() -> None:
    assert "PD302" not in text(result(broken()))
    assert "PD302" in text(result(broken()), verbose=True)


KNOWN = finding(ignored="moves with the next release")


@pytest.mark.parametrize(
    ("of", "verbose", "expected"),
    [
        pytest.param(
            report(findings=(KNOWN, info())),
            False,
            "trainer: ok, 3 mounts, as 1001:1001 (model) (1 info, 1 ignored, -v shows)",
            id="it does not count",
        ),
        pytest.param(
            report(findings=(finding(), KNOWN)), False, "  1 ignored not shown (-v)", id="counted"
        ),
        pytest.param(
            report(findings=(KNOWN,)), True, "    ignored: moves with the next release", id="why"
        ),
    ],
)
def test_what_is_ignored_is_shown_as_such(of: Report, verbose: bool, expected: str) -> None:
    shown = text(result(of), verbose=verbose).splitlines()
    assert expected in shown


def test_blocks_are_apart_and_healthy_lines_together() -> None:
    shown = text(result(report(), report(), broken(), report())).split("\n\n")
    assert [len(block.splitlines()) for block in shown] == [2, 9, 1]


def test_samples_are_counted() -> None:
    one = finding(count=1204, samples=(b"a", b"b\n", b"c"))
    assert "1,204 entries, such as a, b\\x0a, c" in text(result(report(findings=(one,))))


@pytest.mark.parametrize("width", [20, 40, 72, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = table(result(broken(), report()), verbose=True, width=width)
    shown = styled(lines, width=width, color=False).splitlines()
    too_wide = [s for s in shown if cells(s) > width and "chown" not in s and "user:" not in s]
    assert too_wide == []


def test_a_command_is_never_broken() -> None:
    """It is there to be copied."""
    shown = styled(table(result(broken()), width=20), width=20, color=False)
    assert "       chown 1001:1001 /home/model\n" in shown


def test_colour_is_only_colour() -> None:
    lines = table(result(broken()), width=100)
    colored, bare = (styled(lines, width=100, color=c) for c in (True, False))
    assert SGR.search(colored)
    assert SGR.sub("", colored) == bare == plain(lines)


@pytest.mark.parametrize("of", [hostile_report(), broken()], ids=["hostile", "harmless"])
@pytest.mark.parametrize("verbose", [True, False])
def test_no_control_character_reaches_a_reader(of: Report, verbose: bool) -> None:
    made = result(of)
    for lines in (table(made, verbose=verbose), table(made, width=40), explain(made, width=40)):
        outputs = [plain(lines), SGR.sub("", styled(lines, width=40, color=True))]
        for shown in outputs:
            assert DANGEROUS.search(shown) is None
            shown.encode("utf-8")


def test_no_control_character_in_a_walk() -> None:
    lines = walk_lines(hostile_explanation())
    for shown in (plain(lines), SGR.sub("", styled(lines, width=40, color=True))):
        assert DANGEROUS.search(shown) is None


def test_a_hostile_name_cannot_make_a_line_of_its_own() -> None:
    harmless = len(table(result(report(findings=(finding(),)))))
    assert len(plain(table(result(hostile_report()))).splitlines()) < harmless + 5


def test_explain_says_everything() -> None:
    shown = plain(explain(result(broken())))
    for expected in (
        "    . class other applies: r-x, asked for w: refused",
        "    x uid 1001 has no CAP_DAC_OVERRIDE",
        "    = EACCES",
        "    on the host /home/model",
        "    1. Give the directory, and nothing below it, to the process [proven",
        "       chown 1001:1001 /home/model",
        "    2. Or run it as the owner",
        "       in the Compose file:",
        "       but: what it makes then belongs to root",
        "       breaks backup (999): write -> EACCES",
        "    more: permdoctor codes PD101",
        "  info PD302 New files belong to 1001:1001",
    ):
        assert expected in shown


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (Coverage(entries=48_210), "48,210 of at least 48,210 entries, complete"),
        (Coverage(entries=1), "1 of at least 1 entry, complete"),
        (
            Coverage(entries=200_000, stopped="stopped after 10 seconds", unreadable=2, vanished=1),
            "200,000 entries, stopped after 10 seconds, 2 not readable, 1 vanished meanwhile",
        ),
        (
            Coverage(entries=2, foreign_mounts=1),
            "2 of at least 2 entries, complete, 1 other mount left out",
        ),
    ],
)
def test_coverage(of: Coverage, expected: str) -> None:
    assert coverage(of) == expected


@pytest.mark.parametrize(
    ("samples", "count", "expected"),
    [
        ((b"a",), 1, "1 entry: a"),
        ((b"a", b"b"), 2, "2 entries: a, b"),
        ((b"a", b"b", b"c"), 4, "4 entries, such as a, b, c"),
    ],
)
def test_samples(samples: tuple[bytes, ...], count: int, expected: str) -> None:
    assert f"    {expected}\n" in text(
        result(report(findings=(finding(samples=samples, count=count),)))
    )


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ("/root", "/root: class other applies: r-x, asked for w: refused"),
        ("/app/model", "class other applies: r-x, asked for w: refused"),
        ("", "class other applies: r-x, asked for w: refused"),
    ],
)
def test_another_place_that_refused_is_named(about: str, expected: str) -> None:
    verdict = write_verdict()
    steps = tuple(replace(s, about=about) for s in verdict.steps)
    one = finding(verdict=replace(verdict, steps=steps))
    assert f"    {expected}\n" in text(result(report(findings=(one,))))


def test_what_is_never_reached_gets_the_errno_of_the_walk() -> None:
    way = hops((b"/", directory()), (b"/root", directory(mode=0o700)), (b"/root/x", directory()))
    granted = ExplainedOperation(subject=0, want="read", verdict=Verdict(errno=None))
    of = explanation(way=way, operations=(granted,))
    assert "  read  EACCES  the walk ends at /root\n" in plain(walk_lines(of))


WALK = """\
/root/.cache in trainer
  on the host: /home/model

as 1001:1001 (model) = host 1001:1001
  drwxr-xr-x  root(0)  root(0)  /  [ext4]  class other applies: r-x, asked for x: granted
  drwx------  root(0)  root(0)  /root      EACCES: class other applies: ---, asked for x: refused
"""

MOUNTED = """\
/app/model in trainer
  on the host: /home/model

as 1001:1001 (model) = host 1001:1001
  drwxr-xr-x  root(0)  root(0)  /  [ext4]   class other applies: r-x, asked for x: granted
  drwxr-xr-x  root(0)  root(0)  /app        class other applies: r-x, asked for x: granted
  drwxr-xr-x  root(0)  root(0)  /app/model  the object
  read   allowed  ACL entry other applies: r-x, asked for r: granted
  write  EACCES   ACL entry other applies: r-x, asked for w: refused
"""


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(
            explanation(
                way=hops(
                    (b"/", directory()),
                    (b"/root", directory(mode=0o700)),
                    (b"/root/.cache", directory(1001, 1001)),
                )
            ),
            WALK,
            id="stops where it is refused",
        ),
        pytest.param(explanation(), MOUNTED, id="reaches the object"),
    ],
)
def test_walk(of: Explanation, expected: str) -> None:
    assert plain(walk_lines(of)) == expected


def test_walk_names_a_missing_component() -> None:
    shown = plain(walk_lines(explanation(missing=b"/app/model/x")))
    assert re.search(r"/app/model/x +does not exist", shown)


def test_walk_shows_both_numbers() -> None:
    by = remapped(1000, Cap.DAC_OVERRIDE)
    way = hops((b"/", directory(100_000, 100_000)), (b"/data", directory(1000, 1000)))
    shown = plain(walk_lines(explanation(by, way)))
    assert "root(0)=100000" in shown
    assert "host:1000" in shown


@pytest.mark.parametrize(
    ("inode", "expected"),
    [
        (directory(mode=0o1777), "drwxrwxrwt"),
        (directory(mode=0o2770), "drwxrws---"),
        (directory(mode=0o1776), "drwxrwxrwT"),
        (Inode(uid=None, gid=None, mode=0o4755), "-rwsr-xr-x"),
        (Inode(uid=None, gid=None, mode=0o4644), "-rwSr--r--"),
        (Inode(uid=None, gid=None, mode=0o660, type=FileType.CHARDEV), "crw-rw----"),
        (Inode(uid=None, gid=None, mode=0o777, type=FileType.SYMLINK), "lrwxrwxrwx"),
        (directory(acl=from_mode(0o755).with_entry(Tag.USER, 1, 7), mode=0o775), "drwxrwxr-x+"),
        (directory(acl=from_mode(0o755)), "drwxr-xr-x"),
    ],
)
def test_mode_string(inode: Inode, expected: str) -> None:
    assert mode_string(inode) == expected


@pytest.mark.parametrize(
    ("shown", "expected"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("", 0), ("\u200b", 0)]
)
def test_cells(shown: str, expected: int) -> None:
    assert cells(shown) == expected


def test_columns_align_wide_characters() -> None:
    rows = [(span("日本"), span("x")), (span("abcdef"), span("y"))]
    assert [each.text for each in columns(rows)] == ["日本    x", "abcdef  y"]


def test_a_span_cannot_hold_a_line_break() -> None:
    assert span("a\nb\x1b").text == "a\\x0ab\\x1b"
    assert line("a", "", span("b"), gap=" ") == Line(spans=(Span("a"), Span(" "), Span("b")))


def test_every_style_has_a_colour() -> None:
    for style in Style:
        assert "x" in styled([line(span("x", style))], width=20, color=True)


def test_severities_are_named_as_they_are_counted() -> None:
    findings = tuple(
        finding(s, verdict=write_verdict()) for s in (Severity.ERROR, *[Severity.WARNING] * 2)
    )
    shown = text(result(report(findings=findings))).splitlines()[0]
    assert shown == "trainer: 1 error, 2 warnings"
