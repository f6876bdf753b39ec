"""What a backtest's process is told, and what it says, as plain values."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ostinato.server.http.schemas.jobs import BacktestPattern
from ostinato.server.live.generation import Generation


class Input(msgspec.Struct, frozen=True):
    """A source: a connector's kind, target, format and options."""

    kind: Literal["file", "kafka"]
    target: str
    format: str | None = None
    options: dict[str, Any] = {}


class BacktestSpec(msgspec.Struct, frozen=True):
    """A backtest.

    Attributes:
        here: the patterns under test, with all that they need.
        live: the versions that count, with all that they need; None: nothing is compared.
        patterns: the patterns under test, by name.
        journal: the folder of the journal to read; None: `inputs` are read.
        start, until: positions in the journal.
        inputs: by stream.
        from_ms, to_ms: see `BacktestRequest`.
        bucket_ms: None: by the span.
    """

    here: Generation
    live: Generation | None
    patterns: tuple[str, ...]
    journal: str | None = None
    start: int = 0
    until: int = 0
    inputs: dict[str, Input] = {}
    from_ms: int | None = None
    to_ms: int | None = None
    bucket_ms: int | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far it is: `part` from 0 to 1; `seconds`: how long it has been at work, but for compiling."""

    part: float
    events: int
    seconds: float


class Result(msgspec.Struct, frozen=True, tag="result"):
    """All of it is done."""

    events: int
    seconds: float
    bucket_ms: int
    late: int
    bad: int
    patterns: list[BacktestPattern]
    notes: list[str] = []


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """It cannot be done."""

    error: str


Said = Progress | Result | Failure
