"""The clock in the journal: where nothing comes in, a record says from time to time that time has gone on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from ostinato.server.catalog.definitions import Body
from ostinato.server.changes.texts import stream_in
from ostinato.server.journal import Journal, JournalError

_TICK_SECONDS: Final = 0.5
"""What waits for time to pass, and nothing comes, waits so much longer at most."""
_LULL_SECONDS: Final = 0.02
"""In a stream with processing time an event waits for the next millisecond. Where no event brings it, the clock does
after so long, once."""


class Ticks:
    """Writes ticks while some pattern runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._runs = False
        self._look_seconds = _TICK_SECONDS

    def use(self, body: Body) -> None:
        """These patterns run from now on."""
        generation = body.generation
        self._runs = bool(generation.members)
        by_clock = any(stream_in(text).time.mode == "processing" for text in generation.streams)
        self._look_seconds = _LULL_SECONDS if by_clock else _TICK_SECONDS

    async def run(self) -> None:
        """Until cancelled."""
        journal = self._journal
        seen = told = journal.durable
        told_at = time.monotonic()
        while True:
            await asyncio.sleep(self._look_seconds)
            is_quiet = journal.durable == seen
            is_due = seen != told or time.monotonic() - told_at >= _TICK_SECONDS
            if self._runs and is_quiet and is_due:
                # where the disk is full it is tried again when the next one is due
                with contextlib.suppress(JournalError):
                    await asyncio.wrap_future(journal.tick())
                told, told_at = journal.durable, time.monotonic()
            seen = journal.durable
