"""How an output fares."""

from __future__ import annotations

from typing import Literal

import msgspec


class OutputStatus(msgspec.Struct, frozen=True):
    """`cursor`: the number of the last match that it has done with; `lag`: how many rows of the log are behind that;
    `delivered`, `dead_letters`, `lost` (gone from the log before they could be sent) and `retries`: since the server
    began; `attempts`: so often what comes next has been tried in vain; times are epoch ms."""

    state: Literal["running", "retrying", "paused", "failed", "stopped"]
    cursor: int
    lag: int
    delivered: int
    attempts: int = 0
    lost: int = 0
    dead_letters: int = 0
    retries: int = 0
    error: str | None = None
    next_attempt_ms: int | None = None
    last_delivery_ms: int | None = None
