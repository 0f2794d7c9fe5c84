"""The progress bar: on a terminal's stderr only, and only for what takes long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PATIENCE_SECONDS = 0.5
"""A check that is done by then shows no bar, and never imports rich for it."""


class ProgressBar:
    """An ``app.progress.Progress`` for people.  A context manager; silent off a terminal.

    ``total`` is how many entries there are, where that is known beforehand.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._visible = sys.stderr is not None and sys.stderr.isatty()
        self._begun = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, what: str, done: int) -> None:
        """``app.progress.Progress.update``."""
        if not self._visible or time.monotonic() - self._begun < PATIENCE_SECONDS:
            return
        if self._bar is None:
            self._bar = _new_bar()
            self._bar.start()
        if self._task is None or what != self._what:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task("", total=self._total, what=what)
            self._what = what
        self._bar.update(self._task, completed=done)


def _new_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeElapsedColumn
    from rich.text import Text

    class What(ProgressColumn):
        """The name and the number; a name is text and never markup."""

        def render(self, task: Task) -> Text:
            of = "" if task.total is None else f" of {int(task.total):,}"
            return Text(f"{task.fields['what']}: {int(task.completed):,}{of} entries")

    return Progress(
        What(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
