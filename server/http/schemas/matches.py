"""Matches, and where they go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ostinato.server.delivery.settings import OutputSettings
from ostinato.server.delivery.status import OutputStatus
from ostinato.server.http.schemas.common import Limit, PageQuery

RowKind = Literal["match", "timeout", "late", "dead letter"]


class MatchFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows of the match log, after which number; `after` = -1 follows from now on."""

    stream: str | None = None
    pattern: str | None = None
    kind: RowKind | None = None
    after: Annotated[int, msgspec.Meta(ge=-1)] | None = None


class MatchesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows of the match log: those with a number above `after`."""

    stream: str | None = None
    pattern: str | None = None
    kind: RowKind | None = None
    limit: Limit = 100
    after: Annotated[int, msgspec.Meta(ge=0, description="`next` of the page before: a number of a match")] = 0


class MatchInfo(msgspec.Struct, frozen=True):
    """A row of the match log, as SSE, WebSocket and outputs have it too.

    `id` is the same after any crash; `time` is event time, `at` when what completed it came in (epoch ms); `row` is
    what `emit` says. Late events and dead letters have no pattern ("") and version 0.
    """

    id: str
    seq: int
    pattern: str
    version: int
    stream: str
    kind: RowKind
    time: int
    at: int
    row: dict[str, Any]


class MatchPage(msgspec.Struct, frozen=True):
    """Matches in the order of their numbers; `next` is there also at the end: what comes later stands behind it."""

    items: list[MatchInfo]
    next: str | None
    first_seq: int
    last_seq: int


class DeadLettersQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which dead letters."""

    stream: str | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """What came and could not be used, and why."""

    seq: int
    stream: str
    at_ms: int
    position: int
    reason: str
    row: str


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Dead letters in the order in which they came."""

    items: list[DeadLetter]
    next: str | None


class OutputInfo(msgspec.Struct, frozen=True):
    """An output."""

    name: str
    etag: str
    settings: OutputSettings
    created_ms: int
    changed_ms: int
    changed_by: str
    status: OutputStatus | None = None


class OutputPage(msgspec.Struct, frozen=True):
    """Outputs by name."""

    items: list[OutputInfo]
    next: str | None


class FollowFrame(msgspec.Struct, frozen=True):
    """What a WebSocket or SSE client gets instead of a match where some were lost to it: `from_seq` to `to_seq`."""

    lost: dict[str, Any]
