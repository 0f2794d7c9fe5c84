"""The one base error.  Every error a person can meet has a message, a hint and an exit status.

The exit statuses are the documented ones: 2 usage or configuration, 3 could not check.
"""

from __future__ import annotations


class PermdoctorError(Exception):
    """Something that stops the work, said in one line.

    ``message`` names what, where and why; ``hint`` says what to do about it.
    """

    exit_status = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def lines(self) -> tuple[tuple[str, str | None], ...]:
        """What to show: usually its one message with its hint."""
        return ((self.message, self.hint),)


class UsageError(PermdoctorError):
    """What was asked for does not make sense: a wrong name, option or configuration."""

    exit_status = 2


class NotThereError(UsageError):
    """What was asked for by its name is not there, or not any more."""


class CannotCheckError(PermdoctorError):
    """The question was right, but the machine or the engine does not answer it."""

    exit_status = 3
