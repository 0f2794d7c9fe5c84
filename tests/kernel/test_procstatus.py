"""Recorded /proc/PID/status and uid_map texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permdoctor.kernel.caps import DOCKER_DEFAULT, Cap
from permdoctor.kernel.ids import IdMap
from permdoctor.kernel.procstatus import parse_id_map, parse_status
from tests.kernel.build import id_map

STATUS = b"""\
Name:\tsupervisor
Umask:\t0022
State:\tS (sleeping)
Tgid:\t4711
Ngid:\t0
Pid:\t4711
PPid:\t4690
TracerPid:\t0
Uid:\t101000\t101001\t101002\t101003
Gid:\t102000\t102001\t102002\t102003
FDSize:\t64
Groups:\t100033 101500 \nNStgid:\t4711\t12\t1
NSpid:\t4711\t12\t1
Kthread:\t0
VmPeak:\t    1234 kB
CapInh:\t0000000000000000
CapPrm:\t00000000a80425fb
CapEff:\t00000000a80425fb
CapBnd:\t00000000a80425fb
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""


def test_a_process_of_a_container() -> None:
    status = parse_status(STATUS)
    assert (status.ruid, status.fsuid, status.fsgid) == (101000, 101003, 102003)
    assert status.groups == {100033, 101500}
    assert status.effective == DOCKER_DEFAULT
    assert status.bounding == DOCKER_DEFAULT
    assert (status.ppid, status.nspid, status.state) == (4690, (4711, 12, 1), "S")
    assert (status.umask, status.no_new_privs, status.seccomp) == (0o022, True, 2)
    assert status.comm == b"supervisor"


@pytest.mark.parametrize(
    ("before", "after", "field", "value"),
    [
        pytest.param(b"Groups:\t100033 101500 ", b"Groups:\t ", "groups", frozenset(),
                     id="no groups"),
        pytest.param(b"Umask:\t0022\n", b"", "umask", None, id="no umask before Linux 4.7"),
        pytest.param(b"NSpid:\t4711\t12\t1\n", b"", "nspid", (), id="no pid namespaces"),
        pytest.param(b"Seccomp:\t2\n", b"", "seccomp", 0, id="no seccomp"),
        pytest.param(b"NoNewPrivs:\t1\n", b"", "no_new_privs", False, id="no no_new_privs"),
        pytest.param(b"State:\tS (sleeping)", b"State:\tZ (zombie)", "state", "Z", id="zombie"),
        pytest.param(b"supervisor", rb"a\nUid:\t0", "comm", b"a\nUid:\\t0",
                     id="a name cannot forge a line: newlines come escaped"),
        pytest.param(b"supervisor", rb"back\\slash", "comm", b"back\\slash", id="backslash"),
        pytest.param(b"supervisor", rb"\\n", "comm", rb"\n", id="an escaped backslash, then n"),
        pytest.param(b"supervisor", b"a: b", "comm", b"a: b", id="colon in the name"),
        pytest.param(b"supervisor", b"\xff\x1b", "comm", b"\xff\x1b", id="odd bytes"),
        pytest.param(b"CapEff:\t00000000a80425fb", b"CapEff:\tffffffffffffffff", "effective",
                     Cap((1 << 41) - 1), id="bits of the future"),
    ],
)  # fmt: skip
def test_variants(before: bytes, after: bytes, field: str, value: object) -> None:
    assert before in STATUS
    assert getattr(parse_status(STATUS.replace(before, after)), field) == value


@pytest.mark.parametrize("line", [b"Name", b"State", b"PPid", b"Uid", b"Gid", b"Groups", b"CapEff"])
def test_a_missing_line_is_an_error(line: bytes) -> None:
    text = b"\n".join(x for x in STATUS.split(b"\n") if not x.startswith(line + b":"))
    with pytest.raises(ValueError, match=r"incomplete|invalid"):
        parse_status(text)


@given(st.integers(0, len(STATUS)))
def test_a_text_cut_short_is_an_error_or_a_status(length: int) -> None:
    try:
        parse_status(STATUS[:length])
    except ValueError:
        return
    assert length > STATUS.index(b"CapBnd")


@given(st.binary())
def test_garbage_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"incomplete|invalid"):
        parse_status(text)


@pytest.mark.parametrize(
    ("text", "map_"),
    [
        pytest.param(b"         0          0 4294967295\n", id_map((0, 0, 4294967295)),
                     id="the initial namespace"),
        pytest.param(b"         0       1000          1\n         1     100000      65536\n",
                     id_map((0, 1000, 1), (1, 100000, 65536)), id="rootless"),
        pytest.param(b"", id_map(), id="not written yet"),
    ],
)  # fmt: skip
def test_id_map(text: bytes, map_: IdMap) -> None:
    assert parse_id_map(text) == map_


@pytest.mark.parametrize("text", [b"0 0\n", b"0 0 0 0\n", b"a b c\n"])
def test_a_garbled_id_map_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid"):
        parse_id_map(text)
