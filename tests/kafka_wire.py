"""As much of Kafka's protocol as a proxy has to understand: what a request is, and answers that only say an error.

The structures are aiokafka's, whose clients are the ones that are struck.
"""

from __future__ import annotations

import importlib
import pkgutil
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from io import BytesIO
from typing import Any


class Api(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


TRANSACTIONAL = (
    Api.INIT_PRODUCER_ID,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request on its way.

    Attributes:
        api: its number, an `Api` where that has a name for it.
        frame: all of it but for its length.
    """

    api: int
    version: int
    correlation: int
    client: str
    frame: bytes

    def decoded(self) -> dict[str, Any]:
        """Its fields, by aiokafka's names."""
        fields: dict[str, Any] = self._body().to_object()
        return fields

    def failed(self, code: int) -> bytes:
        """The answer that says this error code, for all of its topics and partitions where it has some."""
        kind = _kind(self.api, self.version)
        answer = kind.RESPONSE_TYPE
        values = _values(answer.SCHEMA, code, self.decoded().get("topics") or [])
        head = struct.pack(">i", self.correlation) + (b"\0" if kind.FLEXIBLE_VERSION else b"")
        return head + bytes(answer.SCHEMA.encode(values))

    def codes(self, answer: bytes) -> list[int]:
        """The error codes of its answer, one for each partition where there are partitions."""
        kind = _kind(self.api, self.version)
        body = kind.RESPONSE_TYPE.decode(BytesIO(answer[5 if kind.FLEXIBLE_VERSION else 4 :]))
        return _codes(body.to_object())

    def _body(self) -> Any:
        kind = _kind(self.api, self.version)
        # api, version, correlation, client
        length = struct.unpack_from(">h", self.frame, 8)[0]
        at = 10 + max(length, 0) + (1 if kind.FLEXIBLE_VERSION else 0)
        return kind.decode(BytesIO(self.frame[at:]))


def parse(frame: bytes) -> Request:
    api, version, correlation, length = struct.unpack_from(">hhih", frame)
    client = frame[10 : 10 + max(length, 0)].decode()
    return Request(_named(api), version, correlation, client, frame)


def _named(api: int) -> int:
    try:
        return Api(api)
    except ValueError:
        return api


@cache
def _kind(api: int, version: int) -> Any:
    """aiokafka's structure of a request."""
    import aiokafka.protocol
    from aiokafka.protocol.api import RequestStruct

    for module in pkgutil.iter_modules(aiokafka.protocol.__path__, "aiokafka.protocol."):
        importlib.import_module(module.name)
    for kind in _below(RequestStruct):
        if (api, version) == (kind.API_KEY, kind.API_VERSION):
            return kind
    raise LookupError(f"aiokafka has no request {api} of version {version}: the proxy cannot take it apart")


def _below(kind: Any) -> list[Any]:
    return [each for direct in kind.__subclasses__() for each in (direct, *_below(direct))]


def _values(schema: Any, code: int, topics: list[Any], within: dict[str, Any] | None = None) -> list[Any]:
    """Values for a structure of an answer: the code where a code belongs, nothing else where anything may be."""
    from aiokafka.protocol.types import Array, Boolean, Bytes, Schema, String

    found: list[Any] = []
    for name, kind in zip(schema.names, schema.fields, strict=True):
        if name == "error_code":
            found.append(code)
        elif isinstance(kind, Array) and isinstance(kind.array_of, Schema):
            found.append([_values(kind.array_of, code, [], each) for each in _entries(kind.array_of, topics, within)])
        elif within is not None and name in within:
            found.append(within[name])
        elif isinstance(kind, Array):
            found.append([])
        elif isinstance(kind, String):
            found.append("")
        elif kind is Bytes:
            found.append(b"")
        elif kind is Boolean:
            found.append(False)
        else:
            found.append(0 if name == "throttle_time_ms" else -1)
    return found


def _entries(schema: Any, topics: list[Any], within: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What the entries of an array are about: the topics of the request, or the partitions of one of them."""
    if within is None and "topic" in schema.names:
        return [dict(topic) for topic in topics]
    partitions = (within or {}).get("partitions")
    if partitions is None or "partition" not in schema.names:
        return []
    return [{"partition": each["partition"] if isinstance(each, dict) else each} for each in partitions]


def _codes(answer: Any) -> list[int]:
    if isinstance(answer, dict):
        own = [answer["error_code"]] if "error_code" in answer else []
        return own + [code for value in answer.values() for code in _codes(value)]
    if isinstance(answer, list):
        return [code for each in answer for code in _codes(each)]
    return []
