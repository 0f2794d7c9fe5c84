"""What a repair left on the disk: plans, plan files, marks and the journal's small files.

Damage as it comes is caught by checksums; so most inputs have a right one, as if a program had
written nonsense.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from permdoctor.diagnosis.plan import Outcome, Summary, TreePlan
from permdoctor.repair import carried, journal
from permdoctor.repair import files as small
from permdoctor.repair.journal import About, PausedContainer, Ready, Record
from permdoctor.repair.options import Asked
from permdoctor.repair.planfile import (
    MAGIC,
    NO_DIR,
    Class,
    Dir,
    Entries,
    Reader,
    Root,
    Type,
    Writer,
    entries_of,
)
from permdoctor.repair.state import State
from permdoctor.repair.store import Store
from tests.fuzz.mutate import TEXTS, bytes_of, tree_of
from tests.fuzz.oracle import fits, must
from tests.fuzz.run import Feed, Target, scratch, simple

BEFORE, AFTER = State(0, 0, stat.S_IFREG | 0o644), State(5, 6, stat.S_IFREG | 0o640, acl=b"\2")
_HEAD = struct.Struct("<IIBI")
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, -(2**63), 1.5, float("nan"), b"",
    b"\0", b"x" * 5000, [], {}, [[]], *(t for t in TEXTS if t.isprintable()),
)  # fmt: skip

Row = tuple[int, int, bytes]
"""Type, segment, payload."""


def _plan() -> bytes:
    fd = os.memfd_create("plan")
    try:
        os.write(fd, MAGIC)
        os.set_blocking(fd, True)
        for segment in (0, 1):
            writer = Writer(fd, segment)
            writer.root(Root(b"/srv/x", 2, (1, 2), "ext4"))
            writer.dir(Dir(0, 0, 0, b"", 2, (1, 2)))
            writer.dir(Dir(1, 0, 2, b"d/e", 3, (4, 5)))
            writer.cls(7, BEFORE, AFTER)
            writer.cls(8, AFTER, BEFORE)
            words = [(10 + i, 1, 2, 3, 4) for i in range(3)]
            writer.block(1, 2, False, entries_of([(7, w, b"n%d" % w[0]) for w in words]))
            writer.block(0, 0, True, entries_of([(7, words[0], b"p"), (8, words[1], b"q")]))
            writer.flush()
        writer.block(NO_DIR, -1, True, entries_of([(7, (2, 1, 2, 3, 4), b".")]))
        writer.end()
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


def _rows(plan: bytes) -> list[Row]:
    at, rows = len(MAGIC), []
    while at < len(plan):
        size, _, type_, segment = _HEAD.unpack_from(plan, at)
        at += _HEAD.size + size
        rows.append((type_, segment, plan[at - size : at]))
    return rows


def _written(rows: list[Row]) -> bytes:
    plan = MAGIC
    for type_, segment, payload in rows:
        data = struct.pack("<Q", len(plan)) if type_ == Type.END and payload else payload
        crc = zlib.crc32(data, type_ << 24 ^ segment)
        plan += _HEAD.pack(len(data), crc, type_, segment) + data
    return plan


PLAN = _plan()
ROWS = _rows(PLAN)
_DAMAGED_PLAN = bytes_of((PLAN,), (MAGIC, b"\xff\xff\xff\xff"))


def _payload(chance: Random, type_: int, payload: bytes) -> bytes:
    if type_ in (Type.ROOT, Type.DIR, Type.CLASS) and chance.random() < 0.7:
        with contextlib.suppress(*small.NO_MSGPACK, OverflowError, UnicodeEncodeError):
            tree = tree_of(chance, msgspec.msgpack.decode(payload), ODD)
            return msgspec.msgpack.encode(tree)
    return bytes_of((payload,), (b"\0", b"\xff\xff\xff\xff", b"\0" * 8))(chance)


def plan_of(chance: Random) -> bytes:
    if chance.random() < 0.1:
        return _DAMAGED_PLAN(chance)
    rows = list(ROWS)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(rows))
        type_, segment, payload = rows[at]
        match chance.randrange(6):
            case 0:
                rows.insert(chance.randrange(len(rows)), rows[at])
            case 1 if len(rows) > 1:
                del rows[at]
            case 2:
                rows[at] = (chance.choice((0, 1, 2, 3, 4, 5, 255)), segment, payload)
            case 3:
                rows[at] = (type_, chance.choice((0, 1, 2, 2**32 - 1)), payload)
            case _:
                rows[at] = (type_, segment, _payload(chance, type_, payload))
    return _written(rows)


def plan(data: bytes) -> None:
    fd = os.memfd_create("plan")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        _read(Reader(fd, "the plan"))
    finally:
        os.close(fd)


def _read(reader: Reader) -> None:
    """As far as each of it can be read; what is wrong with one must not hide the others."""
    must(reader.count >= 0, f"{reader.count} entries")
    for segment, root in reader.roots.items():
        fits(root, Root)
        for entry in reader.dirs(segment):
            fits(entry, Dir)
    for block in reader.blocks[:100]:
        with contextlib.suppress(small.CannotRepairError):
            entries = reader.entries(block)
            fits(entries, Entries)
            must(len(entries.names) == block.count, "names and entries do not agree")
            for i in range(min(block.count, 50)):
                must(len(entries.words(i)) == 5, "words are missing")
                with contextlib.suppress(small.CannotRepairError):
                    fits(reader.cls(block.segment, entries.cls(i)), Class)
        with contextlib.suppress(small.CannotRepairError):
            reader.dir(block.segment, block.dir)


# --- plan files ---

KEY = b"k" * 32
ABOUT = About(kind="repair", host="lab", started=1.5, roots=(b"/srv/x",), remedies=("chown",))
SUMMARY = Summary(trees=(TreePlan(path=b"/srv/x", entries=3, changes=()),))


def _head(**changed: Any) -> bytes:
    head = carried.Head(key=carried._fingerprint(KEY), about=ABOUT, summary=SUMMARY, asked=Asked())
    return msgspec.msgpack.encode(msgspec.structs.replace(head, **changed))


def _file(head: bytes, plan: bytes) -> bytes:
    signed = carried.MAGIC + struct.pack("<I", len(head)) + head + plan
    return signed + hmac.digest(KEY, signed, "sha256")


_DAMAGED_FILE = bytes_of((_file(_head(), PLAN),), (carried.MAGIC, b"\xff" * 4))


def plan_file_of(chance: Random) -> bytes:
    if chance.random() < 0.3:
        return _DAMAGED_FILE(chance)
    tree = tree_of(chance, msgspec.msgpack.decode(_head()), ODD)
    try:
        return _file(msgspec.msgpack.encode(tree), PLAN)
    except (msgspec.MsgspecError, OverflowError, UnicodeEncodeError):
        return _file(chance.randbytes(20), PLAN)


@contextlib.contextmanager
def plan_files() -> Iterator[Feed]:
    with scratch() as place:
        Path(place, "key").write_bytes(KEY)
        os.chmod(place, 0o700)
        file = Path(place, "plan")
        file.touch(0o600)
        store = Store(place)

        def feed(data: bytes) -> None:
            file.write_bytes(data)
            fits(carried.peek(str(file), store), carried.Head)

        yield feed


# --- small files ---

SMALL: tuple[tuple[str, Any, Any], ...] = (
    ("about", About, ABOUT),
    ("summary", Ready, Ready(summary=SUMMARY, asked=Asked())),
    ("outcome", Outcome, Outcome(planned=3, applied=2, stopped="x")),
    ("paused", tuple[PausedContainer, ...], (PausedContainer(engine="u", id="1", name="n"),)),
)


def small_of(chance: Random) -> bytes:
    """Which one, and its content with a right checksum."""
    n = chance.randrange(len(SMALL))
    data = msgspec.msgpack.encode(SMALL[n][2])
    with contextlib.suppress(msgspec.MsgspecError, OverflowError, UnicodeEncodeError):
        data = msgspec.msgpack.encode(tree_of(chance, msgspec.msgpack.decode(data), ODD))
    if chance.random() < 0.3:
        data = bytes_of((data,))(chance)
    crc = zlib.crc32(data) if chance.random() < 0.9 else 0
    return bytes([n]) + crc.to_bytes(4, "little") + data


@contextlib.contextmanager
def small_files() -> Iterator[Feed]:
    with scratch() as place:
        directory = Path(place, "journal", "20260101-000000-abcd")
        directory.mkdir(parents=True)
        for name, _, value in SMALL:
            small.store(str(directory), name, value)
        sound = {name: (directory / name).read_bytes() for name, _, _ in SMALL}
        store = Store(place)

        def feed(data: bytes) -> None:
            name, type_, _ = SMALL[data[0] % len(SMALL)]
            (directory / name).write_bytes(data[1:])
            try:
                for record in store.records():
                    fits(record, Record)
                fits(small.load(str(directory), name, type_), type_)
            finally:
                (directory / name).write_bytes(sound[name])

        yield feed


# --- marks ---

_MARK = struct.Struct("<IIII")


def _mark(block: int, marks: bytes, stamps: int) -> bytes:
    data = marks + b"\1" * (20 * stamps)
    return _MARK.pack(block + 1, len(marks), stamps, zlib.crc32(data, block)) + data


MARKS = (_mark(0, b"\1\2\3", 1) + _mark(1, b"\1", 0) + b"\0" * 64, _mark(2**32 - 2, b"", 2))


@contextlib.contextmanager
def marks() -> Iterator[Feed]:
    with scratch() as place:

        def feed(data: bytes) -> None:
            Path(place, "marks").write_bytes(data)
            found = journal.read_marks(place)
            fits(found, journal.Marks)
            must(sum(map(len, found.by_block.values())) <= len(data), "more marks than bytes")

        yield feed


TARGETS = (
    Target(name="plan", make=plan_of, open=simple(plan)),
    Target(name="plan-file", make=plan_file_of, open=plan_files),
    Target(name="journal", make=small_of, open=small_files),
    Target(
        name="marks",
        make=bytes_of(MARKS, (b"\xff\xff\xff\xff", b"\0" * 16, _mark(5, b"\1" * 9, 0))),
        open=marks,
        errors=(),
    ),
)
