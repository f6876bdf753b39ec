"""Streams, and events that come into them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class FieldInfo(msgspec.Struct, frozen=True):
    """A column of a stream; `role` says what else it is."""

    name: str
    type: str
    role: Literal["key", "time", ""] = ""
    nullable: bool = False


class LaneInfo(msgspec.Struct, frozen=True):
    """A split of a stream with a clock of its own: "" is what comes by HTTP, others as `kafka:TOPIC/3`."""

    lane: str
    watermark_ms: int | None
    idle: bool
    rows: int
    lag: int | None = None
    error: str | None = None


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream. `source`: "http", "kafka" or "file"; `holds_back`: the lane its watermark waits for."""

    name: str
    text: str
    etag: str
    source: str
    fields: list[FieldInfo]
    created_ms: int
    changed_ms: int
    changed_by: str
    used_by: list[str] = []
    rows: int = 0
    late: int = 0
    dead_letters: int = 0
    watermark_ms: int | None = None
    holds_back: str | None = None
    lanes: list[LaneInfo] = []


class StreamPage(msgspec.Struct, frozen=True):
    """Streams by name."""

    items: list[StreamInfo]
    next: str | None


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done with events that do not fit the stream: refuse all, or take the others and keep these apart."""

    bad: Literal["refuse", "dead-letter"] = "refuse"


class EventsReceipt(msgspec.Struct, frozen=True):
    """The events are durable. `next` is the position in the journal behind them; `duplicate`: they were so before."""

    stream: str
    accepted: int
    dead_letters: int
    position: int
    next: int
    duplicate: bool


class EventsFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frame from a WebSocket client: events with a number that the answer repeats, and an idempotency key."""

    events: list[msgspec.Raw]
    id: int | None = None
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None


class EventsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a frame: a receipt, or what is wrong; frames are answered in their order."""

    id: int | None = None
    receipt: EventsReceipt | None = None
    problem: msgspec.Raw | None = None
