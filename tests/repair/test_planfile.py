"""A plan on the disk: what was written is read, and nothing else is taken for a plan."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.repair.planfile import (
    MAGIC,
    NO_DIR,
    Damaged,
    Dir,
    Reader,
    Root,
    Writer,
    entries_of,
)
from permdoctor.repair.state import State

BEFORE, AFTER = State(0, 0, stat.S_IFREG | 0o644), State(5, 6, stat.S_IFREG | 0o644)
NAMES = (b"a", b"new\nline", b"\xff\xfe", b"x" * 255)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan"
    path.write_bytes(MAGIC)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for segment in (0, 1):
        writer = Writer(fd, segment)
        writer.root(Root(b"/srv/x", 2, (1, 2), "ext4"))
        writer.dir(Dir(0, 0, 0, b"", 2, (1, 2)))
        writer.dir(Dir(1, 0, 2, b"d/e", 3, (4, 5)))
        writer.cls(7, BEFORE, AFTER)
        writer.cls(8, AFTER, BEFORE)
        words = [(10 + i, 1, 2, 3, 4) for i in range(len(NAMES))]
        alike = entries_of([(7, w, n) for w, n in zip(words, NAMES, strict=True)])
        writer.block(1, 2, False, alike)
        writer.block(0, 0, True, entries_of([(7, words[0], b"p"), (8, words[1], b"q")]))
        writer.flush()
    writer = Writer(fd, 0)
    writer.block(NO_DIR, -1, True, entries_of([(7, (2, 1, 2, 3, 4), b".")]))
    writer.end()
    os.close(fd)
    return path


@pytest.fixture
def opened(plan: Path) -> Iterator[int]:
    fd = os.open(plan, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_what_was_written_is_read(opened: int) -> None:
    reader = Reader(opened, "the plan")
    assert reader.count == 2 * (len(NAMES) + 2) + 1
    files, dirs = reader.blocks[0], reader.blocks[1]
    assert (files.segment, files.dir, files.depth, files.dirs, files.alike) == (
        0,
        1,
        2,
        False,
        True,
    )
    found = reader.entries(files)
    assert found.names == NAMES
    assert found.words(2) == (12, 1, 2, 3, 4)
    assert reader.cls(0, found.cls(3)).after == AFTER
    assert [reader.entries(dirs).cls(i) for i in (0, 1)] == [7, 8]
    assert reader.entries(files).part(1, 3).names == NAMES[1:3]
    assert reader.entries(files).part(1, 3).words(0) == (11, 1, 2, 3, 4)
    assert reader.dir(1, 1).name == b"d/e"
    assert [d.number for d in reader.dirs(0)] == [0, 1]
    assert reader.blocks[-1].dir == NO_DIR
    assert reader.blocks[-1].depth == -1


def test_every_changed_byte_is_noticed(plan: Path) -> None:
    whole = plan.read_bytes()
    for at in range(0, len(whole), 7):
        plan.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        fd = os.open(plan, os.O_RDONLY)
        with pytest.raises(Damaged):
            Reader(fd, "the plan")
        os.close(fd)


def test_a_plan_without_its_end_is_none(plan: Path) -> None:
    whole = plan.read_bytes()
    for cut in (0, 5, len(MAGIC), len(MAGIC) + 3, len(whole) // 2, len(whole) - 1):
        plan.write_bytes(whole[:cut])
        fd = os.open(plan, os.O_RDONLY)
        with pytest.raises(Damaged):
            Reader(fd, "the plan")
        os.close(fd)


def test_a_record_too_many_or_too_few_is_noticed(plan: Path) -> None:
    whole = plan.read_bytes()
    with open(plan, "ab") as f:
        f.write(whole[len(MAGIC) : len(MAGIC) + 60])
    fd = os.open(plan, os.O_RDONLY)
    with pytest.raises(Damaged):
        Reader(fd, "the plan")
    os.close(fd)


def test_a_class_or_directory_that_is_not_there(opened: int) -> None:
    reader = Reader(opened, "the plan")
    with pytest.raises(Damaged, match="class 99 is missing"):
        reader.cls(0, 99)
    with pytest.raises(Damaged, match="directory 5 is missing"):
        reader.dir(0, 5)
