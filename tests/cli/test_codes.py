"""The catalogue and its pages: complete, in order, and fit for a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from permdoctor.cli.codes import page
from permdoctor.diagnosis.codes import CODES, Code
from permdoctor.diagnosis.report import Severity

DIAGNOSIS = Path(__file__).parent.parent.parent / "permdoctor" / "diagnosis"
PREFIXES = {"1": Severity.ERROR, "2": Severity.WARNING, "3": Severity.INFO, "4": Severity.WARNING}
FORBIDDEN = re.compile(r"^ {4,}.*(chmod (-R )?[0-7]?777|--privileged|user: \"0\"|-R 777)", re.M)


def test_every_code_that_is_used_is_in_the_catalogue() -> None:
    sources = [p for p in DIAGNOSIS.glob("*.py") if p.name != "codes.py"]
    used = {c for p in sources for c in re.findall(r"PD\d{3}", p.read_text("utf-8"))}
    assert used - set(CODES) == set()


def test_every_page_belongs_to_a_code() -> None:
    assert {p.stem for p in (DIAGNOSIS / "pages").iterdir()} == set(CODES)


def test_codes_are_in_order_and_names_unique() -> None:
    assert list(CODES) == sorted(CODES)
    assert len({c.name for c in CODES.values()}) == len(CODES)


@pytest.mark.parametrize("code", CODES.values(), ids=lambda c: str(c.code))
def test_a_page(code: Code) -> None:
    text = page(code)
    lines = text.splitlines()
    assert code.severity is PREFIXES[code.code[2]]
    assert lines[0] == f"# {code.code} {code.name} ({code.severity.name.lower()})"
    assert lines[2] == f"*{code.title}.*"
    assert "## How it looks" in lines
    assert "## What not to do" in lines
    assert any(h.startswith("## What helps") for h in lines)
    assert 25 <= len(lines) <= 50
    assert max(len(each) for each in lines) <= 102
    assert text.isascii()
    assert set(re.findall(r"PD\d{3}", text)) <= set(CODES)


@pytest.mark.parametrize("code", CODES.values(), ids=lambda c: str(c.code))
def test_no_page_has_a_command_that_opens_everything(code: Code) -> None:
    assert FORBIDDEN.search(page(code)) is None
