"""Where matches go: what a webhook, a topic and a file have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ostinato.server.matches import Match


class Target(Protocol):
    """Belongs to one output, which calls it from one task.

    Attributes:
        batch_rows, batch_bytes: most that is delivered at a time.
        has_own_cursor: it keeps the cursor together with what was delivered, so that nothing comes twice.
    """

    batch_rows: int
    batch_bytes: int
    has_own_cursor: bool

    async def open(self) -> int | None:
        """Begin, or begin again after an error. Returns the target's own cursor, None where it has none.

        Raises RetryError, BrokenError.
        """

    async def deliver(self, matches: Sequence[Match], cursor: int, /) -> None:
        """Bring out these, one at least; a cursor of its own moves to `cursor` with them.

        Raises:
            RetryError: it is to be opened and tried again later.
            RefusedError: it will never take them.
            BrokenError: somebody has to look after it.
        """

    async def close(self) -> None:
        """End; may be opened again. Raises nothing."""
