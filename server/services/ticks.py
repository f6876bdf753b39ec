"""The clock in the journal: a record says from time to time that time has gone on, for streams that are silent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from ostinato.server.catalog.definitions import Body
from ostinato.server.changes.texts import stream_in
from ostinato.server.journal import Journal, JournalError

_TICK_SECONDS: Final = 0.5
"""What waits for time to pass waits so much longer at most. A busy stream says nothing of the others, so there are
ticks whatever comes in."""
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
            lull = journal.durable == seen and seen != told
            if self._runs and (lull or time.monotonic() - told_at >= _TICK_SECONDS):
                # where the disk is full it is tried again when the next one is due
                with contextlib.suppress(JournalError):
                    await asyncio.wrap_future(journal.tick())
                told, told_at = journal.durable, time.monotonic()
            seen = journal.durable
