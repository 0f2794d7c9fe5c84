"""``history``: what was repaired and undone on this host, from its journals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from permdoctor.config import Config
from permdoctor.diagnosis.proposal import Act, ChangedEntry, Past
from permdoctor.host.entries import to_inode
from permdoctor.kernel.mount import Mount
from permdoctor.repair.change import Mark
from permdoctor.repair.journal import Record
from permdoctor.repair.options import CannotRepairError
from permdoctor.repair.reach import PlannedDirs
from permdoctor.repair.store import Store

_PLAIN = Mount()
"""Journals hold host ids."""


def history(config: Config) -> tuple[Past, ...]:
    """The newest last.  Raises ``CannotRepairError`` where the journals may not be read."""
    records = _readable(Store(config.repair.state))
    known = {r.id: r for r in records}
    return tuple(_past(r, known) for r in sorted(records, key=_age))


def _readable(store: Store) -> tuple[Record, ...]:
    try:
        return store.records()
    except CannotRepairError as e:
        raise CannotRepairError(e.message, hint=e.hint or "run it as root") from e


def _age(record: Record) -> tuple[str, float]:
    """A damaged journal knows its second only by its id."""
    return record.id[:15], record.about.started


def one(config: Config, id_: str) -> Past:
    """Raises ``UsageError`` for an unknown id."""
    store = Store(config.repair.state)
    return _past(store.find(id_), {r.id: r for r in store.records()})


def is_undone(record: Record, known: Mapping[str, Record]) -> bool:
    """Whether an undo of it came to its end and was not undone itself.  ``known`` are by id."""
    chain = {record.id: record}
    while (by := known.get(record.undone_by)) is not None and by.id not in chain:
        chain[by.id] = record = by
    return len(chain) % 2 == 0


def entries(config: Config, id_: str) -> Iterator[ChangedEntry]:
    """Every entry of a repair: what it was, what it was to be, and what became of it."""
    store = Store(config.repair.state)
    with store.reading(store.find(id_)) as (reader, marks, asked):
        dirs = PlannedDirs(reader, asked)
        for block in reader.blocks:
            listed = reader.entries(block)
            known = marks.by_block.get(block.where, bytes(block.count))
            root = reader.roots[block.segment].path
            for i, (name, mark) in enumerate(zip(listed.names, known, strict=True)):
                found = reader.cls(block.segment, listed.cls(i))
                below = dirs.path(block.segment, block.dir, name)
                yield ChangedEntry(
                    path=root if below == b"." else root.rstrip(b"/") + b"/" + below,
                    before=to_inode(found.before, _PLAIN),
                    after=to_inode(found.after, _PLAIN),
                    mark=Mark(mark).name.lower().replace("_", "-") if mark else "",
                )


def _past(record: Record, known: Mapping[str, Record]) -> Past:
    about = record.about
    return Past(
        id=record.id,
        act=Act(about.kind),
        status=record.status.value,
        started=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(about.started))
        if about.started
        else "",
        container=about.container,
        remedies=about.remedies,
        roots=about.roots,
        command=about.command,
        host=about.host,
        of=about.of,
        undone_by=record.undone_by if is_undone(record, known) else "",
        paused=tuple(p.name for p in record.paused),
        summary=record.summary,
        outcome=record.outcome,
        damaged=record.damaged,
    )
