"""What can go wrong with the journal."""

from __future__ import annotations


class JournalError(Exception):
    """The root of all that the journal raises."""


class JournalLockedError(JournalError):
    """Another process has the journal."""


class JournalDamagedError(JournalError):
    """Bytes that were durable are not what was written. The message names the file and the place."""


class JournalTrimmedError(JournalError):
    """What is asked for is not held any more. `first` is the first position that is."""

    def __init__(self, message: str, first: int) -> None:
        super().__init__(message)
        self.first = first


class JournalBusyError(JournalError):
    """More is waiting to be written than the journal holds in memory; try again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class JournalFullError(JournalError):
    """The disk is full. Nothing of the append is kept; it may be tried again once there is room."""


class JournalFailedError(JournalError):
    """The disk failed; the journal takes nothing more until it is opened again."""


class JournalClosedError(JournalError):
    """The journal is closed."""
