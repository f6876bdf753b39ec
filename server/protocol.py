"""What is said over the socket of a running job: one JSON object on a line each way.

A request is ``{"do": "status"}``, ``{"do": "savepoint", "target": ADDRESS or null}``, ``{"do": "stop", "target": ...,
"drain": true}`` or ``{"do": "cancel"}``. The answer is ``{"ok": true, "result": ...}`` or ``{"ok": false, "error":
"..."}``; after an answer to ``stop`` or ``cancel`` the connection closes when the job is gone.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

MAX_REQUEST_BYTES = 1 << 16
"""A request is a few words and a path."""

Verb: TypeAlias = Literal["status", "savepoint", "stop", "cancel"]


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request."""

    do: Verb
    target: str | None = None
    drain: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What came of it: `result` where it went well, `error` where not."""

    ok: bool
    result: Any = None
    error: str | None = None


def line(message: Ask | Answer) -> bytes:
    return msgspec.json.encode(message) + b"\n"
