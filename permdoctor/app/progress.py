"""How a use case says how far it is.  The bar itself belongs to ``cli/``."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told about long work.  Calls are cheap and may come as often as the worker likes."""

    def update(self, what: str, done: int) -> None:
        """``done`` entries of ``what`` are read; ``what`` is text that is safe to show.

        Another ``what`` begins another piece of work; the total is never known beforehand.
        """
