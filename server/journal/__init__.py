"""The journal: the log of all that comes in, durable before it is acknowledged."""

from __future__ import annotations

from ostinato.server.journal.errors import (
    JournalBusyError,
    JournalClosedError,
    JournalDamagedError,
    JournalError,
    JournalFailedError,
    JournalFullError,
    JournalLockedError,
    JournalTrimmedError,
)
from ostinato.server.journal.format import Entry, Kind
from ostinato.server.journal.options import JournalOptions
from ostinato.server.journal.reader import JournalReader
from ostinato.server.journal.writer import Appended, Journal, JournalStatus

__all__ = [
    "Appended",
    "Entry",
    "Journal",
    "JournalBusyError",
    "JournalClosedError",
    "JournalDamagedError",
    "JournalError",
    "JournalFailedError",
    "JournalFullError",
    "JournalLockedError",
    "JournalOptions",
    "JournalReader",
    "JournalStatus",
    "JournalTrimmedError",
    "Kind",
]
