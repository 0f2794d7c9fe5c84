"""The outbox's sqlite3 file: bytes of it damaged, or values that nobody wrote."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

from permdoctor.alerts.alert import Alert
from permdoctor.alerts.delivery import as_text
from permdoctor.alerts.document import alert_json
from permdoctor.alerts.outbox import Outbox
from permdoctor.alerts.sink import RetryError
from tests.alerts.build import STARTED, Taker, alert, resolved
from tests.fuzz.mutate import ODD, bytes_of, json_of
from tests.fuzz.oracle import fits, must
from tests.fuzz.run import Feed, Target, scratch

COLUMNS = {
    "alert": ("episode", "fingerprint", "severity", "revision", "text", "resolved"),
    "delivery": (
        "sink", "alert", "fingerprint", "status", "revision", "text", "told", "state", "attempts",
    ),
}  # fmt: skip
FILE, VALUES = b"F", b"V"


def nobody(level: str, event: str, fields: object) -> None:
    pass


def _file() -> bytes:
    """What fires and was told, what is over, and what waits."""
    with scratch() as place:
        path = Path(place, "o")
        taker = Taker(failures=[None, None, None, RetryError("away")])
        outbox = Outbox(str(path), (taker, Taker("other")), host="lab", log=nobody)
        for n in range(5):
            outbox.tell(alert(n))
        outbox.tell(resolved(alert(1)))
        for _ in range(4):
            outbox._couriers["taker"].step(0.0, STARTED)
        outbox.close(0.0)
        return path.read_bytes()


SOUND = _file()
_DAMAGED = bytes_of((SOUND,), (b"alert", b"delivery", b"firing", b"\0" * 64, b"\xff" * 64))
_TEXT = json_of((as_text(alert()).encode(), as_text(resolved(alert())).encode()))


def file_of(chance: Random) -> bytes:
    """A file, or what is to be written into a sound one."""
    if chance.random() < 0.4:
        return FILE + _DAMAGED(chance)[: 1 << 17]
    edits = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        table = chance.choice(list(COLUMNS))
        column = chance.choice(COLUMNS[table])
        value = chance.choice(ODD)
        if column == "text" and chance.random() < 0.7:
            value = _TEXT(chance).decode("utf-8", "replace")
        edits.append((table, column, value, chance.randrange(6)))
    return VALUES + json.dumps(edits).encode()


def _write(path: Path, data: bytes) -> None:
    for old in path.parent.iterdir():
        old.unlink()
    path.write_bytes(SOUND if data[:1] == VALUES else data[1:])
    if data[:1] != VALUES:
        return
    with contextlib.closing(sqlite3.connect(path)) as db:
        for table, column, value, n in json.loads(data[1:]):
            with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                plain = json.dumps(value) if isinstance(value, list | dict) else value
                db.execute(f"UPDATE {table} SET {column} = ? WHERE n = ?", (plain, n))
        db.commit()


@contextlib.contextmanager
def outbox() -> Iterator[Feed]:
    with scratch() as place:
        path = Path(place, "o")

        def feed(data: bytes) -> None:
            _write(path, data)
            taker = Taker()
            box = Outbox(str(path), (taker,), host="lab", log=nobody)
            try:
                _use(box, taker)
            finally:
                box.close(0.0)

        yield feed


def _fit(alerts: tuple[Alert, ...]) -> None:
    """But for surrogates, which ``delivery.py`` keeps."""
    with contextlib.suppress(UnicodeEncodeError):
        fits(alerts, tuple[Alert, ...])


def _use(box: Outbox, taker: Taker) -> None:
    """Once it is open it works."""
    must(all(n >= 0 for n in box.waiting().values()), f"waiting {box.waiting()}")
    _fit(box.firing())
    courier = box._couriers["taker"]
    for _ in range(6):
        courier.step(0.0, STARTED)
    box.tell(alert(9))
    box.tell(resolved(alert(2)))
    courier.step(0.0, STARTED)
    _fit(tuple(taker.taken))
    for each in taker.taken:
        must(alert_json(each).isascii(), "an alert that cannot be told")


TARGETS = (Target(name="outbox", make=file_of, open=outbox, seconds=0.5),)
