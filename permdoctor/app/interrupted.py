"""Repairs whose process was killed: found by the next command, told, their containers resumed.

What is half done stays so until somebody undoes it: every entry is either as it was or as it was
to be, or on the way of a few system calls between, and the journal knows which.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from permdoctor.app.engines import connected
from permdoctor.app.pausing import Standstill, resume
from permdoctor.diagnosis.report import Skipped
from permdoctor.errors import PermdoctorError
from permdoctor.kernel.text import printable
from permdoctor.repair.journal import Record, Status
from permdoctor.repair.store import Store


class Told(Struct, frozen=True, kw_only=True):
    """A message for a person: a line and a hint."""

    message: str
    hint: str | None = None


def take_care(state: str) -> Iterator[Told]:
    """Resume what is paused since, once; a container that cannot be resumed is told again."""
    store = Store(state)
    for record in store.interrupted():
        store.notice(record.id)
        still = _resume(record)
        if not still.stuck:
            store.mark_interrupted(record.id)
        yield _told(record, still)


def _resume(record: Record) -> Standstill:
    """Only those that the journal names; one that runs is left alone by the engine itself."""
    still = Standstill()
    for endpoint in dict.fromkeys(p.engine for p in record.paused):
        mine = [p for p in record.paused if p.engine == endpoint]
        try:
            with connected((endpoint,), ()) as engines:
                for each in mine:
                    resume(engines[0], each.id, each.name, still)
        except PermdoctorError as e:
            still.stuck += [
                Skipped(
                    what=printable(p.name), reason=e.message, hint=f"docker unpause {p.id[:12]}"
                )
                for p in mine
            ]
    return still


def _told(record: Record, still: Standstill) -> Told:
    kind = record.about.kind
    roots = ", ".join(printable(r) for r in record.about.roots)
    parts = [f"{kind} {record.id} of {roots} was interrupted"]
    if still.resumed:
        parts.append(f"resumed {', '.join(printable(n) for n in still.resumed)}")
    parts += [f"{s.what} is STILL PAUSED: {s.reason} ({s.hint})" for s in still.stuck]
    if record.status is Status.PLANNED:
        return Told(message="; ".join(parts), hint="nothing had been changed yet")
    id_ = record.about.of if kind == "undo" else record.id
    again = "goes on with it" if kind == "undo" else "takes back what it did"
    return Told(message="; ".join(parts), hint=f"permdoctor undo {id_} {again}")
