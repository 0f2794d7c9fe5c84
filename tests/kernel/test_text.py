"""Names from strangers: shown without control characters, and without ambiguity."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from permdoctor.kernel.text import clean, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"model.bin", "model.bin"),
        ("größe".encode(), "größe"),
        ("模型".encode(), "模型"),
        (b"a b", "a b"),
        (b"a\nb", "a\\x0ab"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"\x7f", "\\x7f"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"back\\slash", "back\\\\slash"),
        (b"\\x1b", "\\\\x1b"),
        pytest.param("\u0085".encode(), "\\xc2\\x85", id="C1 control"),
        pytest.param("\u202egnp.exe".encode(), "\\u202egnp.exe", id="right-to-left override"),
        pytest.param("a\u200bb".encode(), "a\\u200bb", id="zero width"),
        pytest.param("\u2028".encode(), "\\u2028", id="line separator"),
        pytest.param("\U000e0041".encode(), "\\U000e0041", id="tag character"),
        pytest.param("caf\udce9", "caf\\xe9", id="str from os.fsdecode"),
        pytest.param("\ud800", "\\ud800", id="lone surrogate"),
        (b"", ""),
    ],
)
def test_printable(name: bytes | str, shown: str) -> None:
    assert printable(name) == shown


_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def _back(shown: str) -> bytes:
    """The name that is shown so."""

    def one(m: re.Match[str]) -> str:
        code = m[1]
        if code == "\\":
            return "\\"
        number = int(code[1:], 16)
        if code[0] == "x":
            return bytes([number]).decode("utf-8", "surrogateescape")
        return chr(number)

    return _ESCAPE.sub(one, shown).encode("utf-8", "surrogateescape")


@given(st.binary())
@example("\u0085\u202e\\".encode())
@example(b"\\u202e")
def test_every_name_is_shown_in_its_own_way(name: bytes) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert _back(shown) == name


@given(st.text())
def test_text_is_shown_printable(name: str) -> None:
    assert printable(name).isprintable()
    printable(name).encode()


@given(st.text())
@example("\x1b]0;x\x07\u202e\n")
def test_clean_is_idempotent_and_keeps_lines(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert cleaned.replace("\n", "").isprintable()
    assert cleaned.count("\n") == text.count("\n")


def test_clean_leaves_backslashes() -> None:
    assert clean("C:\\x\x1b") == "C:\\x\\x1b"
