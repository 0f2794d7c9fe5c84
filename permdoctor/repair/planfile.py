"""A plan on the disk: framed records, written once, read many times.

Each record is a length, a CRC-32, a type and the number of the *segment* that it belongs to, then
its payload.  A segment is what one worker wrote; numbers of directories and classes hold within
it.  Two workers append to one file (``O_APPEND``: the kernel puts each write in one piece), so
segments lie interleaved.  The END record says how long the file was before it: what has none, or
another length, is no plan.

A block of entries lies there by column: classes (one number if all are of one), ino, btime and
ctime (s, ns) as struct statx has them in 8 bytes each, then the names, divided by NUL.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from enum import IntEnum

import msgspec
from msgspec import Struct

from permdoctor.repair.files import NO_MSGPACK
from permdoctor.repair.options import CannotRepairError
from permdoctor.repair.state import State

MAGIC = b"permdoctor plan 1\n"
NO_DIR = 0xFFFFFFFF
"""The directory of a root: it is reached by its path."""

_HEAD = struct.Struct("<IIBI")
_BLOCK = struct.Struct("<IIBI")
_WORD = struct.Struct("=Q")
_NUMBER = struct.Struct("=I")
_COLUMNS = 5
_DIRS, _ALIKE = 1, 2
_FLUSH = 1 << 16
_LARGEST = 1 << 26


class Type(IntEnum):
    """What a record is."""

    ROOT = 1
    DIR = 2
    CLASS = 3
    BLOCK = 4
    END = 5


class Root(Struct, frozen=True):
    """The root of a segment, by its resolved path on the host."""

    path: bytes
    ino: int
    btime: tuple[int, int]
    fstype: str


class Dir(Struct, frozen=True, array_like=True):
    """A directory: numbered from 0, which is the root itself.  ``name`` may have several parts.

    ``depth`` counts from the root.
    """

    number: int
    parent: int
    depth: int
    name: bytes
    ino: int
    btime: tuple[int, int]


class Class(Struct, frozen=True, array_like=True):
    """Entries of one state, and the state they are to have."""

    number: int
    before: State
    after: State

    @property
    def xattrs(self) -> bool:
        """Whether there is more to it than owner and mode."""
        a, b = self.before, self.after
        return any(x is not None for x in (a.acl, a.default, a.caps, b.acl, b.default, b.caps))


class Block(Struct, frozen=True):
    """Entries of one directory.  ``where`` is its position among the blocks; ``depth`` is the
    directory's (-1: the entry is the root itself), ``dirs`` whether the entries are directories,
    ``alike`` whether all are of one class.
    """

    where: int
    segment: int
    dir: int
    depth: int
    dirs: bool
    alike: bool
    count: int
    offset: int
    size: int


class Entries(Struct, frozen=True):
    """The entries of a block, by column.  ``classes`` has one number if all are of one class."""

    classes: tuple[int, ...]
    columns: tuple[bytes, ...]
    names: tuple[bytes, ...]

    def cls(self, i: int) -> int:
        return self.classes[i if len(self.classes) > 1 else 0]

    def words(self, i: int) -> tuple[int, ...]:
        """ino, btime (s, ns), ctime (s, ns) of one entry."""
        return tuple(_WORD.unpack_from(c, 8 * i)[0] for c in self.columns)

    def part(self, begin: int, end: int) -> Entries:
        classes = self.classes[begin:end] if len(self.classes) > 1 else self.classes
        columns = tuple(c[8 * begin : 8 * end] for c in self.columns)
        return Entries(classes, columns, self.names[begin:end])


def entries_of(rows: Sequence[tuple[int, Sequence[int], bytes]]) -> Entries:
    """Of (class, words, name), one by one."""
    classes = tuple(r[0] for r in rows)
    columns = tuple(b"".join(_WORD.pack(r[1][c]) for r in rows) for c in range(_COLUMNS))
    alike = len(set(classes)) == 1
    return Entries(classes[:1] if alike else classes, columns, tuple(r[2] for r in rows))


class Damaged(CannotRepairError):  # noqa: N818 - it is a state of the file
    """The file is no plan, or was changed since it was written."""


class Writer:
    """Appends the records of one segment.  Raises ``CannotRepairError`` where the disk is full."""

    def __init__(self, fd: int, segment: int) -> None:
        self.segment = segment
        self._fd = fd
        self._pending: list[bytes] = []
        self._length = 0

    def put(self, type_: Type, payload: bytes) -> None:
        crc = zlib.crc32(payload, type_ << 24 ^ self.segment)
        self._pending += _HEAD.pack(len(payload), crc, type_, self.segment), payload
        self._length += _HEAD.size + len(payload)
        if self._length >= _FLUSH:
            self.flush()

    def root(self, root: Root) -> None:
        self.put(Type.ROOT, msgspec.msgpack.encode(root))

    def dir(self, entry: Dir) -> None:
        self.put(Type.DIR, msgspec.msgpack.encode(entry))

    def cls(self, number: int, before: State, after: State) -> None:
        self.put(
            Type.CLASS, msgspec.msgpack.encode(Class(number=number, before=before, after=after))
        )

    def block(self, dir_: int, depth: int, dirs: bool, entries: Entries) -> None:
        flags = _DIRS * dirs | _ALIKE * (len(entries.classes) == 1)
        head = _BLOCK.pack(dir_, depth + 1, flags, len(entries.names))
        classes = b"".join(map(_NUMBER.pack, entries.classes))
        names = b"\0".join(entries.names)
        self.put(Type.BLOCK, b"".join((head, classes, *entries.columns, names)))

    def end(self) -> None:
        """Closes the plan; all other writers have flushed.  Its length so far goes with it."""
        self.flush()
        self.put(Type.END, struct.pack("<Q", os.fstat(self._fd).st_size))
        self.flush()

    def flush(self) -> None:
        """One write: what stands in it stays together."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._length = 0
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as e:
            raise CannotRepairError(
                f"cannot write the plan: {e.strerror}", hint="nothing was changed"
            ) from None


