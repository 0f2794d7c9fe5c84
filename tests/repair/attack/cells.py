"""What the processes of a run share: a page of numbers."""

from __future__ import annotations

import mmap

_GO, _STOP, _TICKET, _ACK, _BUSY, _ROUNDS, _EXPECT, _ESCAPES, _STRAYS, _WANT = range(10)


def _cell(index: int) -> property:
    def get(self: Cells) -> int:
        return int(self._view[index])

    def put(self: Cells, value: int) -> None:
        self._view[index] = value

    return property(get, put)


class Cells:
    """``go``: attack.  ``ticket`` and ``ack``: parked attackers have acknowledged the ticket, after
    they settled and judged.  ``busy``: a repair is under way, so rounds count.  ``expect`` and
    ``want``: the uid from which, and the one to which, the repair changes now.
    """

    def __init__(self) -> None:
        self._view = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    go = _cell(_GO)
    stop = _cell(_STOP)
    ticket = _cell(_TICKET)
    ack = _cell(_ACK)
    busy = _cell(_BUSY)
    rounds = _cell(_ROUNDS)
    expect = _cell(_EXPECT)
    escapes = _cell(_ESCAPES)
    strays = _cell(_STRAYS)
    want = _cell(_WANT)
