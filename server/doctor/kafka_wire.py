"""Requests to Kafka that aiokafka has none for: features, who may do what, the newest record, open transactions.

All of them only look. Layouts are those of Kafka's message definitions (``clients/src/main/resources/common/message``).
"""

# aiokafka has no types, and these are its classes with other layouts
# mypy: disable-error-code="misc"
from __future__ import annotations

from io import BytesIO
from typing import Any, Final

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

LATEST: Final = -1
EARLIEST: Final = -2
NEWEST_TIME: Final = -3
"""What ListOffsets is asked for: the end, the begin, and the record with the largest timestamp."""

_TAGS: Final = ("tags", TaggedFields)
_FINALIZED: Final = 2
"""The tag under which ApiVersions tells the features that are in force."""


class _FeaturesAnswer(Response):
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("api_key", Int16), ("least", Int16), ("most", Int16), _TAGS)),
        ("throttle_ms", Int32),
        _TAGS,
    )


class _FeaturesStruct(RequestStruct):
    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _FeaturesAnswer
    SCHEMA = Schema(("software", CompactString("utf-8")), ("version", CompactString("utf-8")), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        # the one answer whose header has no tags: whoever asks does not know yet what the broker speaks
        return ResponseHeader_v0.decode(read_buffer)


class FeaturesRequest(Request[_FeaturesStruct]):
    """ApiVersions v3: the features of the cluster (Kafka 2.4)."""

    API_KEY = 18

    def build(self, request_struct_class: type[_FeaturesStruct]) -> _FeaturesStruct:
        return request_struct_class("ostinato-doctor", "1", {})


def finalized_features(answer: Any) -> dict[str, int]:
    """``{"metadata.version": 27, "transaction.version": 2}``"""
    raw = answer.tags.get(_FINALIZED)
    if raw is None:
        return {}
    layout = CompactArray(("name", CompactString("utf-8")), ("most", Int16), ("least", Int16), _TAGS)
    return {name: most for name, most, _, _ in layout.decode(BytesIO(raw))}


class _TopicsAnswer(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        (
            "brokers",
            Array(("node", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", String("utf-8")),
                ("internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("number", Int32),
                        ("leader", Int32),
                        ("epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("operations", Int32),
    )


class _TopicsStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicsAnswer
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))), ("create", Boolean), ("of_cluster", Boolean), ("of_topics", Boolean)
    )


class TopicsRequest(Request[_TopicsStruct]):
    """Metadata v8 with what we may do (Kafka 2.3). Creates no topic. `topics` None: all."""

    API_KEY = 3

    def __init__(self, topics: list[str] | None) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_TopicsStruct]) -> _TopicsStruct:
        return request_struct_class(self._topics, False, True, True)


class _NewestAnswer(Response):
    API_KEY = 2
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("number", Int32),
                        ("error_code", Int16),
                        ("timestamp", Int64),
                        ("offset", Int64),
                        ("epoch", Int32),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _NewestStruct(RequestStruct):
    API_KEY = 2
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _NewestAnswer
    SCHEMA = Schema(
        ("replica", Int32),
        ("isolation", Int8),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partitions", CompactArray(("number", Int32), ("epoch", Int32), ("timestamp", Int64), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class NewestRequest(Request[_NewestStruct]):
    """ListOffsets v7: the record with the largest timestamp of each partition (Kafka 3.0)."""

    API_KEY = 2

    def __init__(self, topics: dict[str, list[int]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_NewestStruct]) -> _NewestStruct:
        asked: list[tuple[str, list[Any], Any]] = [
            (name, [(p, -1, NEWEST_TIME, {}) for p in numbers], {}) for name, numbers in self._topics.items()
        ]
        return request_struct_class(-1, 0, asked, {})


class _ProducersAnswer(Response):
    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("number", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("epoch", Int32),
                                ("sequence", Int32),
                                ("last_ms", Int64),
                                ("coordinator_epoch", Int32),
                                ("start_offset", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _ProducersStruct(RequestStruct):
    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ProducersAnswer
    SCHEMA = Schema(
        ("topics", CompactArray(("name", CompactString("utf-8")), ("partitions", CompactArray(Int32)), _TAGS)), _TAGS
    )


class ProducersRequest(Request[_ProducersStruct]):
    """DescribeProducers: who has a transaction open in which partition (Kafka 2.8). For the partition's leader."""

    API_KEY = 61

    def __init__(self, topics: dict[str, list[int]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_ProducersStruct]) -> _ProducersStruct:
        return request_struct_class([(name, numbers, {}) for name, numbers in self._topics.items()], {})


class _ListedAnswer(Response):
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("error_code", Int16),
        ("unknown_states", CompactArray(CompactString("utf-8"))),
        (
            "transactions",
            CompactArray(
                ("id", CompactString("utf-8")), ("producer_id", Int64), ("state", CompactString("utf-8")), _TAGS
            ),
        ),
        _TAGS,
    )


class _ListedStruct(RequestStruct):
    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ListedAnswer
    SCHEMA = Schema(("states", CompactArray(CompactString("utf-8"))), ("producers", CompactArray(Int64)), _TAGS)


class ListedRequest(Request[_ListedStruct]):
    """ListTransactions: the names of the transactions of some producers, as far as this broker coordinates them."""

    API_KEY = 66

    def __init__(self, producers: list[int]) -> None:
        self._producers = producers

    def build(self, request_struct_class: type[_ListedStruct]) -> _ListedStruct:
        return request_struct_class([], self._producers, {})


class _TransactionsAnswer(Response):
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("started_ms", Int64),
                ("producer_id", Int64),
                ("epoch", Int16),
                (
                    "topics",
                    CompactArray(("name", CompactString("utf-8")), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _TransactionsStruct(RequestStruct):
    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TransactionsAnswer
    SCHEMA = Schema(("ids", CompactArray(CompactString("utf-8"))), _TAGS)


class TransactionsRequest(Request[_TransactionsStruct]):
    """DescribeTransactions: since when a transaction is open, and how long it may be. For its coordinator."""

    API_KEY = 65

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids

    def build(self, request_struct_class: type[_TransactionsStruct]) -> _TransactionsStruct:
        return request_struct_class(self._ids, {})
