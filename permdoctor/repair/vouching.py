"""Whether a file may be made set-id again, or get its capabilities back: only if nobody but us
changed it since it lost them.

Whoever owns it meanwhile may have written to it, so its change time has to be the one that our own
change gave it.  That is on record (a stamp), but for what was under way when a run was cut off:
there the change has to be of that moment, and from before anybody who stood still went on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from msgspec import Struct

from permdoctor.repair.change import Mark
from permdoctor.repair.journal import Marks, Record
from permdoctor.repair.options import CannotRepairError
from permdoctor.repair.planfile import Block, Reader
from permdoctor.repair.state import loses
from permdoctor.repair.store import Store
from permdoctor.repair.syscalls import Row

Place = tuple[int, int, bytes]
"""An entry by its segment, directory and name: an undo's plan has those of the plan it undoes."""


class Cut(Struct, frozen=True):
    """A run that was cut off: what it did between ``begin`` and ``end`` (ns since the epoch) has no
    mark.  ``giving`` are the unmarked entries to which an undo was to give their bits back; of the
    repair itself (``None``) those without a mark are meant.
    """

    begin: int
    end: int
    giving: frozenset[Place] | None = None


def cuts(store: Store, of: Record) -> tuple[Cut, ...]:
    """Of a repair, and of what was begun to undo it."""
    found = []
    if (span := store.cut_off(of)) is not None:
        found.append(Cut(*span))
    for undo in store.undos(of):
        span = store.cut_off(undo)
        if span is None:
            continue
        with contextlib.suppress(CannotRepairError), store.reading(undo) as (reader, marks, _):
            found.append(Cut(*span, frozenset(_giving(reader, marks))))
    return tuple(found)


def _giving(reader: Reader, marks: Marks) -> Iterator[Place]:
    for block in reader.blocks:
        known = marks.by_block.get(block.where, bytes(block.count))
        if all(known):
            continue
        entries = reader.entries(block)
        for i, (name, mark) in enumerate(zip(entries.names, known, strict=True)):
            cls = reader.cls(block.segment, entries.cls(i))
            if not mark and loses(cls.after, cls.before):
                yield (block.segment, block.dir, name)


def untouched(
    marks: Marks, cut_off: tuple[Cut, ...], block: Block, i: int, name: bytes, row: Row
) -> bool:
    """Whether nobody but us changed this entry since we took its bits."""
    mark = marks.by_block.get(block.where, bytes(block.count))[i]
    if mark == Mark.APPLIED and marks.stamps.get((block.where, i)) == row[6:]:
        return True
    if mark not in (0, Mark.APPLIED):
        return False
    changed = row[6] * 1_000_000_000 + (row[7] or 999_999_999)  # whole seconds: at the latest
    place = (block.segment, block.dir, name)
    return any(
        c.begin < changed < c.end and (not mark if c.giving is None else place in c.giving)
        for c in cut_off
    )
