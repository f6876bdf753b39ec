"""Matches, and where they go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ostinato.server.http.schemas.common import Limit, Name, PageQuery

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
    """A row of the match log. `id` is the same after any crash; `time_ms` is event time, `at_ms` when what completed
    it came in; `value` is what `emit` says."""

    seq: int
    id: str
    stream: str
    kind: RowKind
    pattern: str
    version: int
    time_ms: int
    at_ms: int
    position: int
    value: msgspec.Raw


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


class OutputBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Which rows go out; empty lists are all. `start`: with the oldest match that is kept, or with the next."""

    streams: list[str] = []
    patterns: list[str] = []
    kinds: list[RowKind] = msgspec.field(default_factory=lambda: ["match"])
    start: Literal["earliest", "latest"] = "latest"
    paused: bool = False


class WebhookOutput(OutputBase, frozen=True, tag="webhook", kw_only=True):
    """Each match is POSTed. `secret` names one of `webhooks.secrets`, with which the request is signed."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://", max_length=2000)]
    secret: Name | None = None
    headers: dict[str, str] = {}
    batch: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class KafkaOutput(OutputBase, frozen=True, tag="kafka", kw_only=True):
    """Matches go to a topic, of the configuration's Kafka where no other is named; the key is a field of the match."""

    topic: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    key: str | None = None
    bootstrap_servers: str | None = None


class FileOutput(OutputBase, frozen=True, tag="file", kw_only=True):
    """Matches are appended to a file as NDJSON, within the folders of `files.write`."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


OutputSettings = WebhookOutput | KafkaOutput | FileOutput


class OutputStatus(msgspec.Struct, frozen=True):
    """How an output fares. `cursor`: the number of the last match that arrived; `lag`: how many wait behind it;
    `lost`: how many were gone from the log before they could be sent."""

    state: Literal["running", "retrying", "paused", "failed"]
    cursor: int
    lag: int
    delivered: int
    attempts: int = 0
    lost: int = 0
    error: str | None = None
    next_attempt_ms: int | None = None
    last_delivery_ms: int | None = None


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
