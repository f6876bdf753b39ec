"""Events that came in and cannot be used go through the journal too: they are as durable as the others, and numbered
among the matches by the live worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from ostinato.cep.connectors.base import BadRecord
from ostinato.server.ingest.gate import Bad
from ostinato.server.journal import Journal

DEAD_LETTERS: Final = "dead-letters"
"""The stream of what could not be used, in the journal as in the log of matches; no declared one can be called so."""
_ROOM_SECONDS: Final = 5.0
_ROW_BYTES: Final = 64 << 10
"""More of an event is not kept."""


class DeadLetters:
    """Puts them into the journal. Raises JournalError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def add(self, stream: str, bad: Sequence[Bad], key: bytes | None = None) -> None:
        """Durable when it returns; `key`: what came with it before is not taken again."""
        data = letters(stream, bad)
        await self._journal.append_async(
            DEAD_LETTERS, data, len(bad), key=None if key is None else key + b"/dead-letters"
        )

    def add_records(self, stream: str, bad: Sequence[BadRecord]) -> None:
        """What a feeder read; for its thread, which waits until it is durable."""
        found = [Bad(record.line, f"{record.source}: {record.reason}", record.raw) for record in bad]
        self._journal.append(DEAD_LETTERS, letters(stream, found), len(found), wait=_ROOM_SECONDS).result()


def letters(stream: str, bad: Sequence[Bad]) -> bytes:
    """A JSON object a line: ``{"stream", "reason", "row"}``."""
    return b"".join(
        orjson.dumps({"stream": stream, "reason": each.reason, "row": each.raw[:_ROW_BYTES].decode("utf-8", "replace")})
        + b"\n"
        for each in bad
    )
