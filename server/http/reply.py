"""What a handler answers, and how it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import msgspec

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Scope = MutableMapping[str, Any]
Header = tuple[bytes, bytes]

encode = msgspec.json.Encoder().encode
JSON_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of known length. `content` is a Struct, which becomes JSON, or bytes as they are."""

    content: msgspec.Struct | bytes | None = None
    status: int = 200
    content_type: str = "application/json"
    etag: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """What is sent."""
        if self.content is None:
            return b""
        return self.content if isinstance(self.content, bytes) else encode(self.content)


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that goes on for as long as somebody listens."""

    frames: AbstractAsyncContextManager[AsyncIterator[bytes]]
    content_type: str = "text/event-stream"


def headers_of(reply: Reply, length: int) -> list[Header]:
    """The headers of an answer."""
    found: list[Header] = [(b"content-length", str(length).encode())]
    if reply.content is not None:
        found.append((b"content-type", reply.content_type.encode()))
    found += JSON_HEADERS[1:]
    if reply.etag is not None:
        found.append((b"etag", f'"{reply.etag}"'.encode()))
    found += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in reply.headers.items()]
    return found
