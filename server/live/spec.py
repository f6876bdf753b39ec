"""What the live worker's process is told when it begins, as plain values."""

from __future__ import annotations

from typing import Any

import msgspec


class WorkerSpec(msgspec.Struct, frozen=True):
    """`data` is the server's folder, `snapshots` the address of their store, `log` the options of the match log,
    `server` the server's id."""

    data: str
    snapshots: str
    interval_ms: int
    log: dict[str, Any] = {}
    server: str = ""