class Reader:
    """A complete plan.  Raises ``Damaged`` when it is none; nothing of it is used then."""

    def __init__(self, fd: int, shown: str) -> None:
        self._fd = fd
        self._shown = shown
        self.roots: dict[int, Root] = {}
        self.blocks: list[Block] = []
        self._classes: dict[tuple[int, int], Class] = {}
        self._dirs: dict[int, array[int]] = {}
        """Per segment, the offset of each directory's payload, by number; 0 where there is none.

        Payloads are read when they are asked for: there may be a million.
        """
        self._index()

    @property
    def count(self) -> int:
        """Entries to be changed."""
        return sum(b.count for b in self.blocks)

    def root(self, segment: int) -> Root:
        """The root of a segment; the second worker's is that of the first."""
        found = self.roots.get(segment)
        if found is None:
            raise self._damaged(f"root {segment} is missing")
        return found

    def cls(self, segment: int, number: int) -> Class:
        found = self._classes.get((segment, number))
        if found is None:
            raise self._damaged(f"class {number} is missing")
        return found

    def dir(self, segment: int, number: int) -> Dir:
        offsets = self._dirs.get(segment)
        offset = offsets[number] if offsets is not None and number < len(offsets) else 0
        if not offset:
            raise self._damaged(f"directory {number} is missing")
        (size,) = struct.unpack("<I", os.pread(self._fd, 4, offset - _HEAD.size))
        return msgspec.msgpack.decode(os.pread(self._fd, size, offset), type=Dir)

    def dirs(self, segment: int) -> Iterator[Dir]:
        """All directories of a segment, parents first."""
        for number, offset in enumerate(self._dirs.get(segment, ())):
            if offset:
                yield self.dir(segment, number)

    def entries(self, block: Block) -> Entries:
        """Raises ``Damaged``."""
        data = os.pread(self._fd, block.size, block.offset)
        classes = 1 if block.alike else block.count
        at = _BLOCK.size + classes * _NUMBER.size
        size = _WORD.size * block.count
        columns = tuple(data[at + i * size : at + (i + 1) * size] for i in range(_COLUMNS))
        names = tuple(data[at + _COLUMNS * size :].split(b"\0"))
        if len(names) != block.count or len(columns[-1]) != size:
            raise self._damaged("names and entries do not agree")
        numbers = struct.unpack_from(f"={classes}I", data, _BLOCK.size)
        return Entries(numbers, columns, names)

    def _damaged(self, why: str) -> Damaged:
        return Damaged(f"{self._shown} is damaged: {why}", hint="nothing was done with it")

    def _index(self) -> None:
        """One pass over the whole file: every checksum, and where everything lies."""
        ended = False
        for type_, segment, offset, payload in self._records():
            if ended:
                raise self._damaged("records after its end")
            try:
                ended = self._take(type_, segment, offset, payload)
            except (*NO_MSGPACK, struct.error, OverflowError) as e:
                raise self._damaged(f"the record at byte {offset}: {e}") from None
        if not ended:
            raise self._damaged("it has no end")

    def _take(self, type_: int, segment: int, offset: int, payload: bytes) -> bool:
        match type_:
            case Type.ROOT:
                self.roots[segment] = msgspec.msgpack.decode(payload, type=Root)
            case Type.DIR:
                number = msgspec.msgpack.decode(payload, type=Dir).number
                offsets = self._dirs.setdefault(segment, array("Q"))
                if not len(offsets) <= number <= len(offsets) + (1 << 20):
                    raise self._damaged("directories out of order")
                offsets.extend([0] * (number - len(offsets)) + [offset])
            case Type.CLASS:
                found = msgspec.msgpack.decode(payload, type=Class)
                self._classes[segment, found.number] = found
            case Type.BLOCK:
                dir_, depth, flags, count = _BLOCK.unpack_from(payload)
                self.blocks.append(
                    Block(
                        len(self.blocks),
                        segment,
                        dir_,
                        depth - 1,
                        bool(flags & _DIRS),
                        bool(flags & _ALIKE),
                        count,
                        offset,
                        len(payload),
                    )
                )
            case Type.END:
                if struct.unpack("<Q", payload)[0] != offset - _HEAD.size:
                    raise self._damaged("records are missing")
                return True
            case _:
                raise self._damaged(f"a record of type {type_}")
        return False

    def _records(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, segment, offset of the payload, payload)."""
        if os.pread(self._fd, len(MAGIC), 0) != MAGIC:
            raise Damaged(
                f"{self._shown} is no plan of permdoctor", hint="nothing was done with it"
            )
        at = len(MAGIC)
        with open(os.dup(self._fd), "rb", buffering=1 << 20) as file:
            file.seek(at)
            while head := file.read(_HEAD.size):
                if len(head) < _HEAD.size:
                    raise self._damaged("it was cut off")
                size, crc, type_, segment = _HEAD.unpack(head)
                payload = file.read(size) if size <= _LARGEST else b""
                if len(payload) != size:
                    raise self._damaged("it was cut off")
                if zlib.crc32(payload, type_ << 24 ^ segment) != crc:
                    raise self._damaged(f"a checksum at byte {at} is wrong")
                yield type_, segment, at + _HEAD.size, payload
                at += _HEAD.size + size
